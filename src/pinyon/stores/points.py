"""Records as points of Qdrant's engine, and filters as its conditions: what its embedded form and its server share.

A point's payload:

    i   the record's id            n   its namespace           m   its metadata, one JSON string that nothing searches
    t   terms: one for each field that is there, one for each value of each, list elements apart, and none for most
        numbers (see `_has_term`); hashed, and as one text of words, since to hand the engine a list of ten strings
        costs as much as to index them
    v   how the original values follow from the stored ones, where they differ (cosine; see `to_units`)
    x_* the fields that are numbers, for ranges, and for being equal to what has no term

Engine conditions cannot say what filters mean: a boolean matches nothing, JSON paths hold no quotes or dots, integers
and floats differ, a key of each type would need an index of its own. Terms say all else with one index.

Knows no client of Qdrant: conditions come in the form of its REST interface.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from pinyon.filters import And, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Nin, Or, Scalar
from pinyon.stores.base import Layout, Metadata, MetadataValue, Metric, Record, SparseVector
from pinyon.types import FloatArray

DENSE = "d"  # the names of a point's vectors
SPARSE = "s"
ID = "i"
NAMESPACE = "n"
METADATA = "m"
TERMS = "t"
RESTORE = "v"
NUMBER = "x_"

Condition = dict[str, Any]

# Terms of fields are 20 letters long, so these two are none.
_NEVER = {"key": TERMS, "match": {"text": "never"}}
HUGE = {"key": TERMS, "match": {"text": "huge"}}
# Vectors longer than this are huge: squares and products of shorter ones fit into the engine's float32.
_HUGE = 4e18
# Whole numbers below have terms: counts, ratings, years. Of others (prices, times, keys) a field may have as many as
# there are records, and each term takes 270 bytes of the engine's memory until a compaction.
_TERMS_BELOW = 4096
_GROUP = 100  # conditions that are asked one by one
_LONGEST_NAME = 64  # it becomes part of a file's name
_UNIT_TOLERANCE = 1e-6
_DELTAS, _RAW = b"d", b"r"


class Point(msgspec.Struct, array_like=True, frozen=True):
    """A record as the engine holds it. Arrays are little-endian bytes, so that a journal can hold them."""

    id: bytes  # 16
    dense: bytes | None  # float32 [dimension]
    indices: bytes | None  # uint32 [n]
    weights: bytes | None  # float32 [n]
    payload: dict[str, Any]


def point_id(namespace: str, id: str) -> bytes:
    """16 bytes that stand for one record. Two records with the same are a 128-bit collision."""
    name = namespace.encode()
    return blake2b(b"%d:%b%b" % (len(name), name, id.encode()), digest_size=16).digest()


def as_uuid(id: bytes) -> UUID:
    return UUID(bytes=id)


def to_points(layout: Layout, namespace: str, records: Sequence[Record]) -> list[Point]:
    """One point a record, in order."""
    units: list[FloatArray | None] = [None if r.values is None else _floats(r.values) for r in records]
    restores: list[str | None] = [None] * len(records)
    if layout.metric is Metric.COSINE:
        places = [place for place, values in enumerate(units) if values is not None]
        if places:
            rows, how = to_units(np.stack([row for row in units if row is not None]))
            for place, row, restore in zip(places, rows, how, strict=True):
                units[place], restores[place] = row, restore
    points = []
    for record, unit, restore in zip(records, units, restores, strict=True):
        sparse = record.sparse
        payload = {ID: record.id, NAMESPACE: namespace, **metadata_payload(record.metadata)}
        if restore is not None:
            payload[RESTORE] = restore
        if layout.metric is not Metric.COSINE and is_huge(unit, sparse):
            payload[TERMS] += " huge"
        points.append(
            Point(
                point_id(namespace, record.id),
                None if unit is None else unit.tobytes(),
                None if sparse is None else np.asarray(sparse.indices, "<u4").tobytes(),
                None if sparse is None else _floats(sparse.values).tobytes(),
                payload,
            )
        )
    return points


def to_record(
    payload: Mapping[str, Any], dense: FloatArray | None, sparse: SparseVector | None, *, with_metadata: bool = True
) -> Record:
    """The record of a point. `dense` as stored, or None where it was not asked for."""
    restore = payload.get(RESTORE)
    return Record(
        payload[ID],
        dense if dense is None or restore is None else from_unit(dense, restore),
        sparse,
        orjson.loads(payload[METADATA]) if with_metadata else {},
    )


def query_vector(layout: Layout, values: FloatArray) -> FloatArray:
    """The dense vector to search with: of length 1 for cosine, since stored ones are. [dimension]"""
    asked = _floats(values)
    if layout.metric is not Metric.COSINE:
        return asked
    wide = asked.astype(np.float64)
    norm = float(np.sqrt(wide @ wide))
    return asked if norm == 0 else (wide / norm).astype(np.float32)


def is_huge(values: FloatArray | None, sparse: SparseVector | None) -> bool:
    """Whether the engine's scores of a vector may overflow; it drops records whose score did."""
    weights = None if sparse is None else sparse.values
    return any(
        part is not None and float(np.square(part, dtype=np.float64).sum()) > _HUGE**2 for part in (values, weights)
    )


def is_marked_huge(point: Point) -> bool:
    return str(point.payload[TERMS]).endswith(" huge")


def to_units(vectors: FloatArray) -> tuple[FloatArray, list[str | None]]:
    """Vectors of length 1 and, a vector, what `from_unit` needs to give the original back bit for bit.

    vectors: [n, dimension]. None: it is stored as it came, being of length 1 within 1e-6, or zero. The length is not
    enough, since float32 rounds. With it, each float32 is at most 1 step off, so 2 bits a dimension say the rest: 136
    bytes at 384 dimensions, against 2,048 for the original in base64. Where that fails (denormal values), the original.
    """
    wide = vectors.astype(np.float64)
    norms: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", wide, wide))  # [n]
    plain: npt.NDArray[np.bool_] = np.less_equal(np.abs(norms - 1), _UNIT_TOLERANCE)
    plain |= norms == 0
    if plain.all():
        return vectors, [None] * len(vectors)
    norms[plain] = 1
    units = (wide / norms[:, None]).astype(np.float32)
    units[plain] = vectors[plain]
    # One step of a float32 is one of its bits read as an integer. Differences wrap, so that read without a sign
    # whatever is not -1, 0 or 1 is more than 2 here.
    codes = (vectors.view(np.int32) - _scaled(units, norms[:, None]).view(np.int32) + 1).view(np.uint32)
    small: npt.NDArray[np.bool_] = np.logical_and.reduce(codes <= 2, axis=1)  # [n]
    packed = _pack(codes.astype(np.uint8))  # [n, dimension / 4]
    restores: list[str | None] = []
    for row in range(len(vectors)):
        if plain[row]:
            restores.append(None)
        elif small[row]:
            restores.append(base64.b64encode(_DELTAS + norms[row].tobytes() + packed[row].tobytes()).decode())
        else:
            restores.append(base64.b64encode(_RAW + vectors[row].tobytes()).decode())
    return units, restores


def from_unit(unit: FloatArray, restore: str) -> FloatArray:
    """The original of a vector that `to_units` gave. [dimension]"""
    data = base64.b64decode(restore)
    if data[:1] == _RAW:
        return np.frombuffer(data, "<f4", offset=1).astype(np.float32)
    norm = np.frombuffer(data, "<f8", count=1, offset=1)
    deltas = _unpack(np.frombuffer(data, np.uint8, offset=9), len(unit)).astype(np.int32) - 1
    original: FloatArray = (_scaled(unit, norm).view(np.int32) + deltas).view(np.float32)
    return original


def metadata_payload(metadata: Metadata) -> dict[str, Any]:
    """The part of a payload that metadata decides."""
    kept = {field: _plain(value) for field, value in metadata.items()}
    terms: list[str] = []
    payload: dict[str, Any] = {METADATA: orjson.dumps(kept).decode()}
    for field, value in kept.items():
        terms.append(_term(field))
        if isinstance(value, list):
            terms.extend(dict.fromkeys(_term(field, element) for element in value))
            continue
        if _has_term(value):
            terms.append(_term(field, value))
        if isinstance(value, float):
            # whole ones as such: the engine takes them in half the time, and has one index for both
            whole = value.is_integer() and abs(value) < 2**63
            payload[number_field(field)] = int(value) if whole else value
    payload[TERMS] = " ".join(terms)
    return payload


@lru_cache(4096)
def number_field(field: str) -> str:
    """The payload key of a field's number: what a JSON path can hold, and no two alike."""
    name = "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in field)
    if len(name) > _LONGEST_NAME:
        return f"{NUMBER}_h_{blake2b(field.encode(), digest_size=16).hexdigest()}"  # "_h_" is no escape
    return NUMBER + name


def within(namespace: str | None, condition: Condition | None) -> Condition | None:
    """The condition within one namespace; None stands for all of them, and for no condition."""
    parts = [] if namespace is None else [{"key": NAMESPACE, "match": {"value": namespace}}]
    if condition is not None:
        parts.append(condition)
    return {"must": parts} if parts else None


def to_condition(filter: Filter) -> Condition:
    """A condition that holds for exactly the points of records that `filters.matches` takes."""
    match filter:
        case And(parts):
            return {"must": [to_condition(part) for part in parts]}
        case Or(parts):
            return {"should": [to_condition(part) for part in parts] or [_NEVER]}
        case Exists(field, True):
            return _has(_term(field))
        case Exists(field, _):
            return {"must_not": [_has(_term(field))]}
        case Eq(field, value):
            return _any(field, (value,))
        case Ne(field, value):
            return {"must": [_has(_term(field))], "must_not": [_any(field, (value,))]}
        case In(field, values):
            return _any(field, values)
        case Nin(field, values):
            return {"must": [_has(_term(field))], "must_not": [_any(field, values)]}
        case Gt(field, bound):
            return _range(field, gt=bound)
        case Gte(field, bound):
            return _range(field, gte=bound)
        case Lt(field, bound):
            return _range(field, lt=bound)
        case Lte(field, bound):
            return _range(field, lte=bound)


def _has(term: str) -> Condition:
    return {"key": TERMS, "match": {"text": term}}


def _any(field: str, values: tuple[Scalar, ...]) -> Condition:
    """Whether the field has one of the values."""
    terms = [_term(field, value) for value in values if _has_term(value)]
    numbers = sorted({float(value) for value in values if not _has_term(value)})
    parts: list[Condition] = []
    if len(terms) == 1:
        parts.append(_has(terms[0]))
    elif terms:
        parts.append({"key": TERMS, "match": {"text_any": " ".join(terms)}})
    if numbers:
        parts.append(_one_of(field, numbers))
    return parts[0] if len(parts) == 1 else {"should": parts or [_NEVER]}


def _one_of(field: str, numbers: Sequence[float]) -> Condition:
    """Whether the field is one of the numbers, which rise. The engine asks conditions one after the other: of 10,000,
    those of a group only where a point is within it."""
    equals = [_range(field, gte=number, lte=number) for number in numbers]
    if len(equals) == 1:
        return equals[0]
    if len(equals) <= _GROUP:
        return {"should": equals}
    groups: list[Condition] = []
    for at in range(0, len(numbers), _GROUP):
        group = numbers[at : at + _GROUP]
        groups.append({"must": [_range(field, gte=group[0], lte=group[-1])], "should": equals[at : at + _GROUP]})
    return {"should": groups}


def _range(field: str, **bounds: float) -> Condition:
    # + 0.0: of -0.0, which the engine takes to be less than 0.0, makes that
    return {"key": number_field(field), "range": {name: float(bound) + 0.0 for name, bound in bounds.items()}}


def _has_term(value: Scalar | None) -> bool:
    """Whether there is a term for it. Records of earlier versions have more of them, which nobody asks for."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return abs(value) < _TERMS_BELOW and float(value).is_integer()


def _term(field: str, value: Scalar | None = None) -> str:
    """The length of the field's name comes first, so that no two pairs make the same term."""
    if value is None:
        return _hashed(f"{len(field)}:{field}")
    if isinstance(value, bool):
        return _hashed(f"{len(field)}:{field}=b{int(value)}")
    if isinstance(value, str):
        return _hashed(f"{len(field)}:{field}=s{value}")
    return _hashed(f"{len(field)}:{field}=n{float(value) + 0.0!r}")  # + 0.0: -0.0 and 0.0 are equal, and one term


@lru_cache(1 << 13)
def _hashed(term: str) -> str:
    return base64.b64encode(blake2b(term.encode(), digest_size=15).digest()).decode()


def _plain(value: MetadataValue) -> str | float | bool | list[str]:
    if isinstance(value, bool | str):
        return value
    return [str(element) for element in value] if isinstance(value, list | tuple) else float(value)


def _floats(values: npt.ArrayLike) -> FloatArray:
    return np.ascontiguousarray(values, dtype="<f4")


def _scaled(unit: FloatArray, norm: npt.NDArray[np.float64]) -> FloatArray:
    with np.errstate(over="ignore"):  # beyond float32: the difference shows, and the original is kept
        return (unit.astype(np.float64) * norm).astype(np.float32)


def _pack(numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Numbers below 4, four a byte. [n, dimension] to [n, dimension / 4, rounded up]"""
    padded = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % 4)))
    quads = np.ascontiguousarray(padded).view("<u4")  # a byte each
    packed: npt.NDArray[np.uint8] = (quads | quads >> 6 | quads >> 12 | quads >> 18).astype(np.uint8)
    return packed


def _unpack(packed: npt.NDArray[np.uint8], n: int) -> npt.NDArray[np.uint8]:
    return np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1)[:n]
