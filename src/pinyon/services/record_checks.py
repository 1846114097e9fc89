"""What a record, a vector, an id or a limit may be: everything that stores/base.py leaves to the services. Pure.

Errors name fields as the core does: `("records", 3, "values")`, `("records", 3, "sparse", "indices", 5)`, `("top_k",)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from pinyon.errors import InvalidRequest, Param
from pinyon.state.records import IndexRecord, Schema
from pinyon.stores.base import MetadataValue, Metric, Record, SparseVector
from pinyon.types import FloatArray

# NOTE: the numbers are Pinecone's ("Database limits"; the 2026-07 API files for sparse values and small magnitudes).
MAX_ID = 512  # characters
MAX_NAMESPACE = 512  # characters
MAX_RECORDS = 1_000  # a call
MAX_SPARSE = 2_048  # values a vector
MAX_METADATA = 40 * 1024  # bytes of a record's metadata as JSON
MAX_SCHEMA_FIELDS = 50  # metadata fields that a namespace declares
MAX_TOP_K = 10_000
MAX_TOP_K_WHOLE = 1_000  # with values or metadata
MIN_MAGNITUDE = 1e-8  # a vector with nothing above is one of zeros

NO_SPARSE = (
    "Index configuration does not support sparse values - only indexes that are sparse or using dotproduct are "
    "supported"
)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A record as a client sent it: nothing is checked but the types. `values` of size 0 stands for none."""

    id: str
    values: FloatArray | None = None  # [any]
    sparse: SparseVector | None = None  # in any order, of any two lengths
    metadata: Mapping[str, object] = field(default_factory=dict)


def checked_records(drafts: Sequence[Draft], record: IndexRecord, max_bytes: int | None = None) -> list[Record]:
    """Records that the index can take, in their order, of at most `max_bytes` together. Raises InvalidRequest for the
    first fault found."""
    if not 1 <= len(drafts) <= MAX_RECORDS:
        raise InvalidRequest(f"must hold 1 to {MAX_RECORDS} records, and holds {len(drafts)}", ("records",))
    dense: list[tuple[Param, FloatArray]] = []
    records: list[Record] = []
    size = 0
    for position, draft in enumerate(drafts):
        param = ("records", position)
        check_id(draft.id, (*param, "id"))
        values = None if draft.values is None or draft.values.size == 0 else draft.values
        if values is None and draft.sparse is None:
            name = "sparse" if record.dimension is None else "values"
            raise InvalidRequest("is required: a record must have a vector", (*param, name))
        if values is not None:
            dense.append(((*param, "values"), values))
        sparse = None if draft.sparse is None else checked_sparse(draft.sparse, record, (*param, "sparse"))
        metadata, metadata_size = _checked_metadata(draft.metadata, (*param, "metadata"))
        records.append(Record(draft.id, values, sparse, metadata))
        size += record_size(records[-1], metadata_size)
    check_dense(dense, record)
    if max_bytes is not None and size > max_bytes:
        # NOTE: the vendor's words. It counts 4 bytes a value and not the JSON: its guide "Upsert in batches" allows 245
        # records of 1,536 values and 2,000 bytes of metadata.
        megabytes, limit = math.ceil(size / (1 << 20)), round(max_bytes / (1 << 20), 2)
        reason = f"Request size {megabytes}MB exceeds the maximum supported size of {limit:g}MB"
        raise InvalidRequest(reason, ("records",))
    return records


def record_size(record: Record, metadata: int) -> int:
    """As the vendor counts: bytes of the id, of float32 values and of indices. `metadata`: its own, as JSON."""
    size = len(record.id) + metadata
    size += 0 if record.values is None else record.values.nbytes
    size += 0 if record.sparse is None else record.sparse.indices.nbytes + record.sparse.values.nbytes
    return size


def check_dense(rows: Sequence[tuple[Param, FloatArray]], record: IndexRecord, *, allow_zeros: bool = False) -> None:
    """Dense vectors, each with its path: the index's dimension, all finite, not all zeros."""
    if not rows:
        return
    for param, values in rows:
        if record.dimension is None:
            raise InvalidRequest("A sparse index takes no dense values, only sparse ones", param)
        if values.size != record.dimension:
            raise InvalidRequest(
                f"Vector dimension {values.size} does not match the dimension of the index {record.dimension}", param
            )
    # one query is not stacked: that takes as long as all the rest of its checks
    whole = rows[0][1][None] if len(rows) == 1 else np.stack([values for _, values in rows])
    matrix = np.abs(whole)  # [rows, dimension]
    highest = matrix.max(axis=1)  # [rows]; NaN where a row has one
    if not np.isfinite(highest).all():
        row = int(np.flatnonzero(~np.isfinite(highest))[0])
        position = int(np.flatnonzero(~np.isfinite(matrix[row]))[0])
        raise InvalidRequest("must be a finite 32-bit float", (*rows[row][0], position))
    if not allow_zeros and (highest < MIN_MAGNITUDE).any():
        row = int(np.flatnonzero(highest < MIN_MAGNITUDE)[0])
        raise InvalidRequest("Dense vectors must contain at least one non-zero value", rows[row][0])


def checked_sparse(sparse: SparseVector, record: IndexRecord, param: Param) -> SparseVector:
    """The vector by rising index. Any order is taken, as the vendors' own examples need; a duplicate is refused."""
    indices, values = sparse.indices, sparse.values
    if record.dimension is not None and record.metric is not Metric.DOTPRODUCT:
        raise InvalidRequest(NO_SPARSE, param)
    if indices.size != values.size:
        raise InvalidRequest(
            f"must have as many values as indices, and has {values.size} and {indices.size}", (*param, "values")
        )
    if not 1 <= indices.size <= MAX_SPARSE:
        raise InvalidRequest(f"must hold 1 to {MAX_SPARSE} indices, and holds {indices.size}", (*param, "indices"))
    if not np.isfinite(values).all():
        position = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidRequest("must be a finite 32-bit float", (*param, "values", position))
    order = np.argsort(indices, kind="stable")
    indices, values = indices[order], values[order]
    twice = np.flatnonzero(indices[1:] == indices[:-1])
    if twice.size:
        second = int(twice[0]) + 1
        raise InvalidRequest(
            f"must not hold an index twice, and holds {int(indices[second])} so",
            (*param, "indices", int(order[second])),
        )
    return SparseVector(indices, values)


def check_id(id: str, param: Param) -> None:
    """NOTE: Pinecone takes ASCII alone ("Vector ID must be ASCII"); the 2026-07 files say code points 1 to 127."""
    if not id:
        raise InvalidRequest("must not be empty", param)
    if len(id) > MAX_ID:
        raise InvalidRequest(f"must have at most {MAX_ID} characters, and has {len(id)}", param)
    if not id.isascii() or "\0" in id:
        raise InvalidRequest("must be ASCII, without the NUL character", param)


def checked_ids(ids: Sequence[str]) -> list[str]:
    """1 to MAX_RECORDS ids, each once."""
    if not 1 <= len(ids) <= MAX_RECORDS:
        raise InvalidRequest(f"must hold 1 to {MAX_RECORDS} ids, and holds {len(ids)}", ("ids",))
    for position, id in enumerate(ids):
        check_id(id, ("ids", position))
    return list(dict.fromkeys(ids))


def check_namespace(namespace: str, param: Param = ("namespace",)) -> None:
    if len(namespace) > MAX_NAMESPACE:
        raise InvalidRequest(f"must have at most {MAX_NAMESPACE} characters, and has {len(namespace)}", param)
    if "\0" in namespace:
        raise InvalidRequest("must not contain the NUL character", param)


def checked_metadata(metadata: Mapping[str, object], param: Param) -> dict[str, MetadataValue]:
    """Strings, booleans, lists of strings, and numbers as 64-bit floats; at most MAX_METADATA bytes as JSON."""
    return _checked_metadata(metadata, param)[0]


def _checked_metadata(metadata: Mapping[str, object], param: Param) -> tuple[dict[str, MetadataValue], int]:
    """With its size, in bytes as JSON."""
    if not metadata:
        return {}, 0
    checked: dict[str, MetadataValue] = {}
    for name, value in metadata.items():
        if name.startswith("$"):
            raise InvalidRequest("must not begin with '$': such names are filter operators", (*param, name))
        checked[name] = _metadata_value(value, (*param, name))
    return checked, check_metadata_size(checked, param)


def check_metadata_size(metadata: Mapping[str, MetadataValue], param: Param) -> int:
    """Gives the size, in bytes as JSON."""
    size = len(orjson.dumps(metadata))
    if size > MAX_METADATA:
        # NOTE: the vendor's words, which its clients look for.
        reason = f"Metadata size is {size} bytes, which exceeds the limit of {MAX_METADATA} bytes per vector"
        raise InvalidRequest(reason, param)
    return size


def _metadata_value(value: object, param: Param) -> MetadataValue:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond the range of floats
            number = math.inf
        if not math.isfinite(number):
            raise InvalidRequest("must be a finite number", param)
        return number
    if isinstance(value, list):
        for position, item in enumerate(value):
            if not isinstance(item, str):
                raise InvalidRequest("must be a string: a list in metadata holds strings alone", (*param, position))
        return list(value)
    found = "null" if value is None else "an object"
    raise InvalidRequest(f"must be a string, a number, a boolean or a list of strings, and is {found}", param)


def check_schema(schema: Schema | None) -> None:
    """Metadata fields that a namespace declares, each by a name that metadata may have."""
    if schema is None:
        return
    if len(schema) > MAX_SCHEMA_FIELDS:
        raise InvalidRequest(f"must declare at most {MAX_SCHEMA_FIELDS} fields", ("schema",))
    for name in schema:
        if name.startswith("$"):
            raise InvalidRequest("must not begin with '$': such names are filter operators", ("schema", name))


def check_top_k(top_k: int, *, whole: bool) -> None:
    """`whole`: with values or metadata."""
    limit = MAX_TOP_K_WHOLE if whole else MAX_TOP_K
    if not 1 <= top_k <= limit:
        more = " where values or metadata are asked for" if whole else ""
        raise InvalidRequest(f"must be between 1 and {limit}{more}", ("top_k",))
