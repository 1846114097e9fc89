"""Parquet files in batches of bounded size, whatever a file holds: row groups of a million rows, rows of a megabyte.

A batch has at most as many rows as an upsert takes. How many fewer is decided from what the footer says of a row group,
and from the longest text in its dictionary: a dictionary holds a text once that a million rows may have, and each of
them would get a copy. Then a batch is cut where its texts are large, so that few are parsed at once.

NOTE: a page of a column is read and decompressed whole. Those who write Parquet make pages of about 1 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pinyon.errors import InvalidRequest
from pinyon.services import record_checks as checks

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_TEXTS = ("id", "metadata")
_COLUMNS = ("id", "values", "sparse_values", "metadata")
_BUFFER = 1 << 20  # bytes read ahead in each column; larger ones are fetched in steps, whatever a row group holds
_NUMBER_BYTES = 8 << 20  # of a batch's numbers in each column, at most, if all rows have as many
_TEXT_BYTES = 32 << 20  # of a batch's texts in each column, at most
_PIECE_BYTES = 4 << 20  # of its metadata that are parsed at once
_RUN_ROWS = 50_000  # of row groups that are read with one size of batch
# A row group may hold so much more than right rows would.
_SPARE_BYTES, _SPARE_NUMBERS = 16 << 20, 4 << 20
_LONGEST = 4 * checks.MAX_METADATA  # bytes that a text takes at most, spaces and escapes included
_WIDTHS = {"DOUBLE": 8, "INT64": 8}  # of a number; others have 4 at most


def open_parquet(file: pa.NativeFile) -> pq.ParquetFile:
    """Reads the footer alone. Raises InvalidRequest for what is not Parquet, OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Its own allocator keeps 100 MB of what one thread has made and another let go; the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        return pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InvalidRequest("is not a Parquet file that can be read") from None


def read_batches(
    source: pa.NativeFile, file: pq.ParquetFile, dimension: int | None, start: int = 0
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of `file`, which was opened from `source`, from `start` on: the first one's number, and a batch.

    Each step blocks. Raises InvalidRequest for a row group of which no batch could be small, OSError, and pyarrow's
    ArrowException for a file that is damaged.
    """
    columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
    for groups, first in _runs(file, start):
        size = min(_batch_size(source, file, group, dimension) for group in groups)
        at = first
        # As many threads as columns would decode at once, and each keeps what it has decoded.
        for batch in file.iter_batches(size, row_groups=groups, columns=columns, use_threads=False):
            skipped = max(0, start - at)
            if skipped < batch.num_rows:
                yield from _pieces(batch.slice(skipped), at + skipped)
            at += batch.num_rows


def _runs(file: pq.ParquetFile, start: int) -> Iterator[tuple[list[int], int]]:
    """Row groups that follow each other, from the one with the row `start` on, and the first row of each run."""
    groups: list[int] = []
    at = first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        at += rows
        if at <= start:
            first = at
            continue
        groups.append(group)
        if at - first >= _RUN_ROWS:
            yield groups, first
            groups, first = [], at
    if groups:
        yield groups, first


def _batch_size(source: pa.NativeFile, file: pq.ParquetFile, group: int, dimension: int | None) -> int:
    """Rows of the row group that can be in memory at once. Raises InvalidRequest for what no right rows would need."""
    about = file.metadata.row_group(group)
    rows = max(1, about.num_rows)
    size = checks.MAX_RECORDS
    with_dictionary = []
    for number in range(about.num_columns):
        column = about.column(number)
        name = column.path_in_schema.partition(".")[0]
        if name in _TEXTS:
            if column.total_uncompressed_size > rows * _LONGEST + _SPARE_BYTES:
                raise InvalidRequest(f"has more text in its column {name} than records may have")
            if column.total_uncompressed_size > _LONGEST and any("DICTIONARY" in each for each in column.encodings):
                with_dictionary.append(name)
            size = min(size, _TEXT_BYTES * rows // max(1, column.total_uncompressed_size))
        elif name in _COLUMNS:
            most = dimension if name == "values" and dimension else checks.MAX_SPARSE
            if column.num_values > rows * most + _SPARE_NUMBERS:
                raise InvalidRequest(f"has more numbers in its column {name} than records may have")
            width = _WIDTHS.get(column.physical_type, 4)
            size = min(size, _NUMBER_BYTES * rows // max(1, column.num_values * width))
    if with_dictionary:
        size = min(size, _TEXT_BYTES // max(1, _longest(source, file, group, with_dictionary)))
    return max(1, size)


def _longest(source: pa.NativeFile, file: pq.ParquetFile, group: int, columns: Sequence[str]) -> int:
    """Bytes of the longest text in the columns' dictionaries."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    kept = pq.ParquetFile(
        source, metadata=file.metadata, read_dictionary=list(columns), buffer_size=_BUFFER, pre_buffer=False
    )
    longest = 0
    for batch in kept.iter_batches(1, row_groups=[group], columns=list(columns), use_threads=False):
        for column in columns:
            dictionary: Any = _plain(batch.column(column)).dictionary
            lengths: Any = pc.binary_length(dictionary)
            longest = max(longest, pc.max(lengths).as_py() or 0)
        break
    return longest


def _pieces(batch: pa.RecordBatch, first: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batch, cut where its metadata are large."""
    if "metadata" not in batch.schema.names:
        yield first, batch
        return
    behind = np.cumsum(_lengths(batch.column("metadata")))  # bytes up to the end of each row
    begin = 0
    while begin < batch.num_rows:
        before = behind[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(behind, before + _PIECE_BYTES, side="right")))
        yield first + begin, batch.slice(begin, end - begin)
        begin = end


def _lengths(column: Any) -> npt.NDArray[np.int64]:
    """Bytes of each text, 0 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _plain(column)
    if isinstance(column, pa.DictionaryArray):
        dictionary: Any = column.dictionary
        lengths: Any = pc.take(pc.binary_length(dictionary), column.indices)
    elif pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64)
    else:
        lengths = pc.binary_length(column)
    found: npt.NDArray[np.int64] = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _plain(column: Any) -> Any:
    import pyarrow as pa

    return column.storage if isinstance(column, pa.ExtensionArray) else column
