"""Reading texts for `pinyon embed`: a line or a JSON object each, in bounded memory, every mistake with its line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from pinyon.cli.settings import Failure

InputFormat = Literal["lines", "jsonl"]

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_CHUNK_CHARACTERS = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Text:
    """A text, the line it stands in (from 1), and the fields that go to the output with its embedding."""

    line: int
    text: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """How to read one input. `name` is what errors call it."""

    name: str
    format: InputFormat | None = None  # None: by the name's suffix, else by the first character
    field: str = "text"
    skip_empty: bool = False
    keep_text: bool = False

    def read(self, file: BinaryIO) -> Iterator[Text]:
        """The texts in their order. Raises Failure at the first line that is wrong."""
        numbered = self._lines(file)
        first = next(numbered, None)
        if first is None:
            return
        parse = self._object if self._format(first[1]) == "jsonl" else self._plain
        for number, line in itertools.chain((first,), numbered):
            text = parse(number, line)
            if text is None or not text.text.strip():
                if self.skip_empty:
                    continue
                raise self._wrong(number, "is empty (--skip-empty leaves empty texts out)")
            if "\0" in text.text:
                raise self._wrong(number, "contains the NUL character")
            yield text

    def _lines(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        for number in itertools.count(1):
            try:
                line = file.readline(MAX_LINE_BYTES + 1)
            except OSError as error:
                raise Failure(f"{self.name}: cannot be read: {error.strerror}") from None
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                raise self._wrong(number, f"is longer than {MAX_LINE_BYTES // 2**20} MiB")
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line

    def _format(self, first: bytes) -> InputFormat:
        if self.format is not None:
            return self.format
        suffix = Path(self.name).suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            return "jsonl"
        return "jsonl" if suffix != ".txt" and first.lstrip().startswith(b"{") else "lines"

    def _plain(self, number: int, line: bytes) -> Text:
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise self._wrong(number, "is not UTF-8 text") from None
        return Text(number, text, {"line": number, "text": text} if self.keep_text else {"line": number})

    def _object(self, number: int, line: bytes) -> Text | None:
        if not line.strip():
            return None
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self._wrong(number, f"is not JSON: {error.msg}") from None
        if not isinstance(fields, dict):
            raise self._wrong(number, "is not a JSON object")
        if self.field not in fields:
            raise self._wrong(number, f"has no field {self.field!r} (--field names another)")
        text = fields[self.field] if self.keep_text else fields.pop(self.field)
        if not isinstance(text, str):
            raise self._wrong(number, f"has something other than a string in field {self.field!r}")
        return Text(number, text, fields)

    def _wrong(self, number: int, what: str) -> Failure:
        return Failure(f"{self.name}, line {number}: {what}")


def chunks(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    """Up to `size` texts at a time, fewer where they are very long."""
    chunk: list[Text] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text.text)
        if len(chunk) >= size or characters >= MAX_CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
