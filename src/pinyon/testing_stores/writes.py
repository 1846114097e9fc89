"""What each write changes, and what it leaves alone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from pinyon.filters import parse
from pinyon.stores.base import Change, Metadata, Query, Record, Store
from pinyon.testing_stores.scenario import (
    EVERYTHING,
    PLANE,
    StoreTests,
    content,
    contents,
    found,
    scenario,
    selected,
    sparse,
    tagged,
    vector,
)


class Writes(StoreTests):
    """Upsert, update, delete and namespaces."""

    @scenario
    async def test_every_write_raises_the_sequence(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        numbers = [
            await index.upsert("", [tagged("a"), tagged("b")]),
            await index.upsert("", [tagged("a")]),
            await index.update("", "a", Change(metadata={"x": 1.0})),
            await index.update("", "unknown", Change(metadata={"x": 1.0})),
            (await index.update_where("", EVERYTHING, {"x": 2.0}))[0],
            await index.delete("", ["a"]),
            await index.delete("", ["unknown"]),
            await index.delete_where("", EVERYTHING),
            await index.create_namespace("n"),
            await index.delete_namespace("n"),
        ]
        assert numbers[0] >= 1
        assert all(later > sooner for sooner, later in pairwise(numbers))
        assert index.sequence == numbers[-1]
        await index.namespaces()
        assert index.sequence == numbers[-1]

    @scenario
    async def test_an_upsert_replaces_whole_and_the_last_of_one_id_wins(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert("", [Record("a", vector(1, 2), sparse(_1=1), {"x": 1.0, "y": "old"}), tagged("b", x=1.0)])
        await index.upsert("", [tagged("a", gone=1.0), tagged("c"), Record("a", vector(3, 4), metadata={"x": True})])
        assert await index.namespaces() == {"": 3}
        back = await index.fetch("", ["a", "b", "c"])
        assert content(back["a"]) == content(Record("a", vector(3, 4), metadata={"x": True}))
        assert content(back["b"]) == content(tagged("b", x=1.0))
        assert await selected(index, {"y": {"$exists": True}}) == []
        assert await selected(index, {"x": True}) == ["a"]

    @scenario
    async def test_an_update_replaces_parts_and_merges_metadata(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        old = Record("a", vector(1, 2), sparse(_1=1, _2=2), {"x": 1.0, "y": "old", "l": ["a"]})
        await index.upsert("", [old, tagged("b")])
        await index.update("", "a", Change())
        assert content((await index.fetch("", ["a"]))["a"]) == content(old)
        await index.update("", "a", Change(metadata={"y": True, "z": ["n"], "l": []}))
        merged: Metadata = {"x": 1.0, "y": True, "z": ["n"], "l": []}
        assert content((await index.fetch("", ["a"]))["a"]) == content(Record("a", old.values, old.sparse, merged))
        assert await selected(index, {"y": "old"}) == []
        assert await selected(index, {"y": True, "x": 1, "z": "n"}) == ["a"]
        await index.update("", "a", Change(values=vector(-3, 5)))
        await index.update("", "a", Change(sparse=sparse(_9=4)))
        assert content((await index.fetch("", ["a"]))["a"]) == content(Record("a", vector(-3, 5), sparse(_9=4), merged))
        assert await found(index, Query(1, vector(0, 2))) == [("a", 10)]
        assert await found(index, Query(9, sparse=sparse(_1=1))) == []
        assert await found(index, Query(9, sparse=sparse(_9=1))) == [("a", 4)]
        assert content((await index.fetch("", ["b"]))["b"]) == content(tagged("b"))

    @scenario
    async def test_an_update_of_what_is_not_there_makes_nothing(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.update("", "a", Change(vector(1, 2), metadata={"x": 1.0}))
        assert await index.fetch("", ["a"]) == {}
        assert (await index.update_where("", EVERYTHING, {"x": 1.0}))[1] == 0
        await index.delete("n", ["a"])
        await index.delete_where("n", EVERYTHING)
        await index.delete_namespace("n")
        assert await index.namespaces() == {}

    @scenario
    async def test_an_update_by_filter_counts_and_merges(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert("", [tagged("a", x=1.0), tagged("b", x=2.0, y="s"), tagged("c", x=3.0), tagged("d")])
        await index.upsert("other", [tagged("b", x=2.0)])
        assert (await index.update_where("", parse({"x": {"$gte": 2}}), {"x": 0.5, "z": ["n"]}))[1] == 2
        back = await index.fetch_where("", EVERYTHING, after=None, limit=9)
        wanted = [tagged("a", x=1.0), tagged("b", x=0.5, y="s", z=["n"]), tagged("c", x=0.5, z=["n"]), tagged("d")]
        assert contents(back) == contents(wanted)
        assert await selected(index, {"z": "n"}) == ["b", "c"]
        assert (await index.update_where("", parse({"x": {"$gte": 2}}), {"x": 0.5}))[1] == 0
        assert content((await index.fetch("other", ["b"]))["b"]) == content(tagged("b", x=2.0))

    @scenario
    async def test_deletes_take_what_they_name_and_no_more(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        for namespace in ("", "other"):
            await index.upsert(namespace, [tagged(id, x=float(n)) for n, id in enumerate("abcdef")])
        await index.delete("", ["a", "unknown", "c", "a"])
        assert await index.list_ids("", prefix="", after=None, limit=9) == ["b", "d", "e", "f"]
        await index.delete_where("", parse({"x": {"$lt": 4}}))
        assert await selected(index, {}) == ["e", "f"]
        await index.delete_where("", EVERYTHING)
        assert await index.namespaces() == {"": 0, "other": 6}
        await index.upsert("", [tagged("a", x=7.0)])
        assert await selected(index, {}) == ["a"]

    @scenario
    async def test_namespaces_are_apart_and_stay_until_deleted(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        names = ["", " ", "__default__", "a", "a/b", "n" * 500, 'q"', "é", "\uff5e", "😀"]
        for n, name in enumerate(reversed(names)):
            await index.upsert(name, [tagged("same", n=float(n)), tagged(f"own{n}")])
        await index.create_namespace("b-empty")
        await index.create_namespace("a")
        counts = await index.namespaces()
        assert list(counts) == sorted([*names, "b-empty"])
        assert {name for name, count in counts.items() if count == 2} == set(names)
        assert [match.record.id for match in await index.query("é", Query(9, vector(1, 1)))] == ["own2", "same"]
        await index.delete("", ["own9"])
        assert sorted(await index.fetch("a", ["same", "own9", "own6"])) == ["own6", "same"]
        await index.delete("a", ["own6", "same"])
        await index.delete_namespace("é")
        counts = await index.namespaces()
        assert (counts["a"], counts["b-empty"], counts[""], "é" in counts) == (0, 0, 1, False)
        assert await index.fetch("é", ["same"]) == {}
        await index.upsert("é", [tagged("new")])
        assert await index.list_ids("é", prefix="", after=None, limit=9) == ["new"]

    @scenario
    async def test_calls_at_the_same_time_all_count(self, store: Store) -> None:
        index = await store.create("one", PLANE)

        async def write(n: int) -> int:
            number = await index.upsert("", [tagged(f"{n:02}-{part}", n=float(n)) for part in range(3)])
            assert len(await index.fetch("", [f"{n:02}-{part}" for part in range(3)])) == 3
            return number

        numbers = await asyncio.gather(*(write(n) for n in range(20)))
        assert len(set(numbers)) == 20
        assert index.sequence == max(numbers)
        assert await index.namespaces() == {"": 60}
        await asyncio.gather(*(index.update("", f"{n:02}-0", Change(metadata={"n": -1.0})) for n in range(20)))
        assert await index.count_where("", parse({"n": -1})) == 20
