"""Every store through the random histories of machine.py, and mistaken ones, to see that the machine finds them.

A new store is one line in STORES.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase

from pinyon.filters import Filter, matches
from pinyon.stores.base import Change, Check, Index, Match, Metric, Query, Record
from pinyon.stores.edge import EdgeStore
from pinyon.stores.edge.contents import Contents, Copy
from pinyon.stores.edge.index import EdgeIndex
from pinyon.stores.memory import MemoryIndex, MemoryStore
from pinyon.testing_stores.scenario import PLANE, sparse, vector

from .edge_scenario import compacted
from .machine import Subject, check_matches, drive, optional

STORES = {
    "memory": Subject(lambda folder: MemoryStore(), durable=False, histories=20),
    "edge": Subject(lambda folder: EdgeStore(folder / "store", reserve=0), durable=True, histories=20),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_does_what_memory_does(name: str) -> None:
    drive(STORES[name])


def test_the_embedded_store_does_so_while_it_compacts(monkeypatch: pytest.MonkeyPatch) -> None:
    swaps = 0
    put_in_force = Contents.put_in_force

    def counted(contents: Contents, copy: Copy) -> Path:
        nonlocal swaps
        old = put_in_force(contents, copy)
        swaps += 1
        return old

    async def settle(index: Index) -> None:
        assert isinstance(index, EdgeIndex)
        await compacted(index)

    monkeypatch.setattr(Contents, "put_in_force", counted)
    compacting = Subject(
        lambda folder: EdgeStore(folder / "store", reserve=0, compact_after=4, flush_after=3),
        durable=True,
        histories=8,
        settle=settle,
    )
    drive(compacting)
    assert swaps >= compacting.histories // 2


class KeepsOldMetadata(MemoryIndex):
    async def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        old = await self.fetch(namespace, [record.id for record in records])
        return await super().upsert(
            namespace,
            [
                replace(record, metadata={**old[record.id].metadata, **record.metadata}) if record.id in old else record
                for record in records
            ],
        )


class ForgetsEmptyNamespaces(MemoryIndex):
    async def namespaces(self) -> dict[str, int]:
        return {namespace: count for namespace, count in (await super().namespaces()).items() if count}


class SortsByUtf16(MemoryIndex):
    async def list_ids(self, namespace: str, *, prefix: str, after: str | None, limit: int) -> list[str]:
        every = await super().list_ids(namespace, prefix=prefix, after=after, limit=10**6)
        return sorted(every, key=lambda id: id.encode("utf-16-be"))[:limit]


class TakesTrueForOne(MemoryIndex):
    def _matching(self, namespace: str, filter: Filter | None) -> Iterator[Record]:
        for record in self._records(namespace).values():
            as_numbers = {name: float(v) if isinstance(v, bool) else v for name, v in record.metadata.items()}
            if filter is None or matches(filter, as_numbers):
                yield record


class MissesOneInFiltered(MemoryIndex):
    async def query(self, namespace: str, query: Query) -> list[Match]:
        found = await super().query(namespace, replace(query, top_k=query.top_k + 1))
        return found[1:] if query.filter is not None and len(found) > query.top_k else found[: query.top_k]


class DropsWhatScoresZero(MemoryIndex):
    async def query(self, namespace: str, query: Query) -> list[Match]:
        found = await super().query(namespace, replace(query, top_k=10**6))
        return [match for match in found if match.score][: query.top_k]


class GivesDistances(MemoryIndex):
    async def query(self, namespace: str, query: Query) -> list[Match]:
        found = await super().query(namespace, query)
        root = self.layout.metric is Metric.EUCLIDEAN
        return [replace(match, score=match.score**0.5) if root else match for match in found]


class NormalisesWhatItKeeps(MemoryIndex):
    async def fetch_where(self, namespace: str, filter: Filter, *, after: str | None, limit: int) -> list[Record]:
        found = await super().fetch_where(namespace, filter, after=after, limit=limit)
        return [
            record if record.values is None else replace(record, values=record.values / np.linalg.norm(record.values))
            for record in found
        ]


class LosesSparseOnUpdate(MemoryIndex):
    async def update(self, namespace: str, id: str, change: Change, *, check: Check | None = None) -> int:
        [*old] = (await self.fetch(namespace, [id])).values()
        number = await super().update(namespace, id, change, check=check)
        if old and old[0].sparse is not None and change.values is not None:
            self._records(namespace)[id] = replace(self._records(namespace)[id], sparse=change.sparse)
        return number


class StandsStill(MemoryIndex):
    def _written(self) -> int:
        return max(1, self._contents.sequence)


MUTANTS = [
    *(KeepsOldMetadata, ForgetsEmptyNamespaces, SortsByUtf16, TakesTrueForOne, MissesOneInFiltered, GivesDistances),
    *(NormalisesWhatItKeeps, LosesSparseOnUpdate, StandsStill, DropsWhatScoresZero),
]


def over_memory(index_class: type[MemoryIndex]) -> Subject:
    class Store(MemoryStore):
        async def open(self, key: str) -> Index:
            index = await super().open(key)
            index.__class__ = index_class
            return index

    return Subject(lambda folder: Store(), durable=False, histories=200)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_machine_finds_what_is_wrong(mutant: type[MemoryIndex]) -> None:
    """Each is memory with one mistake that a store could well make."""

    with pytest.raises(AssertionError):
        drive(over_memory(mutant), Phase.generate)


@pytest.mark.parametrize(
    ("got", "top_k", "passes"),
    [
        ("a zero b", 3, True),
        ("a b", 3, True),  # as if it were not in the index
        ("a b", 2, True),
        ("a zero", 2, True),
        ("a", 1, True),
        ("a", 2, False),
        ("a zero", 3, False),
        ("zero b", 3, False),
        ("b", 1, False),
        ("zero", 1, False),
    ],
)
def test_what_is_optional_may_be_left_out_and_nothing_else(got: str, top_k: int, passes: bool) -> None:
    every = [Match(score, Record(id)) for id, score in (("a", 2.0), ("zero", 0.0), ("b", -1.0))]
    found = [match for match in every if match.record.id in got.split()]
    with nullcontext() if passes else pytest.raises(AssertionError):
        check_matches(found, every, {"zero"}, top_k, Metric.DOTPRODUCT)


def test_only_what_a_sparse_product_of_zero_alone_ranks_is_optional() -> None:
    async def scenario() -> None:
        index = await MemoryStore().create("index", PLANE)
        zero, one = sparse(_1=1, _2=-1), sparse(_1=1)
        records = [Record("both", vector(1, 0), zero), Record("sparse", None, zero), Record("one", None, one)]
        await index.upsert("", records)
        for values, wanted in ((None, {"both", "sparse"}), (vector(0, 1), {"sparse"})):
            query = Query(9, values, sparse(_1=1, _2=1))
            every = await index.query("", query)
            assert {match.record.id for match in every} == {"both", "sparse", "one"}
            assert await optional(index, "", query, every) == wanted
        assert await optional(index, "", Query(9, vector(0, 1)), await index.query("", Query(9, vector(0, 1)))) == set()

    asyncio.run(scenario())
