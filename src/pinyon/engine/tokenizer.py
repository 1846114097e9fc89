"""Text to token ids: special tokens, prompts, truncation. It knows nothing of batches or models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding as TokenizerEncoding
from tokenizers import Tokenizer as HubTokenizer

from pinyon.engine.weights import ModelError
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.types import Input, IntArray, Truncate

# Of a text that is too long, a window of so many characters for each token that is kept is tokenized first.
_WINDOW_CHARACTERS = 16
_SMALLEST_WINDOW = 1024
# A window must have so many tokens more than are kept.
_SPARE_TOKENS = 64
# Texts are tokenized in parts of about so many characters: the library's own results are large while they live.
_PART_CHARACTERS = 1 << 18


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """What runs through a model at once, and what of it is pooled: all of a plain text, each chunk of a document."""

    ids: IntArray  # [tokens]
    spans: IntArray  # [spans, 2], start and end, in order
    types: IntArray | None = None  # [tokens], the segments of a pair's tokens, 0 or 1; None: all 0

    @classmethod
    def whole(cls, ids: IntArray, types: IntArray | None = None) -> TokenSequence:
        return cls(ids, np.array([[0, len(ids)]], dtype=np.int32), types)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class _PairTemplate:
    """The ids around the texts of a pair: before the first, between them, behind the second; and segments of all."""

    before: list[int]
    between: list[int]
    after: list[int]
    types: list[int]  # of: before, first text, between, second text, after

    def fill(self, first: list[int], second: list[int]) -> TokenSequence:
        ids = [*self.before, *first, *self.between, *second, *self.after]
        parts = (self.before, first, self.between, second, self.after)
        types = np.repeat(np.array(self.types, dtype=np.int32), [len(part) for part in parts])
        return TokenSequence.whole(np.array(ids, dtype=np.int32), types)

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class Tokenizer:
    """A folder's `tokenizer.json`. Safe to use from several threads: its settings do not change after it is made."""

    def __init__(self, path: Path, vocabulary: int) -> None:
        """`vocabulary` is the number of rows of the model's embedding table. Raises ModelError."""
        try:
            self._tokenizer = HubTokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path}: not a tokenizer: {error}") from None
        # A folder may come with fixed padding and truncation of its own; batches are made later, limits are the
        # model's.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.path = path
        self._vocabulary = vocabulary
        self.prefix, self.suffix = self._special_tokens()
        self._pair = self._pair_template()
        if len(self._tokenizer.get_vocab(with_added_tokens=True)) > vocabulary:
            raise ModelError(f"{path}: has more tokens than the model's {vocabulary} embeddings")

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """The ids that stand before and after every text."""
        encoding = self._tokenizer.encode("a", add_special_tokens=True)
        own = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
        if not own:
            return [], []
        return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]

    def token(self, index: int) -> str:
        """The token of an id, as its vocabulary has it; "" for an id that has none."""
        return self._tokenizer.id_to_token(index) or ""

    def _pair_template(self) -> _PairTemplate:
        """By what the tokenizer makes of two texts, which its file says."""
        encoding = self._tokenizer.encode("a", "a", add_special_tokens=True)
        places = [[n for n, part in enumerate(encoding.sequence_ids) if part == text] for text in (0, 1)]
        if not all(places):
            return _PairTemplate([], [], [], [0, 0, 0, 1, 1])
        (start, middle), (resume, end) = ((place[0], place[-1] + 1) for place in places)
        ids, types = encoding.ids, encoding.type_ids
        return _PairTemplate(
            ids[:start], ids[middle:resume], ids[end:],
            [types[0], types[start], types[middle - 1 if middle == resume else middle], types[resume], types[-1]],
        )  # fmt: skip

    def encode_pairs(
        self, first: str, seconds: Sequence[str], *, max_tokens: int, truncate: Truncate
    ) -> list[TokenSequence]:
        """Each of `seconds` behind `first`, at most `max_tokens` together, special tokens included.

        Of a pair that is too long, tokens of the longer text are dropped, then of both in turn, as is usual for
        cross-encoders. Raises InputTooLong at ("first",) if it leaves no room at all, else at ("seconds", position).
        """
        room = max_tokens - len(self._pair)
        leading = self._texts([first], max_tokens, truncate)[0]
        pairs: list[TokenSequence] = []
        for part in _parts(seconds):
            texts = [text for text in part if isinstance(text, str)]
            for following in self._texts(texts, max_tokens, truncate):
                total = len(leading) + len(following)
                if total > room and truncate is Truncate.NONE:
                    param = ("first",) if len(leading) >= room else ("seconds", len(pairs))
                    raise InputTooLong(total + len(self._pair), max_tokens, param)
                kept = _shares(len(leading), len(following), room)
                drop_start = truncate is Truncate.START
                one, two = (
                    ids[len(ids) - keep :] if drop_start else ids[:keep]
                    for ids, keep in zip((leading, following), kept, strict=True)
                )
                pairs.append(self._pair.fill(one, two))
        return pairs

    def encode_documents(
        self, documents: Sequence[Sequence[str]], *, separator: int, max_tokens: int
    ) -> list[TokenSequence]:
        """The chunks of each document, the separator between them, with a span for each chunk.

        What stands around every text belongs to the chunk beside it, so that a document of one chunk is a plain text.
        Raises InputTooLong at ("documents", position), InvalidRequest at ("documents", position, chunk).
        """
        sequences = []
        for position, chunks in enumerate(documents):
            ids: list[int] = list(self.prefix)
            spans: list[tuple[int, int]] = []
            start = 0
            for number, chunk in enumerate(self._texts(chunks, max_tokens, Truncate.END)):
                if not chunk:
                    raise InvalidRequest("holds no token of the model", ("documents", position, number))
                if spans:
                    ids.append(separator)
                    start = len(ids)
                ids += chunk
                spans.append((start, len(ids)))
            ids += self.suffix
            spans[-1] = (spans[-1][0], len(ids))
            if len(ids) > max_tokens:
                raise InputTooLong(len(ids), max_tokens, ("documents", position))
            sequences.append(TokenSequence(np.array(ids, dtype=np.int32), np.array(spans, dtype=np.int32)))
        return sequences

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def _texts(self, texts: Sequence[str], max_tokens: int, truncate: Truncate) -> list[list[int]]:
        """Token ids without special tokens, as far as they can be of use."""
        windows = [self._window("", text, max_tokens, truncate) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(windows, add_special_tokens=False)]

    def encode(self, inputs: Sequence[Input], *, prompt: str, max_tokens: int, truncate: Truncate) -> list[IntArray]:
        """Token ids of each input, [tokens], special tokens and prompt included, at most `max_tokens`.

        An input that is token ids already gets the special tokens unless it has them, and no prompt. Raises
        InputTooLong and InvalidRequest at ("inputs", position).
        """
        sequences: list[IntArray] = []
        for part in _parts(inputs):
            windows = [self._window(prompt, text, max_tokens, truncate) for text in part if isinstance(text, str)]
            encoded = iter(self._tokenizer.encode_batch_fast(windows, add_special_tokens=True))
            for given in part:
                position = len(sequences)
                ids = next(encoded).ids if isinstance(given, str) else self._checked_ids(given, position)
                if not ids:
                    raise InvalidRequest("holds no token of the model", ("inputs", position))
                if len(ids) > max_tokens:
                    if truncate is Truncate.NONE:
                        raise InputTooLong(len(ids), max_tokens, ("inputs", position))
                    kept = self._prompt_tokens(given, prompt) if truncate is Truncate.START and prompt else 0
                    ids = self._cut(ids, max_tokens, truncate, kept)
                sequences.append(np.array(ids, dtype=np.int32))
        return sequences

    def _window(self, prompt: str, text: str, max_tokens: int, truncate: Truncate) -> str:
        """What of a text has to be tokenized, behind its prompt: all of it, unless it is far too long.

        A text of megabytes would cost seconds, and some 400 bytes a token, for tokens that are dropped. A window at the
        end that is kept is enough if it alone has more tokens than are kept, with some to spare: how a tokenizer splits
        a text does not depend on what is far away.
        """
        size = max(max_tokens * _WINDOW_CHARACTERS, _SMALLEST_WINDOW)
        while size < len(text):
            window = text[-size:] if truncate is Truncate.START else text[:size]
            (encoding,) = self._tokenizer.encode_batch_fast([window], add_special_tokens=False)
            if len(encoding.ids) >= max_tokens + _SPARE_TOKENS:
                return prompt + window
            size *= 4
        return prompt + text

    def shortened(self, ids: IntArray, max_tokens: int) -> IntArray:
        """A sequence without the last tokens of its text, so that it has at most `max_tokens`."""
        if len(ids) <= max_tokens:
            return ids
        return np.array(self._cut(ids.tolist(), max_tokens, Truncate.END, 0), dtype=np.int32)

    def _cut(self, ids: list[int], max_tokens: int, truncate: Truncate, kept: int) -> list[int]:
        """Drops tokens of the text itself, from its end, or from its start behind the first `kept` (the prompt's)."""
        before = len(self.prefix)
        body = ids[before : len(ids) - len(self.suffix)]
        room = max_tokens - before - len(self.suffix)
        if truncate is Truncate.END:
            body = body[:room]
        else:
            kept = min(kept, room)
            body = body[:kept] + body[len(body) - (room - kept) :]
        return [*self.prefix, *body, *self.suffix]

    def _prompt_tokens(self, text: Input, prompt: str) -> int:
        """How many tokens the prompt is, in front of this text."""
        if not isinstance(text, str):
            return 0
        # The text's beginning decides where the prompt's last token ends; the rest of it does not matter here.
        beginning = prompt + text[:_SMALLEST_WINDOW]
        encoding: TokenizerEncoding = self._tokenizer.encode(beginning, add_special_tokens=False)
        end = len(prompt.rstrip())
        return sum(1 for start, _ in encoding.offsets if start < end)

    def _checked_ids(self, ids: Sequence[int], position: int) -> list[int]:
        wrong = next((token for token in ids if not 0 <= token < self._vocabulary), None)
        if wrong is not None:
            reason = f"holds token {wrong}, and the model's vocabulary has {self._vocabulary} tokens"
            raise InvalidRequest(reason, ("inputs", position))
        body = list(ids)
        before, after = len(self.prefix), len(self.suffix)
        if len(body) >= before + after and body[:before] == self.prefix and body[len(body) - after :] == self.suffix:
            return body
        return [*self.prefix, *body, *self.suffix]


def _parts(inputs: Sequence[Input]) -> Iterator[list[Input]]:
    part: list[Input] = []
    size = 0
    for text in inputs:
        part.append(text)
        size += len(text)
        if size >= _PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens are kept of two texts: the longer one loses first, and both end with half if both are long."""
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
