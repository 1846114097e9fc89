"""The embedded store's compaction: nothing is lost, nothing waits for it, and what it builds finds what is there."""

from __future__ import annotations

import asyncio
import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.filters import And, Eq, Gte, Lt
from pinyon.stores.base import Layout, Metric, Query, Record
from pinyon.stores.edge import EdgeStore, compaction, compactor
from pinyon.stores.edge.child import Child
from pinyon.stores.edge.link import Link
from pinyon.testing_stores.scenario import contents as comparable
from pinyon.testing_stores.scenario import sparse

from .edge_scenario import COSINE, compacted, opened, random_vectors, run, shards


def test_compaction_keeps_what_was_there_and_what_is_written_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=500)
        rows = random_vectors(900, 8)
        records = [Record(f"r{n:03}", row, metadata={"n": float(n)}) for n, row in enumerate(rows)]
        old = shards(tmp_path)
        await index.create_namespace("empty")
        await index.upsert("", records[:600])
        assert index._compactor.running is not None
        n = 600
        while index._compactor.running is not None:  # writes and reads, as many as fit
            kept = records[: min(n, 900)]
            if n < 900:
                await index.upsert("", [records[n]])
                kept = records[: n + 1]
            n += 1
            assert len(await index.query("", Query(1000, rows[0]))) == len(kept)
            await asyncio.sleep(0)
        assert n > 600
        assert shards(tmp_path) != old
        assert await index.delete("", ["r000"])
        for _ in range(2):
            back = await index.fetch_where("", And(()), after=None, limit=1000)
            assert comparable(back) == comparable(kept[1:])
            assert await index.namespaces() == {"": len(kept) - 1, "empty": 0}
            await store.close()
            store = EdgeStore(tmp_path, reserve=0)
            index = await store.open("one")
        await store.close()

    run(scenario())


def test_recall_with_and_without_filters(tmp_path: Path) -> None:
    """On a graph: 7,000 vectors of 384 dimensions are just enough for the engine to build one."""

    async def scenario() -> None:
        store, index = await opened(tmp_path, Layout(384, Metric.COSINE), compact_after=7000)
        rows, asked_for = np.split(random_vectors(7040, 384), [7000])
        for at in range(0, 7000, 1000):
            await index.upsert(
                "",
                [Record(str(n), rows[n], metadata={"n": float(n), "half": bool(n % 2)}) for n in range(at, at + 1000)],
            )
        await compacted(index)
        assert (await index._writer.link.state()).unindexed == 0
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        every = np.arange(7000)
        asked = [
            (None, every >= 0),
            (Eq("half", True), every % 2 == 1),
            (Gte("n", 3500.0), every >= 3500),
            (Lt("n", 350.0), every < 350),
            (Lt("n", 5.0), every < 5),
        ]
        for filter, kept in asked:
            hits = total = 0
            for row in asked_for:
                best = sorted(every[kept], key=lambda n: -(units[n] @ row))[:10]
                found = await index.query("", Query(10, row, filter=filter))
                assert len(found) == len(best)
                hits += len({int(match.record.id) for match in found} & {int(n) for n in best})
                total += len(best)
            assert hits >= 0.99 * total, filter
        await store.close()

    run(scenario())


@pytest.mark.parametrize("dimension", [None, 20_000])
def test_what_has_no_dense_vectors_is_compacted(tmp_path: Path, dimension: int | None) -> None:
    """In a sparse index, and in one that would be large enough for bytes."""

    async def scenario() -> None:
        store, index = await opened(tmp_path, Layout(dimension, Metric.DOTPRODUCT), compact_after=140)
        old = shards(tmp_path)
        await index.upsert("", [Record(f"{n:03}", None, sparse(_1=1.0, _500=n + 1.0)) for n in range(140)])
        await compacted(index)
        assert index._compactor.failures == 0
        assert shards(tmp_path) != old
        found = await index.query("", Query(3, sparse=sparse(_500=1.0)))
        assert [match.record.id for match in found] == ["139", "138", "137"]
        await store.close()

    run(scenario())


def test_a_compaction_that_fails_leaves_the_index_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = compaction.start

    def killed(*arguments: Any) -> Child:
        child = start(*arguments)
        child.kill()
        return child

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=100)
        records = [Record(f"{n:03}", row) for n, row in enumerate(random_vectors(100, 8))]
        for broken in (killed, refused):
            monkeypatch.setattr(compaction, "start", broken)
            await index.upsert("", records)
            await compacted(index)
            assert len(shards(tmp_path)) == 1
            assert comparable(await index.fetch_where("", And(()), after=None, limit=100)) == comparable(records)
        old = shards(tmp_path)
        monkeypatch.setattr(compaction, "start", start)
        await index.upsert("", records)  # after two failures it waits for four times as many
        await compacted(index)
        assert shards(tmp_path) == old
        await index.upsert("", records[1:])
        await index.delete("", ["000"])
        await compacted(index)
        assert shards(tmp_path) != old
        assert comparable(await index.fetch_where("", And(()), after=None, limit=100)) == comparable(records[1:])
        await store.close()

    def refused(*_: Any) -> Child:
        raise OSError(errno.ENOSPC, "full")

    run(scenario())


def test_a_copy_that_failed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: on a disk that is nearly full, it is what fills it."""

    start = compaction.start

    def dying(old: Path, new: Path, layout: Layout) -> Child:
        child = start(old, new, layout)
        new.mkdir()
        child.kill()
        return child

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=100)
        monkeypatch.setattr(compaction, "start", dying)
        await index.upsert("", [Record(f"{n:03}", row) for n, row in enumerate(random_vectors(100, 8))])
        await compacted(index)
        assert index._compactor.failures == 1
        assert len(shards(tmp_path)) == 1
        await store.close()

    run(scenario())


def test_no_compaction_begins_without_room_for_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child would fill the disk, and the engine is killed where a write finds no room then."""
    begun = 0
    start = compaction.start

    def counted(*arguments: Any) -> Child:
        nonlocal begun
        begun += 1
        return start(*arguments)

    monkeypatch.setattr(compaction, "start", counted)

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        records = [Record(f"{n:03}", row) for n, row in enumerate(random_vectors(100, 8))]
        await index.upsert("", records)
        await store.close()
        for reserve, wanted in ((shutil.disk_usage(tmp_path).total, 0), (0, 1)):
            store = EdgeStore(tmp_path, reserve=reserve, compact_after=10)
            index = await store.open("one")  # type: ignore[assignment]
            await index.delete("", [record.id for record in records[:20]])
            await compacted(index)
            assert begun == wanted
            assert await index.namespaces() == {"": 80}
            await store.close()

    run(scenario())


def test_closing_ends_a_compaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=100)
        records = [Record(f"{n:03}", row) for n, row in enumerate(random_vectors(100, 8))]
        await index.upsert("", records)
        await index.close()
        index = await store.open("one")  # type: ignore[assignment]
        assert comparable(await index.fetch_where("", And(()), after=None, limit=100)) == comparable(records)
        assert len(shards(tmp_path)) == 1
        await store.close()

    run(scenario())


def test_a_load_is_compacted_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor, "_BULK_RATE", 0)
    monkeypatch.setattr(compactor, "_BULK_FACTOR", 3)
    monkeypatch.setattr(compactor, "_BULK_POINTS", 30)

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=10)
        index._writer.pace.last, index._writer.pace._rate = time.monotonic(), 1.0
        old = shards(tmp_path)
        rows = random_vectors(30, 8)
        await index.upsert("", [Record(f"{n:03}", rows[n]) for n in range(29)])
        assert index._compactor.running is None
        await index.upsert("", [Record("029", rows[29])])
        await compacted(index)
        assert shards(tmp_path) != old
        await store.close()

    run(scenario())


def test_what_is_left_is_compacted_once_writes_have_ceased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compactor, "_QUIET_POINTS", 20)
    monkeypatch.setattr(compactor, "_QUIET_SECONDS", 0.05)

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=1_000_000)
        old = shards(tmp_path)
        for n, row in enumerate(random_vectors(19, 8)):
            await index.upsert("", [Record(f"{n:03}", row)])
        assert index._compactor._quiet is None
        await index.upsert("", [Record("last", random_vectors(1, 8)[0])])
        assert index._compactor._quiet is not None
        async with asyncio.timeout(30):
            while shards(tmp_path) == old or index._compactor.running is not None:
                await asyncio.sleep(0.01)
        assert index._contents.unindexed == 0
        await index.upsert("", [Record(f"{n:03}", row) for n, row in enumerate(random_vectors(30, 8))])
        assert index._compactor._quiet is not None
        await store.close()
        assert index._compactor._quiet.cancelled()

    run(scenario())


def test_a_compaction_yields_to_queries_and_comes_to_its_end_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait all the while."""
    done: list[str] = []

    def told(name: str) -> Callable[[Child], None]:
        whole: Callable[[Child], None] = getattr(Child, name)

        def call(child: Child) -> None:
            done.append(name)
            whole(child)

        return call

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=2000)
        monkeypatch.setattr(compactor, "_SLICE", 0.001)
        monkeypatch.setattr(Child, "pause", told("pause"))
        monkeypatch.setattr(Child, "go_on", told("go_on"))
        old = shards(tmp_path)
        monkeypatch.setattr(Link, "waiting", 99)
        await index.upsert("", [Record(f"{n:04}", row) for n, row in enumerate(random_vectors(2000, 8))])
        await compacted(index)
        assert shards(tmp_path) != old
        assert index._compactor.failures == 0
        slices = compactor._MOST_PAUSED
        assert done[: slices + 2] == [*["pause"] * slices, "go_on", "pause"]
        await store.close()

    run(scenario())
