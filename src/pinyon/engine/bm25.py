"""BM25 as an embedding: texts to sparse vectors whose dot products rank as BM25 would. No weights, no neural network.

A passage carries how often each term stands in it, saturated and weighed by its length; a query carries how rare each
term is in English at large. The score of a passage is then the sum over the query's terms of

    importance(term) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average_length))

Neither side knows the collection, so two things stand still that a search engine would count: the average length, and
the share of passages that hold a term, whose negative logarithm is the importance. It comes from a table in the model's
folder, made of word frequencies by tools/bm25_background.py.

A term's index is the 32-bit MurmurHash3 (x86, seed 0) of its UTF-8 bytes, unsigned.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import mmh3
import msgspec
import numpy as np
import Stemmer
from safetensors import SafetensorError
from safetensors.numpy import load

from pinyon.engine.loader import ModelError
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.types import FloatArray, IndexArray, Input, IntArray, SparseEmbedding, Truncate

# Of a text, where nobody says how many.
MAX_WORDS = 512

# What a model of this kind takes in memory: its table, and the words that it keeps.
MEMORY_BYTES = 32_000_000

# Letters and digits of any script, with apostrophes inside; what is longer than any word is split.
_WORD = re.compile(r"[^\W_]{1,64}(?:'[^\W_]{1,64}){0,2}")
_APOSTROPHES = str.maketrans("\u2019\u02bc\uff07", "'''")
# Characters that are folded at once.
_PIECE = 1 << 15
# Words whose terms are kept in memory. It is emptied when it is full: the words of a language soon fill it again.
_KEPT_WORDS = 1 << 17

# A term and its hash; None for a stop word.
Term = tuple[int, str] | None


class Config(msgspec.Struct, frozen=True):
    """A BM25 folder's `config.json`."""

    model_type: str
    stemmer: str  # of the Snowball project
    k1: float  # how soon another occurrence adds nothing
    b: float  # how much a long passage is held against it: 0 not at all, 1 in proportion
    average_length: float  # terms of a passage, stop words left out


def is_bm25(folder: Path) -> bool:
    """Whether a folder is of this kind, by its `config.json`."""
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError):
        return False
    return config.get("model_type") == "bm25"


class Analyser:
    """Text to terms: Unicode and case folded, stop words left out, endings cut off. Several threads may use one."""

    def __init__(self, stemmer: str, stop_words: Iterable[str]) -> None:
        """Raises KeyError for a stemmer that there is none of."""
        self._stemmer = Stemmer.Stemmer(stemmer)
        self._stemming = threading.Lock()  # the stemmer is not to be shared
        self._stop_words = frozenset(stop_words)
        self._terms: dict[str, Term] = {}

    def words(self, text: str, max_words: int, truncate: Truncate) -> list[str]:
        """The folded words that are kept of a text, stop words too, at most `max_words`, or 1 more if `truncate` is
        NONE and there are more."""
        found = chain.from_iterable(_WORD.findall(_folded(piece)) for piece in _pieces(text))
        if truncate is Truncate.START:
            return list(deque(found, max_words))
        return list(islice(found, max_words + (truncate is Truncate.NONE)))

    def term(self, word: str) -> Term:
        """What a folded word counts as."""
        try:
            return self._terms[word]
        except KeyError:
            return self._look_up(word)

    def _look_up(self, word: str) -> Term:
        term: Term = None
        if word not in self._stop_words:
            with self._stemming:
                stem: str = self._stemmer.stemWord(word)
            term = mmh3.hash(stem, signed=False), stem
        if len(self._terms) >= _KEPT_WORDS:
            self._terms.clear()
        self._terms[word] = term
        return term


def _pieces(text: str) -> Iterator[str]:
    """A text cut at spaces: what is not read of a text of megabytes is not folded either."""
    start = 0
    while start < len(text):
        space = text.find(" ", start + _PIECE, start + 2 * _PIECE)
        end = start + 2 * _PIECE if space < 0 else space
        yield text[start:end]
        start = end


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Compatibility forms may have a case, and what was folded may have to be composed again.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_APOSTROPHES)


@dataclass(frozen=True, slots=True)
class _Counted:
    """The terms of several texts: hash -> (how often, the term), and how many words each text had."""

    terms: list[dict[int, tuple[int, str]]]
    words: IntArray  # [texts]


class Bm25:
    """A BM25 folder, ready to embed. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelError."""
        path = folder / "config.json"
        try:
            self.config = msgspec.json.decode(path.read_bytes(), type=Config)
            path = folder / "stop_words.txt"
            self.analyser = Analyser(self.config.stemmer, path.read_text("utf-8").split())
            path = folder / "model.safetensors"
            tensors = load(path.read_bytes())
            hashes, importance = tensors["hashes"], tensors["importance"]
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from None
        except (msgspec.MsgspecError, SafetensorError, KeyError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: not what a BM25 model has there: {error}") from None
        if hashes.dtype != np.uint32 or hashes.ndim != 1 or importance.shape != hashes.shape or not hashes.size:
            raise ModelError(f"{path}: must hold hashes, uint32 [terms], and importance, [terms]")
        self._hashes: IndexArray = hashes  # rising
        self._importance: FloatArray = importance.astype(np.float32)  # [terms]
        self._highest = self._importance.max()

    def embed(
        self,
        inputs: Sequence[Input],
        *,
        is_query: bool,
        max_tokens: int,
        truncate: Truncate,
        return_tokens: bool = False,
    ) -> tuple[list[SparseEmbedding], IntArray]:
        """The embeddings of texts, and how many words each had, [texts], stop words too, after truncation.

        Raises InputTooLong and InvalidRequest at ("inputs", position).
        """
        counted = self._count(inputs, max_tokens, truncate)
        sizes = [len(terms) for terms in counted.terms]  # [texts]
        total = sum(sizes)
        # All texts end to end: numpy costs the same for one as for a hundred.
        ordered = [sorted(terms.items()) for terms in counted.terms]
        flat = list(chain.from_iterable(ordered))
        indices = np.fromiter((index for index, _ in flat), np.uint32, total)
        frequencies = np.fromiter((count for _, (count, _) in flat), np.float32, total)
        if is_query:
            values = frequencies * self.importance(indices)
        else:
            lengths = [sum(count for count, _ in terms.values()) for terms in counted.terms]
            values = self._saturated(frequencies, np.repeat(np.array(lengths, np.float32), sizes))
        embeddings, start = [], 0
        for items, size in zip(ordered, sizes, strict=True):
            end = start + size
            tokens = [term for _, (_, term) in items] if return_tokens else None
            embeddings.append(SparseEmbedding(indices[start:end], values[start:end], tokens))
            start = end
        return embeddings, counted.words

    def close(self) -> None:
        """There is nothing to finish: nobody's texts wait here."""

    def importance(self, indices: IndexArray) -> FloatArray:
        """Of terms by their hashes: [terms] -> [terms]. One that the table does not have is the most important."""
        places = np.minimum(np.searchsorted(self._hashes, indices), self._hashes.size - 1)
        return np.where(self._hashes[places] == indices, self._importance[places], self._highest)

    def _saturated(self, frequencies: FloatArray, lengths: FloatArray) -> FloatArray:
        """[terms], and the length of the passage of each, to weights."""
        k1, b = np.float32(self.config.k1), np.float32(self.config.b)
        norms = k1 * (1 - b + b * lengths / np.float32(self.config.average_length))
        return np.asarray(frequencies * (k1 + 1) / (frequencies + norms), np.float32)

    def _count(self, inputs: Sequence[Input], max_tokens: int, truncate: Truncate) -> _Counted:
        texts: list[dict[int, tuple[int, str]]] = []
        counts = np.empty(len(inputs), np.int32)
        term_of = self.analyser.term
        for position, text in enumerate(inputs):
            if not isinstance(text, str):
                raise InvalidRequest("must be a text: this model has no token ids", ("inputs", position))
            words = self.analyser.words(text, max_tokens, truncate)
            if len(words) > max_tokens:
                if truncate is Truncate.NONE:
                    raise InputTooLong(len(words), max_tokens, ("inputs", position))
                words = words[:max_tokens]
            counts[position] = len(words)
            terms: dict[int, tuple[int, str]] = {}
            for word, count in Counter(words).items():
                term = term_of(word)
                if term is None:
                    continue
                index, stem = term
                known = terms.get(index)
                terms[index] = (count, stem) if known is None else (known[0] + count, known[1])
            texts.append(terms)
        return _Counted(texts, counts)
