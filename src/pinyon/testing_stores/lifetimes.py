"""Indexes come, close, come back and go; and what a restart keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pinyon.errors import AlreadyExists, NotFound, Unavailable
from pinyon.stores.base import Layout, Metric, Query, Record, Store
from pinyon.testing_stores.scenario import (
    EVERYTHING,
    PLANE,
    SPARSE,
    StoreTests,
    contents,
    raises,
    scenario,
    sparse,
    tagged,
    vector,
)


class Lifetimes(StoreTests):
    """Indexes come, close, come back and go."""

    @scenario
    async def test_a_new_index_is_empty(self, store: Store) -> None:
        index = await store.create("new", PLANE)
        assert (index.layout, index.sequence) == (PLANE, 0)
        assert await index.namespaces() == {}
        assert await index.query("", Query(3, vector(1, 1))) == []
        assert await index.list_ids("", prefix="", after=None, limit=10) == []
        assert await index.fetch("", ["a"]) == {}
        assert await index.fetch_where("", EVERYTHING, after=None, limit=10) == []
        assert await index.count_where("", EVERYTHING) == 0

    @scenario
    async def test_a_key_is_created_once_and_opened_often(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await raises(AlreadyExists, store.create("one", SPARSE))
        assert await store.open("one") is index
        await raises(NotFound, store.open("two"))
        assert index.layout == PLANE

    @scenario
    async def test_keys_rise_open_or_not(self, store: Store) -> None:
        assert await store.keys() == []
        for key in ("b-2", "B_1", "a", "10", "9"):
            await store.create(key, PLANE)
        await (await store.open("a")).close()
        assert await store.keys() == ["10", "9", "B_1", "a", "b-2"]

    @scenario
    async def test_indexes_share_nothing(self, store: Store) -> None:
        one, two = await store.create("one", PLANE), await store.create("two", SPARSE)
        await one.upsert("", [tagged("a")])
        assert (one.layout, two.layout) == (PLANE, SPARSE)
        assert await two.namespaces() == {}
        assert two.sequence == 0

    @scenario
    async def test_a_dropped_index_is_gone_open_or_not(self, store: Store) -> None:
        for key in ("open", "closed"):
            index = await store.create(key, PLANE)
            await index.upsert("", [tagged("a")])
            if key == "closed":
                await index.close()
            await store.drop(key)
            assert key not in await store.keys()
            await raises(NotFound, store.open(key))
            await raises(Unavailable, index.upsert("", [tagged("b")]))
        await store.drop("open")
        await store.drop("never-there")

    @scenario
    async def test_a_closed_index_refuses_and_opens_again_with_all_it_held(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert("n", [tagged("a", x=1.0)])
        sequence = index.sequence
        await index.close()
        await index.close()
        await raises(Unavailable, index.upsert("n", [tagged("b")]))
        await raises(Unavailable, index.delete("n", ["a"]))
        await raises(Unavailable, index.query("n", Query(1, vector(1, 1))))
        await raises(Unavailable, index.fetch("n", ["a"]))
        again = await store.open("one")
        assert again is not index
        assert again.sequence >= sequence
        assert contents((await again.fetch("n", ["a", "b"])).values()) == contents([tagged("a", x=1.0)])

    def test_a_store_closes_its_indexes_and_closes_twice(self, tmp_path: Path) -> None:
        async def run() -> None:
            store = self.make_store(tmp_path)
            index = await store.create("one", PLANE)
            await store.close()
            await store.close()
            await index.close()
            await raises(Unavailable, index.upsert("", [tagged("a")]))

        asyncio.run(run())

    def test_a_restart_keeps_everything(self, tmp_path: Path) -> None:
        """Indexes, layouts, namespaces empty or not, records to the bit, the order of sequence numbers."""
        if not self.durable:
            return
        layouts = {"plane": PLANE, "sparse": SPARSE, "cosine": Layout(3, Metric.COSINE)}
        kept = {
            "plane": [Record("both", vector(1, -0.0), sparse(_3=2), {"x": [], "y": True}), tagged("gone"), tagged("é")],
            "sparse": [Record("words", sparse=sparse(_4294967295=1e-40, _0=-3))],
            "cosine": [Record("long", vector(3e20, 4e-20, 1e-45), metadata={"n": 0.1, "s": "日本", "l": ["b", "a"]})],
        }

        async def before() -> dict[str, int]:
            store = self.make_store(tmp_path)
            numbers = {}
            for key, layout in layouts.items():
                index = await store.create(key, layout)
                await index.upsert("ünï cödé/", kept[key])
                await index.delete("ünï cödé/", ["gone"])
                numbers[key] = await index.create_namespace("empty")
            await store.create("dropped", PLANE)
            await store.drop("dropped")
            await store.close()
            return numbers

        async def after(numbers: dict[str, int]) -> None:
            store = self.make_store(tmp_path)
            assert await store.keys() == sorted(layouts)
            for key, layout in layouts.items():
                index = await store.open(key)
                records = [record for record in kept[key] if record.id != "gone"]
                assert index.layout == layout
                assert index.sequence >= numbers[key]
                assert await index.namespaces() == {"empty": 0, "ünï cödé/": len(records)}
                back = await index.fetch_where("ünï cödé/", EVERYTHING, after=None, limit=10)
                assert contents(back) == contents(records)
                number = await index.upsert("later", [Record("x", records[0].values, records[0].sparse)])
                assert number > numbers[key]
            await raises(NotFound, store.open("dropped"))
            await raises(AlreadyExists, store.create("plane", PLANE))
            await store.close()

        asyncio.run(after(asyncio.run(before())))
