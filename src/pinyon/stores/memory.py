"""The store in memory: brute force, and the definition of right answers. Clear rather than quick; nothing is on disk.

What base.py leaves open, it settles:
- Scores are sums and products of float64 over the float32 values; other stores may differ by float32's rounding.
- A query with both vectors ranks what either of them alone would rank; a part that a record lacks adds nothing.
- A vector of zeros has the cosine 0 with everything (the services refuse one).
- Every call that writes has a sequence number of its own, also where it found nothing to change.
- Reads and writes of a closed or dropped index raise Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pinyon.errors import AlreadyExists, NotFound, Unavailable
from pinyon.filters import Filter, matches
from pinyon.stores.base import (
    Change,
    Check,
    Index,
    Layout,
    Match,
    Metadata,
    MetadataValue,
    Metric,
    Query,
    Record,
    Snapshot,
    SparseVector,
)
from pinyon.types import FloatArray

_BATCH = 1_000  # records


@dataclass(slots=True)
class _Contents:
    """What an index holds, whether it is open or not."""

    layout: Layout
    sequence: int = 0
    namespaces: dict[str, dict[str, Record]] = field(default_factory=dict)


class MemoryStore:
    """See base.Store."""

    def __init__(self) -> None:
        self._contents: dict[str, _Contents] = {}
        self._open: dict[str, MemoryIndex] = {}

    async def create(self, key: str, layout: Layout) -> Index:
        if key in self._contents:
            raise AlreadyExists("There is an index of this key already")
        self._contents[key] = _Contents(layout)
        return await self.open(key)

    async def open(self, key: str) -> Index:
        if key not in self._contents:
            raise NotFound("There is no index of this key", "index", key)
        index = self._open.get(key)
        if index is None or index.closed:
            index = self._open[key] = MemoryIndex(self._contents[key])
        return index

    async def drop(self, key: str) -> None:
        if (index := self._open.pop(key, None)) is not None:
            await index.close()
        self._contents.pop(key, None)

    async def keys(self) -> list[str]:
        return sorted(self._contents)

    async def close(self) -> None:
        for index in self._open.values():
            await index.close()


class MemoryIndex:
    """See base.Index. Records are copied on the way in and out: a caller's array is never the stored one.

    No method waits for anything, so none sees half of another's work.
    """

    def __init__(self, contents: _Contents) -> None:
        self._contents = contents
        self.closed = False

    @property
    def layout(self) -> Layout:
        return self._contents.layout

    @property
    def sequence(self) -> int:
        return self._contents.sequence

    async def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        namespaces = self._namespaces()
        new = {record.id: _copied(record) for record in records}
        if new:
            namespaces.setdefault(namespace, {}).update(new)
        return self._written()

    async def update(self, namespace: str, id: str, change: Change, *, check: Check | None = None) -> int:
        records = self._records(namespace)
        if (old := records.get(id)) is not None:
            records[id] = _copied(old.changed(change, check))
        return self._written()

    async def update_where(
        self, namespace: str, filter: Filter, metadata: Metadata, *, check: Check | None = None
    ) -> tuple[int, int]:
        records = self._records(namespace)
        change = Change(metadata=metadata)
        changed = {old.id: _copied(old.changed(change, check)) for old in self._matching(namespace, filter)}
        records.update(changed)
        return self._written(), len(changed)

    async def delete(self, namespace: str, ids: Sequence[str]) -> int:
        records = self._records(namespace)
        for id in ids:
            records.pop(id, None)
        return self._written()

    async def delete_where(self, namespace: str, filter: Filter) -> int:
        return await self.delete(namespace, [record.id for record in self._matching(namespace, filter)])

    async def create_namespace(self, namespace: str) -> int:
        self._namespaces().setdefault(namespace, {})
        return self._written()

    async def delete_namespace(self, namespace: str) -> int:
        self._namespaces().pop(namespace, None)
        return self._written()

    async def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        records = self._records(namespace)
        return {id: _copied(records[id]) for id in ids if id in records}

    async def fetch_where(self, namespace: str, filter: Filter, *, after: str | None, limit: int) -> list[Record]:
        found = (record for record in self._matching(namespace, filter) if after is None or record.id > after)
        return [_copied(record) for record in sorted(found, key=lambda record: record.id)[:limit]]

    async def query(self, namespace: str, query: Query) -> list[Match]:
        found = []
        for record in self._matching(namespace, query.filter):
            score = _score(query, record, self.layout.metric)
            if score is not None:
                found.append((score, record))
        sign = 1 if self.layout.metric is Metric.EUCLIDEAN else -1
        found.sort(key=lambda pair: (sign * pair[0], pair[1].id))
        return [Match(score, _copied(query.shown(record))) for score, record in found[: query.top_k]]

    async def list_ids(self, namespace: str, *, prefix: str, after: str | None, limit: int) -> list[str]:
        records = self._records(namespace)
        # Strings compare by code point, which is the order of their UTF-8 bytes.
        return sorted(id for id in records if id.startswith(prefix) and (after is None or id > after))[:limit]

    async def count_where(self, namespace: str, filter: Filter) -> int:
        return sum(1 for _ in self._matching(namespace, filter))

    async def namespaces(self) -> dict[str, int]:
        return {namespace: len(records) for namespace, records in sorted(self._namespaces().items())}

    async def snapshot(self) -> Snapshot:
        held = {namespace: list(records.values()) for namespace, records in sorted(self._namespaces().items())}
        return MemorySnapshot(self.sequence, held)

    async def close(self) -> None:
        self.closed = True

    def _namespaces(self) -> dict[str, dict[str, Record]]:
        if self.closed:
            raise Unavailable("The index is closed")
        return self._contents.namespaces

    def _records(self, namespace: str) -> dict[str, Record]:
        return self._namespaces().get(namespace, {})

    def _written(self) -> int:
        self._contents.sequence += 1
        return self._contents.sequence

    def _matching(self, namespace: str, filter: Filter | None) -> Iterator[Record]:
        for record in self._records(namespace).values():
            if filter is None or matches(filter, record.metadata):
                yield record


class MemorySnapshot:
    """See base.Snapshot. A record that is kept never changes: what is written takes its place."""

    def __init__(self, sequence: int, records: dict[str, list[Record]]) -> None:
        self.sequence = sequence
        self.namespaces = {namespace: len(held) for namespace, held in records.items()}
        self._records: dict[str, list[Record]] | None = records

    async def batches(self) -> AsyncIterator[tuple[str, Sequence[Record]]]:
        for namespace, count in self.namespaces.items():
            for at in range(0, count, _BATCH):
                if self._records is None:
                    raise Unavailable("The snapshot is closed")
                yield namespace, [_copied(record) for record in self._records[namespace][at : at + _BATCH]]
                await asyncio.sleep(0)  # whoever else has something to do

    async def close(self) -> None:
        self._records = None


def _score(query: Query, record: Record, metric: Metric) -> float | None:
    """How near a record is; None where the query does not rank it."""
    parts = []
    if query.values is not None and record.values is not None:
        parts.append(_dense_score(query.values, record.values, metric))
    if query.sparse is not None and record.sparse is not None:
        product = _sparse_product(query.sparse, record.sparse)
        if product is not None:
            parts.append(product)
    return sum(parts) if parts else None


def _dense_score(asked: FloatArray, stored: FloatArray, metric: Metric) -> float:
    left, right = asked.astype(np.float64), stored.astype(np.float64)  # [dimension]
    if metric is Metric.EUCLIDEAN:
        return float(((left - right) ** 2).sum())
    product = float((left * right).sum())
    if metric is Metric.DOTPRODUCT:
        return product
    norms = float(np.sqrt((left**2).sum()) * np.sqrt((right**2).sum()))
    return product / norms if norms else 0.0


def _sparse_product(asked: SparseVector, stored: SparseVector) -> float | None:
    """The dot product; None without an index in common."""
    common, left, right = np.intersect1d(asked.indices, stored.indices, assume_unique=True, return_indices=True)
    if not common.size:
        return None
    return float((asked.values[left].astype(np.float64) * stored.values[right]).sum())


def _copied(record: Record) -> Record:
    sparse = record.sparse
    return Record(
        record.id,
        None if record.values is None else np.array(record.values, dtype=np.float32),
        None
        if sparse is None
        else SparseVector(np.array(sparse.indices, np.uint32), np.array(sparse.values, np.float32)),
        {name: _copied_value(value) for name, value in record.metadata.items()},
    )


def _copied_value(value: MetadataValue) -> MetadataValue:
    if isinstance(value, list):
        return list(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
