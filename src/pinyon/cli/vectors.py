"""Writing embeddings for `pinyon embed`: JSONL, .npy or Parquet, chunk by chunk; a file is in its place when whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

import orjson

from pinyon.cli.settings import Failure
from pinyon.cli.texts import Text

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pinyon.types import EmbedResult

OutputFormat = Literal["jsonl", "npy", "parquet"]

# Fields that the output has of its own; an input's field of the same name gives way.
OWN_FIELDS = ("embedding", "tokens")


class VectorWriter(Protocol):
    """Takes rows in the order of the input."""

    def write(self, texts: Sequence[Text], result: EmbedResult) -> None: ...

    def close(self) -> None:
        """Writes what can only be written at the end. The file stays open."""
        ...


class Columns:
    """The carried fields and what kinds of values each has, so that Parquet's columns can be typed."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}

    def see(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            self._kinds.setdefault(name, set()).add(_kind(value))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._kinds if name not in OWN_FIELDS)

    def type_of(self, name: str) -> pa.DataType:
        """Of its values' type if they have one in common, else a string: their JSON."""
        import pyarrow as pa

        kinds = self._kinds[name] - {"null"}
        if kinds == {"integer"}:
            return pa.int64()
        if kinds and kinds <= {"integer", "number"}:
            return pa.float64()
        return pa.bool_() if kinds == {"boolean"} else pa.string()

    def is_json(self, name: str) -> bool:
        kinds = self._kinds[name] - {"null"}
        return bool(kinds) and kinds not in ({"string"}, {"boolean"}) and not kinds <= {"integer", "number"}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "number"
    kinds = {type(None): "null", float: "number", str: "string"}
    return kinds.get(type(value), "other")


class JsonlWriter:
    """An object a line: the carried fields, `embedding`, `tokens`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, texts: Sequence[Text], result: EmbedResult) -> None:
        for text, vector, tokens in zip(texts, result.vectors, result.tokens, strict=True):
            row = text.fields | {"embedding": vector, "tokens": int(tokens)}
            self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.flush()


class NpyWriter:
    """One array, [rows, dimension]. Its header has room for any number of rows, and is written again at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rows = 0
        self._dimension = 0
        self._dtype: Any = None

    def write(self, texts: Sequence[Text], result: EmbedResult) -> None:
        if self._dtype is None:
            self._dimension, self._dtype = result.vectors.shape[1], result.vectors.dtype
            self._write_header()
        self._rows += len(result.vectors)
        self._file.write(result.vectors.tobytes())

    def _write_header(self) -> None:
        from numpy.lib import format as npy

        shape = (self._rows, self._dimension)
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)

    def close(self) -> None:
        if self._dtype is None:
            return
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)
        self._file.flush()


class ParquetWriter:
    """The carried fields as columns, `embedding` as a fixed-size list, `tokens`. A row group a chunk."""

    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        self._file = file
        self._columns = columns
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, texts: Sequence[Text], result: EmbedResult) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = pa.array(result.vectors.reshape(-1))
        embeddings = pa.FixedSizeListArray.from_arrays(flat, result.vectors.shape[1])
        if self._writer is None:
            for text in texts:  # when the input could not be read before, its first chunk says what fields there are
                self._columns.see(text.fields)
            fields = [pa.field(name, self._columns.type_of(name)) for name in self._columns]
            fields += [pa.field("embedding", embeddings.type), pa.field("tokens", pa.int32())]
            self._schema = pa.schema(fields)
            self._writer = pq.ParquetWriter(self._file, self._schema)
        assert self._schema is not None
        for text in texts:
            if new := text.fields.keys() - set(self._schema.names):
                raise Failure(
                    f"Field {min(new)!r} of the text in line {text.line} was not in those before it: "
                    "read the input from a file, or write JSONL"
                )
        carried = [
            self._carried(field.name, field.type, texts) for field in self._schema if field.name not in OWN_FIELDS
        ]
        arrays = [*carried, embeddings, pa.array(result.tokens, pa.int32())]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _carried(self, name: str, column: pa.DataType, texts: Sequence[Text]) -> Any:
        import pyarrow as pa

        values = [text.fields.get(name) for text in texts]
        if self._columns.is_json(name):
            values = [None if value is None else orjson.dumps(value).decode() for value in values]
        elif column == pa.float64():  # arrow takes no integer that a double cannot hold exactly
            values = [float(value) if type(value) is int else value for value in values]
        try:
            return pa.array(values, column)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise Failure(
                f"Field {name!r} of a text in lines {texts[0].line} to {texts[-1].line} is not a {column}, as it was "
                "before: read the input from a file, or write JSONL"
            ) from None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def writer(file: BinaryIO, output_format: OutputFormat, columns: Columns) -> VectorWriter:
    if output_format == "jsonl":
        return JsonlWriter(file)
    return NpyWriter(file) if output_format == "npy" else ParquetWriter(file, columns)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is at `path` only after the block ended well; else nothing is, or what was there before.

    Raises Failure if it cannot be written. A device or pipe is written to as it stands.
    """
    target = path.resolve()  # through a link, so that the link stays
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with part.open("xb") as file:
                yield file
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror or error}") from None


def see_all(columns: Columns, texts: Iterable[Text]) -> int:
    """Reads texts through, and gives their number. Raises Failure as reading them does."""
    count = 0
    for text in texts:
        columns.see(text.fields)
        count += 1
    return count
