"""What an index and its host say to each other over their socket: frames, calls and answers.

    call      length of body (4 bytes), number (4), verb (1), body
    answer    length of body, the call's number, status (1), body

Bodies are msgpack. Answers come in any order, but those to calls that take turns (see host.py) in theirs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from pinyon.stores.base import Query, Record, SparseVector
from pinyon.stores.points import Condition

HEADER = struct.Struct("<IIB")


class Verb(IntEnum):
    """With what its body is, and what the answer's."""

    # short: between whatever else goes on
    QUERY = 1  # QueryCall -> list[Hit]
    FETCH = 2  # list[bytes], points -> list[Found]
    COUNT = 3  # CountCall -> int
    # in turns: one after the other, in the order in which they came
    WRITE = 4  # a journal's Batch -> int, the last write up to which all are in the shard on disk
    REPLAY = 5  # ReplayCall -> None
    IDS = 6  # Condition | None -> list[str]
    FETCH_MANY = 7  # as FETCH
    FETCH_WHERE = 8  # FetchWhereCall -> list[Row], by rising id
    FETCH_AMONG = 9  # FetchAmongCall -> list[Row], by rising id
    NAMES = 10  # None -> dict[str, list[str]], namespace -> ids
    STATE = 11  # None -> State
    FLUSH = 12  # None -> None
    CLOSE = 13  # None -> None, and it ends
    WARM = 14  # None -> None


class Status(IntEnum):
    DONE = 0
    UNAVAILABLE = 1  # str: why


class Row(msgspec.Struct, array_like=True, frozen=True):
    """A record. Arrays are little-endian bytes."""

    id: str
    values: bytes | None
    indices: bytes | None
    weights: bytes | None
    metadata: dict[str, str | float | bool | list[str]]


class Hit(msgspec.Struct, array_like=True, frozen=True):
    score: float
    row: Row


class Found(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    row: Row


class QueryCall(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    condition: Condition | None
    huge: bool
    top_k: int
    values: bytes | None
    indices: bytes | None
    weights: bytes | None
    with_values: bool
    with_metadata: bool


class CountCall(msgspec.Struct, array_like=True, frozen=True):
    condition: Condition | None
    exact: bool


class ReplayCall(msgspec.Struct, array_like=True, frozen=True):
    folder: str  # of the journal
    after: int
    upto: int


class FetchWhereCall(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    condition: Condition  # keeps to the namespace
    after: str | None
    limit: int


class FetchAmongCall(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    ids: list[str]  # rising
    condition: Condition | None
    limit: int


class State(msgspec.Struct, array_like=True, frozen=True):
    unindexed: int  # points outside the search graph
    huge: bool  # whether any vector is too long for the engine's arithmetic


encode = msgspec.msgpack.Encoder().encode


def frame(number: int, kind: int, body: bytes) -> bytes:
    return HEADER.pack(len(body), number, kind) + body


def frames(buffer: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Takes the whole ones off the beginning of what was received. Number, verb or status, and body."""
    at, view = 0, memoryview(buffer)
    try:
        while len(view) - at >= HEADER.size:
            length, number, kind = HEADER.unpack_from(view, at)
            end = at + HEADER.size + length
            if len(view) < end:
                break
            yield number, kind, bytes(view[at + HEADER.size : end])
            at = end
    finally:
        view.release()
        del buffer[:at]


def to_row(record: Record) -> Row:
    values, sparse = record.values, record.sparse
    return Row(
        record.id,
        None if values is None else values.tobytes(),
        None if sparse is None else sparse.indices.tobytes(),
        None if sparse is None else sparse.values.tobytes(),
        dict(record.metadata),
    )


def to_record(row: Row) -> Record:
    values = None if row.values is None else np.frombuffer(row.values, "<f4")
    return Record(row.id, values, _to_sparse(row.indices, row.weights), row.metadata)


def to_call(namespace: str, condition: Condition | None, query: Query, *, huge: bool) -> QueryCall:
    values, sparse = query.values, query.sparse
    return QueryCall(
        namespace,
        condition,
        huge,
        query.top_k,
        None if values is None else np.asarray(values, "<f4").tobytes(),
        None if sparse is None else np.asarray(sparse.indices, "<u4").tobytes(),
        None if sparse is None else np.asarray(sparse.values, "<f4").tobytes(),
        query.with_values,
        query.with_metadata,
    )


def to_query(call: QueryCall) -> Query:
    """Without its filter, which the condition says."""
    values = None if call.values is None else np.frombuffer(call.values, "<f4")
    sparse = _to_sparse(call.indices, call.weights)
    return Query(call.top_k, values, sparse, None, call.with_values, call.with_metadata)


def _to_sparse(indices: bytes | None, weights: bytes | None) -> SparseVector | None:
    if indices is None or weights is None:
        return None
    return SparseVector(np.frombuffer(indices, "<u4"), np.frombuffer(weights, "<f4"))


def decoder(type: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type)
