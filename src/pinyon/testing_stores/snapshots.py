"""Snapshots: one moment of an index, whatever happens to it while they are read."""

from __future__ import annotations

import asyncio
from itertools import groupby

from pinyon.errors import Unavailable
from pinyon.filters import parse
from pinyon.stores.base import Change, Layout, Metric, Record, Snapshot, Store
from pinyon.testing_stores.scenario import (
    EVERYTHING,
    ODD_IDS,
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


class Snapshots(StoreTests):
    """What a snapshot holds, and for how long."""

    @scenario
    async def test_a_snapshot_of_nothing(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        assert await held(await index.snapshot()) == {}
        number = await index.create_namespace("empty")
        snapshot = await index.snapshot()
        assert (snapshot.sequence, await held(snapshot)) == (number, {"empty": []})

    @scenario
    async def test_a_snapshot_holds_every_record_whole(self, store: Store) -> None:
        """Values to the bit, sparse alone and with others, metadata of every type, odd names."""
        kept = {
            "plane": [
                *(Record(id, vector(n, -0.0), metadata={"name": id}) for n, id in enumerate(ODD_IDS)),
                Record("both", vector(1e-45, 3e38), sparse(_0=-0.0, _4294967295=1e-40)),
                Record("sparse", sparse=sparse(_3=2), metadata={"x": [], "y": True, "l": ["b", "a", ""]}),
                Record(
                    "types", vector(0, 1), metadata={"": -0.0, "é.[]": 0.1, "big": 2.0**53, "no": False, "s": "日本"}
                ),
            ],
            "words": [Record("words", sparse=sparse(_4294967295=1e-40, _0=-3)), Record("w", sparse=sparse(_1=1))],
            "cosine": [
                Record("long", vector(3e20, 4e-20, 1e-45)),
                Record("zero", vector(0, -0.0, 0)),
                Record("unit", vector(0.6, 0.8, 0)),
                Record("odd", vector(0.1, -7, 1e-3), metadata={"n": 1.5}),
            ],
            "euclidean": [Record("e", vector(1.1, 2.2, -3.3))],
        }
        layouts = {
            "plane": PLANE,
            "words": SPARSE,
            "cosine": Layout(3, Metric.COSINE),
            "euclidean": Layout(3, Metric.EUCLIDEAN),
        }
        names = ["", " ", "a/b", "n" * 500, "日本", "😀"]
        for key, layout in layouts.items():
            index = await store.create(key, layout)
            for name in names:
                await index.upsert(name, kept[key])
            await index.upsert("gone", kept[key])
            await index.delete_namespace("gone")
            await index.delete("a/b", [record.id for record in kept[key]])
            snapshot = await index.snapshot()
            assert snapshot.sequence == index.sequence
            assert snapshot.namespaces == await index.namespaces()
            assert list(snapshot.namespaces) == sorted(snapshot.namespaces)
            wanted = by_id(kept[key])
            assert await held(snapshot) == {name: [] if name == "a/b" else wanted for name in names}

    @scenario
    async def test_a_snapshot_is_one_moment_while_writes_go_on(self, store: Store) -> None:
        """Rounds of four writes, so that the number of the last one says what there must be."""
        index = await store.create("one", PLANE)
        writing = True
        ids = [f"{place:02}" for place in range(20)]

        async def write() -> None:
            while writing or index.sequence % 4:
                n = index.sequence // 4 + 1
                await index.upsert("", [Record(id, vector(n, place)) for place, id in enumerate(ids)])
                await index.update_where("", EVERYTHING, {"n": float(n)})
                await index.upsert(f"{n:05}", [tagged("own", n=float(n))])
                await index.delete("", ids[:5])
                await asyncio.sleep(0)

        async def written(number: int) -> None:
            while index.sequence < number:
                await asyncio.sleep(0.001)

        for _ in range(2):
            writing = True
            task = asyncio.create_task(write())
            before = index.sequence + 3
            await written(before)
            snapshot = await index.snapshot()
            await written(snapshot.sequence + 5)
            writing = False
            await task
            assert before <= snapshot.sequence < index.sequence
            whole, step = divmod(snapshot.sequence, 4)  # rounds, and writes of the next one
            n = whole + (step > 0)
            wanted = [
                Record(id, vector(n, place), metadata={"n": float(n)} if step != 1 else {})
                for place, id in enumerate(ids)
            ]
            back = await held(snapshot)
            assert back.pop("") == contents(wanted if step else wanted[5:])
            assert back == {f"{m:05}": contents([tagged("own", n=float(m))]) for m in range(1, whole + 1 + (step == 3))}

    @scenario
    async def test_batches_are_bounded_and_of_one_namespace_after_the_other(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        for name in ("b", "a", ""):
            for at in range(0, 2500, 500):
                await index.upsert(name, [tagged(f"{name}{n:04}") for n in range(at, at + 500)])
        await index.delete_where("a", parse({"x": 1}))
        snapshot = await index.snapshot()
        seen = [(name, [record.id for record in records]) async for name, records in snapshot.batches()]
        await snapshot.close()
        assert all(0 < len(ids) <= 1000 for _, ids in seen)
        assert len([name for name, _ in groupby(seen, key=lambda batch: batch[0])]) == 3
        ids = sorted(id for _, ids in seen for id in ids)
        assert ids == sorted(f"{name}{n:04}" for name in ("b", "a", "") for n in range(2500))

    @scenario
    async def test_a_snapshot_outlives_what_its_index_goes_through(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert("n", [tagged(f"{n:04}", n=float(n)) for n in range(900)])
        wanted = {"n": contents(tagged(f"{n:04}", n=float(n)) for n in range(900))}
        snapshots = [await index.snapshot() for _ in range(3)]
        await index.update("n", "0000", Change(metadata={"n": -1.0}))
        await index.delete("n", ["0001"])
        assert await held(snapshots[0]) == wanted
        await index.close()
        assert await held(snapshots[1]) == wanted
        await store.drop("one")
        assert await held(snapshots[2]) == wanted
        await raises(Unavailable, index.snapshot())

    @scenario
    async def test_a_snapshot_is_closed_early_and_twice(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert("", [tagged(f"{n:05}") for n in range(5000)])
        unread, begun = await index.snapshot(), await index.snapshot()
        batches = begun.batches()
        await anext(batches)
        for snapshot in (unread, begun):
            await asyncio.gather(snapshot.close(), snapshot.close())
            await snapshot.close()

        async def rest() -> None:
            async for _ in batches:
                pass

        await raises(Unavailable, rest())
        await raises(Unavailable, anext(unread.batches()))
        assert await index.upsert("", [tagged("more")]) == index.sequence
        later = await index.snapshot()
        assert {name: len(records) for name, records in (await held(later)).items()} == {"": 5001}


def by_id(records: list[Record]) -> list[tuple[object, ...]]:
    return contents(sorted(records, key=lambda record: record.id))


async def held(snapshot: Snapshot) -> dict[str, list[tuple[object, ...]]]:
    """All that it holds, by rising id, comparable. Closes it."""
    records: dict[str, list[Record]] = {name: [] for name in snapshot.namespaces}
    async for name, batch in snapshot.batches():
        records[name] += batch
    await snapshot.close()
    assert {name: len(there) for name, there in records.items()} == snapshot.namespaces
    return {name: by_id(there) for name, there in records.items()}
