"""What the contract's tests are written with: a store for each, small records, and comparisons to the bit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pinyon.errors import PinyonError
from pinyon.filters import parse
from pinyon.stores.base import Index, Layout, Metric, Query, Record, SparseVector, Store
from pinyon.types import FloatArray

PLANE = Layout(2, Metric.DOTPRODUCT)
SPARSE = Layout(None, Metric.DOTPRODUCT)
EVERYTHING = parse({})

# By rising UTF-8 bytes; UTF-16 would put the last two the other way round.
ODD_IDS = [
    *(" ", " lead", '"', "#1", "%41", "'", "../up", "0", "10", "9", "A", "B", "\\", "a", "a b", "a/b", "ab"),
    *("id\x00nul", "null", "z" * 512, "{}", "\x7f", "Äpfel", "é", "日本", "\uff5e", "😀"),
]

Contract = TypeVar("Contract", bound="StoreTests")
Scenario = Callable[[Contract, Store], Coroutine[Any, Any, None]]


def vector(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float32)


def sparse(**values: float) -> SparseVector:
    """sparse(_7=0.5) is 0.5 at index 7."""
    pairs = sorted((int(name[1:]), value) for name, value in values.items())
    return SparseVector(np.array([index for index, _ in pairs], np.uint32), vector(*(value for _, value in pairs)))


def content(record: Record) -> tuple[object, ...]:
    """What a record holds, comparable: bits of values, and types of metadata, count."""
    dense = weights = None
    if record.values is not None:
        assert record.values.dtype == np.float32
        assert record.values.ndim == 1
        dense = record.values.tobytes()
    if record.sparse is not None:
        assert record.sparse.indices.dtype == np.uint32
        assert record.sparse.values.dtype == np.float32
        weights = record.sparse.indices.tolist(), record.sparse.values.tobytes()
    return record.id, dense, weights, {name: (type(value), value) for name, value in record.metadata.items()}


def contents(records: Iterable[Record]) -> list[tuple[object, ...]]:
    return [content(record) for record in records]


def tagged(id: str, **metadata: Any) -> Record:
    """A record of PLANE that matters for its metadata."""
    return Record(id, vector(1, 2), metadata=metadata)


async def raises(error: type[PinyonError], call: Awaitable[object]) -> None:
    try:
        await call
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


async def found(index: Index, query: Query, namespace: str = "") -> list[tuple[str, float]]:
    """Ids and scores, as numbers that `==` can compare: rounded well within float32's precision."""
    return [(match.record.id, round(match.score, 4)) for match in await index.query(namespace, query)]


async def selected(index: Index, filter: object) -> list[str]:
    """The ids that match, asked for in each of the ways there are."""
    tree = parse(filter)
    records = await index.fetch_where("", tree, after=None, limit=100)
    ids = [record.id for record in records]
    matches = await index.query("", Query(100, vector(1, 1), filter=tree))
    assert sorted(match.record.id for match in matches) == ids
    assert await index.count_where("", tree) == len(ids)
    return ids


class StoreTests:
    """What each part of the contract builds on."""

    durable = False

    def make_store(self, folder: Path) -> Store:
        """A store over the folder, which holds what earlier stores, now closed, left there."""
        raise NotImplementedError


def scenario(test: Scenario[Contract]) -> Callable[[Contract, Path], None]:
    """A test that pytest can call out of one that wants a store."""

    def run(self: Contract, tmp_path: Path) -> None:
        async def with_store() -> None:
            store = self.make_store(tmp_path)
            try:
                await test(self, store)
            finally:
                await store.close()

        asyncio.run(with_store())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
