"""The memory store: the contract, whose answers are worked out by hand, and what is the memory store's alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pinyon.filters import parse
from pinyon.stores.base import Layout, Metric, Query, Record, Store
from pinyon.stores.memory import MemoryStore
from pinyon.testing_stores import StoreContract
from pinyon.testing_stores.scenario import vector


class TestMemory(StoreContract):
    def make_store(self, folder: Path) -> Store:
        return MemoryStore()


def test_scores_do_not_overflow_where_float32_would() -> None:
    async def run() -> None:
        store = MemoryStore()
        for metric, score in ((Metric.DOTPRODUCT, -8e60), (Metric.EUCLIDEAN, 36e60), (Metric.COSINE, -1)):
            index = await store.create(metric.value, Layout(2, metric))
            await index.upsert("", [Record("a", vector(2e30, 0))])
            [match] = await index.query("", Query(1, vector(-4e30, 0)))
            assert match.score == pytest.approx(score, rel=1e-6)

    asyncio.run(run())


def test_a_vector_of_zeros_has_the_cosine_zero() -> None:
    async def run() -> None:
        index = await MemoryStore().create("one", Layout(2, Metric.COSINE))
        await index.upsert(
            "", [Record("zero", vector(0, 0)), Record("away", vector(-1, 0)), Record("near", vector(1, 0))]
        )
        matches = await index.query("", Query(3, vector(2, 0)))
        assert [(match.record.id, match.score) for match in matches] == [("near", 1.0), ("zero", 0.0), ("away", -1.0)]

    asyncio.run(run())


def test_whole_numbers_become_floats() -> None:
    async def run() -> None:
        index = await MemoryStore().create("one", Layout(2, Metric.COSINE))
        await index.upsert("", [Record("a", vector(1, 0), metadata={"n": 2**53 + 1, "yes": True})])
        kept = (await index.fetch("", ["a"]))["a"].metadata
        assert repr(kept) == "{'n': 9007199254740992.0, 'yes': True}"
        assert await index.count_where("", parse({"n": 2**53, "yes": {"$ne": 1}})) == 1

    asyncio.run(run())
