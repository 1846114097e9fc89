"""Parts of an archive: records to Parquet and back, every bit of them. Blocking; knows no place and no manifest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pinyon.stores.base import Record, SparseVector

SCHEMA = pa.schema(
    [
        pa.field("namespace", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.float32())),
        pa.field("sparse_indices", pa.list_(pa.uint32())),
        pa.field("sparse_values", pa.list_(pa.float32())),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)
# A float's bytes each among their like: vectors shrink by a sixth, and are read as fast.
_SPLIT = ["values.list.element", "sparse_values.list.element"]

_BATCH = 1_000  # records


class PartWriter:
    """A part that comes to be. Raises OSError, ArrowException."""

    def __init__(self, file: pa.NativeFile) -> None:
        self.rows = 0
        self.size = 0  # bytes, as `write` was told
        self._file = _Hashed(file)
        options: dict[str, Any] = {"use_dictionary": ["namespace"], "use_byte_stream_split": _SPLIT}
        self._writer = pq.ParquetWriter(pa.PythonFile(self._file, mode="w"), SCHEMA, compression="zstd", **options)

    @property
    def length(self) -> int:
        """Bytes written."""
        return self._file.length

    @property
    def sha256(self) -> str:
        return self._file.digest.hexdigest()

    def write(self, rows: Sequence[tuple[str, Record, str]], size: int) -> None:
        """A row group: namespace, record, and its metadata as JSON; `size` in memory."""
        self._writer.write_batch(_to_columns(rows))
        self.rows += len(rows)
        self.size += size

    def close(self) -> None:
        self._writer.close()
        self._file.file.close()

    def abandon(self) -> None:
        """Closes it, whole or not."""
        with suppress(OSError, pa.ArrowException):
            self.close()


def read_part(data: bytes, rows: int, skip: int) -> Iterator[tuple[str, list[Record]]]:
    """A namespace and at most 1,000 records of it, in the order of the part, without the first `skip` records.

    Raises ValueError, of which ArrowInvalid is one, and OSError: it is no part, or not of so many rows.
    """
    file = pq.ParquetFile(pa.BufferReader(data))
    if not file.schema_arrow.equals(SCHEMA) or file.metadata.num_rows != rows:
        raise ValueError("not a part")
    for number in range(file.num_row_groups):
        group = file.read_row_group(number)
        yield from _to_batches(group.slice(skip))
        skip = max(0, skip - group.num_rows)


def _to_batches(table: pa.Table) -> Iterator[tuple[str, list[Record]]]:
    for at in range(0, table.num_rows, _BATCH):
        piece: Any = table.slice(at, _BATCH).combine_chunks()
        namespaces = piece["namespace"].to_pylist()
        records = _to_records(piece)
        start = 0
        for end in range(1, len(records) + 1):
            if end == len(records) or namespaces[end] != namespaces[start]:
                yield namespaces[start], records[start:end]
                start = end


def _to_records(piece: Any) -> list[Record]:
    indices = _to_arrays(piece["sparse_indices"])
    weights = _to_arrays(piece["sparse_values"])
    columns = zip(
        piece["id"].to_pylist(),
        _to_arrays(piece["values"]),
        indices,
        weights,
        piece["metadata"].to_pylist(),
        strict=True,
    )
    return [
        Record(id, values, None if at is None or weight is None else SparseVector(at, weight), orjson.loads(metadata))
        for id, values, at, weight, metadata in columns
    ]


def _to_arrays(column: Any) -> list[npt.NDArray[Any] | None]:
    """An array a row, of its own memory; None where there is none."""
    arrays: list[npt.NDArray[Any] | None] = []
    for chunk in column.chunks:
        flat = chunk.values.to_numpy()
        offsets = chunk.offsets.to_pylist()
        there = chunk.is_valid().to_pylist()
        arrays += [flat[offsets[row] : offsets[row + 1]].copy() if there[row] else None for row in range(len(chunk))]
    return arrays


def _to_columns(rows: Sequence[tuple[str, Record, str]]) -> pa.RecordBatch:
    records = [record for _, record, _ in rows]
    sparse = [record.sparse for record in records]
    columns = [
        pa.array([namespace for namespace, _, _ in rows], pa.string()),
        pa.array([record.id for record in records], pa.string()),
        _to_lists([record.values for record in records], np.float32),
        _to_lists([None if part is None else part.indices for part in sparse], np.uint32),
        _to_lists([None if part is None else part.values for part in sparse], np.float32),
        pa.array([metadata for _, _, metadata in rows], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _to_lists(arrays: Sequence[npt.NDArray[Any] | None], dtype: type) -> Any:
    """Lists of numbers, None among them; bits stay as they are."""
    lengths = [0 if array is None else len(array) for array in arrays]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    flat = np.concatenate([np.empty(0, dtype), *(array for array in arrays if array is not None)])
    missing = np.array([array is None for array in arrays])
    from_arrays: Any = pa.ListArray.from_arrays  # its stubs know fewer types than it does
    return from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(missing))


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is written."""

    def __init__(self, file: pa.NativeFile) -> None:
        self.file = file
        self.length = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.file.write(data)
        self.digest.update(data)
        length = memoryview(data).nbytes
        self.length += length
        return length
