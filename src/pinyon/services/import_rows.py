"""Rows of Parquet to records: the schema that an index needs, batches of rows as drafts, and what is wrong with a row.

Columns: `id` (string), `values` (list of floats), `sparse_values` (struct of `indices` and `values`), `metadata` (a
string, which is a JSON object). Others are ignored. Values are never looped over in Python: a row's vector is a view of
its batch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import orjson

from pinyon.errors import InvalidRequest
from pinyon.services import record_checks as checks
from pinyon.services.record_checks import Draft
from pinyon.state.records import IndexRecord
from pinyon.stores.base import Metric, Record, SparseVector
from pinyon.types import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST = 4 * checks.MAX_METADATA  # bytes of metadata that are parsed at all


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is not a record. `row` counts from 0 in its file."""

    row: int
    field: str  # a column
    reason: str  # safe to show; not of a row's content


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a file from `first` on, up to `end`: records in their order, and the rows that are none."""

    end: int
    records: Sequence[Record]
    faults: Sequence[Fault]


def check_schema(schema: pa.Schema, record: IndexRecord) -> None:
    """Raises InvalidRequest unless records for the index can be made of such rows."""
    import pyarrow as pa

    for name in set(schema.names) & {"id", "values", "sparse_values", "metadata"}:
        if schema.names.count(name) > 1:
            raise InvalidRequest(f"has the column {name} twice")
    sparse_alone = record.dimension is None
    for name in ("id", "sparse_values" if sparse_alone else "values"):
        if name not in schema.names:
            raise InvalidRequest(f"has no column {name}, which this index needs")
    if sparse_alone and "values" in schema.names:
        raise InvalidRequest("has a column values, and the index takes sparse values alone")
    if not sparse_alone and record.metric is not Metric.DOTPRODUCT and "sparse_values" in schema.names:
        raise InvalidRequest("has a column sparse_values, and only sparse indexes and those of dotproduct take them")
    for name, is_right, wanted in (
        ("id", _is_text, "strings"),
        ("metadata", _is_text, "strings"),
        ("values", lambda kind: _is_list(kind, _is_float), "lists of floats"),
        ("sparse_values", _is_sparse, "structs of indices (lists of integers) and values (lists of floats)"),
    ):
        if name in schema.names and not is_right(schema.field(name).type):
            raise InvalidRequest(f"has a column {name} that does not hold {wanted}")
    if not sparse_alone:
        values = schema.field("values").type
        if pa.types.is_fixed_size_list(values) and values.list_size != record.dimension:
            raise InvalidRequest(
                f"has values of dimension {values.list_size}, which does not match the index's {record.dimension}"
            )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_float(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind))


def _is_list(kind: Any, is_item: Any) -> bool:
    import pyarrow as pa

    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and is_item(kind.value_type))


def _is_sparse(kind: Any) -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    fields = {kind.field(at).name: kind.field(at).type for at in range(kind.num_fields)}
    return (
        {"indices", "values"} <= fields.keys()
        and _is_list(fields["indices"], pa.types.is_integer)
        and _is_list(fields["values"], _is_float)
    )


def checked_rows(batch: pa.RecordBatch, record: IndexRecord, first: int) -> Rows:
    """`first` is the row of the file that the batch begins with. Not more rows than an upsert takes."""
    drafts, faults = _drafts(batch, first)
    records: Sequence[Record]
    try:
        records = checks.checked_records([draft for _, draft in drafts], record) if drafts else []
    except InvalidRequest:
        records, more = _one_by_one(drafts, record)
        faults = sorted([*faults, *more], key=lambda fault: fault.row)
    return Rows(first + batch.num_rows, records, faults)


def _one_by_one(drafts: Sequence[tuple[int, Draft]], record: IndexRecord) -> tuple[list[Record], list[Fault]]:
    records, faults = [], []
    for row, draft in drafts:
        try:
            records += checks.checked_records([draft], record)
        except InvalidRequest as error:
            # ("records", 0, "metadata", NAME): the name is the user's.
            field = {"sparse": "sparse_values"}.get(str(error.param[2]), str(error.param[2]))
            faults.append(Fault(row, field, error.reason))
    return records, faults


def _drafts(batch: pa.RecordBatch, first: int) -> tuple[list[tuple[int, Draft]], list[Fault]]:
    """Each with its row in the file."""
    count = batch.num_rows
    ids = _texts(batch.column("id"))
    nothing: list[None] = [None] * count
    metadatas = _texts(batch.column("metadata")) if "metadata" in batch.schema.names else nothing
    values = _floats(batch.column("values")) if "values" in batch.schema.names else nothing
    sparse = _sparse(batch.column("sparse_values")) if "sparse_values" in batch.schema.names else nothing
    drafts: list[tuple[int, Draft]] = []
    faults: list[Fault] = []
    for at in range(count):
        id, text, vector = ids[at], metadatas[at], sparse[at]
        if id is None:
            faults.append(Fault(first + at, "id", "is null"))
            continue
        if isinstance(vector, str):
            faults.append(Fault(first + at, "sparse_values", vector))
            continue
        metadata: dict[str, object] = {}
        if text is not None:
            if len(text) > _LONGEST:
                reason = f"Metadata exceeds the limit of {checks.MAX_METADATA} bytes per vector"
                faults.append(Fault(first + at, "metadata", reason))
                continue
            try:
                metadata = orjson.loads(text)
            except ValueError:
                metadata = cast(Any, None)
            if not isinstance(metadata, dict):
                faults.append(Fault(first + at, "metadata", "must be a JSON object"))
                continue
        drafts.append((first + at, Draft(id, values[at], vector, metadata)))
    return drafts, faults


def _texts(column: Any) -> list[str | None]:
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    found: list[str | None] = column.to_pylist()
    return found


def _floats(column: Any) -> list[FloatArray | None]:
    """A view of one array for each row; None for null. A null among the values is NaN, as numpy has no other."""
    import pyarrow as pa

    # Of another width, a number that 32 bits cannot hold becomes infinite, which the checks refuse.
    column = column.cast(pa.large_list(pa.float32()), safe=False)
    offsets = column.offsets.to_numpy()
    flat = column.values.to_numpy(zero_copy_only=False)
    is_there = _validity(column)
    return [
        flat[begin:end] if there else None
        for begin, end, there in zip(offsets[:-1].tolist(), offsets[1:].tolist(), is_there, strict=True)
    ]


def _sparse(column: Any) -> list[SparseVector | str | None]:
    """For each row its vector, None for null, or what is wrong with it."""
    import pyarrow as pa

    values = _floats(column.field("values"))
    lists = column.field("indices")
    lists = lists.cast(pa.large_list(lists.type.value_type))
    offsets = lists.offsets.to_numpy()
    nulls = lists.values.is_null().to_numpy(zero_copy_only=False)
    flat = lists.values.fill_null(0).to_numpy(zero_copy_only=False)
    wrong = nulls | (flat < 0) | (flat > np.iinfo(np.uint32).max)  # [n]
    indices: npt.NDArray[np.uint32] = flat.astype(np.uint32)
    has_wrong = bool(wrong.any())
    found: list[SparseVector | str | None] = []
    for begin, end, there, vector, has_indices in zip(
        offsets[:-1].tolist(), offsets[1:].tolist(), _validity(column), values, _validity(lists), strict=True
    ):
        if not there or (vector is None and not has_indices):
            found.append(None)
        elif vector is None or not has_indices:
            found.append("must have as many values as indices, and one of them is null")
        elif has_wrong and wrong[begin:end].any():
            found.append("must have indices from 0 to 4294967295")
        else:
            found.append(SparseVector(indices[begin:end], vector))
    return found


def _validity(column: Any) -> list[bool]:
    return [True] * len(column) if column.null_count == 0 else column.is_valid().to_pylist()
