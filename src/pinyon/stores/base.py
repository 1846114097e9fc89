"""What a store is: the `Store` and `Index` protocols, with no optional methods.

`stores.memory` is the definition of right answers; every other store is tested against it.

A namespace is any string; "" is the default one. It exists once something was written to it or it was created, and
until it is deleted. Ids sort by their UTF-8 bytes. Arguments were checked by the services: dimensions fit the
layout, ids are unique within a call except where said, sparse indices rise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pinyon.filters import Filter
from pinyon.types import FloatArray
from pinyon.types import Metric as Metric


@dataclass(frozen=True, slots=True)
class Layout:
    """What an index holds. `dimension` None: sparse vectors alone. With dotproduct a record may hold both kinds."""

    dimension: int | None
    metric: Metric


# Numbers are 64-bit floats, as on the wire.
MetadataValue = str | float | bool | list[str]
Metadata = Mapping[str, MetadataValue]
Check = Callable[[Metadata], object]  # raises if a record must not have such metadata


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Non-zero coordinates, by rising index."""

    indices: npt.NDArray[np.uint32]  # [n]
    values: FloatArray  # [n]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A stored thing. At least one of `values` and `sparse` is there."""

    id: str
    values: FloatArray | None = None  # [dimension]
    sparse: SparseVector | None = None
    metadata: Metadata = field(default_factory=dict)

    def changed(self, change: Change, check: Check | None = None) -> Record:
        """The record after a change. Raises what `check` does of its metadata then."""
        metadata = {**self.metadata, **(change.metadata or {})}
        if check is not None:
            check(metadata)
        values = self.values if change.values is None else change.values
        return Record(self.id, values, self.sparse if change.sparse is None else change.sparse, metadata)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What an update of one record replaces; None leaves a part as it is. `metadata` is merged key by key."""

    values: FloatArray | None = None
    sparse: SparseVector | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Nearest records. With both vectors (dotproduct alone) the score is the sum of both products.

    `sparse` alone ranks only records that share an index with it, `values` alone only records with dense values; both
    together rank whatever either would rank alone, and a part that is missing adds 0. A record whose sparse product is
    exactly 0 may be left out, as an engine that walks posting lists does.
    """

    top_k: int
    values: FloatArray | None = None  # [dimension]
    sparse: SparseVector | None = None
    filter: Filter | None = None
    with_values: bool = False  # both kinds of vector
    with_metadata: bool = False

    def shown(self, record: Record) -> Record:
        """What of a record is asked for."""
        return Record(
            record.id,
            record.values if self.with_values else None,
            record.sparse if self.with_values else None,
            record.metadata if self.with_metadata else {},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A record that a query found. `record` holds of vectors and metadata what was asked for. Equal scores sort by
    id."""

    score: float
    record: Record


class Index(Protocol):
    """One index, open. Every write is on disk when its call returns, if the store is durable, and seen by the next
    read.

    Writes give the index's sequence number after them: it rises by at least 1 with each write, across restarts too. A
    write that raises changed nothing. Raises Unavailable when it cannot write (a full disk) or was closed.
    """

    @property
    def layout(self) -> Layout: ...

    @property
    def closed(self) -> bool:
        """Whether it answers no more: it was closed or dropped, or has failed. `Store.open` may give another."""
        ...

    @property
    def sequence(self) -> int:
        """The number of the last write; 0 before the first."""
        ...

    async def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        """Adds records, or replaces those of the same id whole. Of one id twice, the last wins."""
        ...

    async def update(self, namespace: str, id: str, change: Change, *, check: Check | None = None) -> int:
        """Changes one record. An unknown id is no error, and changes nothing.

        `check` is given the metadata that the record would have, before anything changes: what it raises is raised.
        """
        ...

    async def update_where(
        self, namespace: str, filter: Filter, metadata: Metadata, *, check: Check | None = None
    ) -> tuple[int, int]:
        """Merges metadata into every record that matches. Gives the sequence number and how many matched. `check` as in
        `update`, for each of them."""
        ...

    async def delete(self, namespace: str, ids: Sequence[str]) -> int:
        """Unknown ids are no error."""
        ...

    async def delete_where(self, namespace: str, filter: Filter) -> int: ...

    async def create_namespace(self, namespace: str) -> int:
        """An existing one is no error, and keeps its records."""
        ...

    async def delete_namespace(self, namespace: str) -> int:
        """Deletes it with its records. An unknown one is no error."""
        ...

    async def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        """Records by id, whole, values bit for bit as they were written. Unknown ids are left out."""
        ...

    async def fetch_where(self, namespace: str, filter: Filter, *, after: str | None, limit: int) -> list[Record]:
        """Records that match, whole, by rising id, from behind the id `after`."""
        ...

    async def query(self, namespace: str, query: Query) -> list[Match]:
        """At most `top_k` matches, best first. An unknown namespace has none."""
        ...

    async def list_ids(self, namespace: str, *, prefix: str, after: str | None, limit: int) -> list[str]:
        """Ids that begin with `prefix`, rising, from behind `after`."""
        ...

    async def count_where(self, namespace: str, filter: Filter) -> int:
        """How many records match."""
        ...

    async def namespaces(self) -> dict[str, int]:
        """Every namespace with its number of records, by rising name."""
        ...

    async def snapshot(self) -> Snapshot:
        """All that it holds behind one write, to be read while others go on. Writes wait for no longer than it takes to
        copy what changes, reads not at all. Raises Unavailable."""
        ...

    async def close(self) -> None:
        """Ends whatever it holds, but no snapshot. Closing twice is no error."""
        ...


class Snapshot(Protocol):
    """What an index held at one moment. It outlives the index, closed or dropped, and needs its store open."""

    @property
    def sequence(self) -> int:
        """The number of the last write that is in it."""
        ...

    @property
    def namespaces(self) -> Mapping[str, int]:
        """Every namespace with its number of records, by rising name."""
        ...

    def batches(self) -> AsyncIterator[tuple[str, Sequence[Record]]]:
        """Every record once, whole, values bit for bit: a namespace and at most 1,000 of its records. Those of one
        namespace follow each other. To be called once. Raises Unavailable: it was closed, or cannot be read."""
        ...

    async def close(self) -> None:
        """Frees what it holds, read to its end or not. Closing twice is no error."""
        ...


class Store(Protocol):
    """Where indexes are. `key` names one: letters, digits, `-` and `_`, chosen by whoever creates it, never used
    again."""

    async def create(self, key: str, layout: Layout) -> Index:
        """A new, empty index. Raises AlreadyExists."""
        ...

    async def open(self, key: str) -> Index:
        """The index, the same object while it is open. Raises NotFound, Unavailable if it is damaged or held
        elsewhere."""
        ...

    async def drop(self, key: str) -> None:
        """Deletes an index and all that it holds, open or not. An unknown one is no error."""
        ...

    async def keys(self) -> list[str]:
        """Every index, open or not, by rising key."""
        ...

    async def close(self) -> None:
        """Closes every open index, and every snapshot."""
        ...
