"""The embedded store's snapshots: what they hold up, what they outlive, and what they leave behind."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Query, Record
from pinyon.stores.edge import EdgeStore, snapshot
from pinyon.stores.edge.child import Child
from pinyon.stores.edge.contents import Contents
from pinyon.stores.edge.index import EdgeIndex
from pinyon.stores.edge.snapshot import EdgeSnapshot
from pinyon.stores.memory import MemoryStore
from pinyon.testing_stores.scenario import contents, raises
from pinyon.testing_stores.snapshots import held

from .edge_scenario import COSINE, compacted, opened, random_vectors, run, shards
from .edge_writer import LAYOUTS, write

RECORDS = [Record(f"r{n:04}", row, metadata={"n": float(n)}) for n, row in enumerate(random_vectors(3000, 8))]


def copies(root: Path) -> list[str]:
    return [path.name for path in root.glob(".snapshot-*")]


def child_of(snapshot: EdgeSnapshot) -> Child:
    assert snapshot._child is not None
    return snapshot._child


def send_signal(child: Child, number: int) -> None:
    os.kill(child.pid, number)


async def taken(index: EdgeIndex) -> EdgeSnapshot:
    snapshot = await index.snapshot()
    assert isinstance(snapshot, EdgeSnapshot)
    return snapshot


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.metric.value}-{layout.dimension}")
def test_snapshots_of_a_random_history(tmp_path: Path, layout: Layout) -> None:
    """Each is what a store in memory holds behind the same writes, while others go on and compactions come and go."""

    async def scenario() -> None:
        store, index = await opened(tmp_path, layout, compact_after=100)
        seed = LAYOUTS.index(layout)
        going = asyncio.Event()

        async def write_on() -> None:
            while await going.wait():
                await write(index, seed, index.sequence + 1)

        task = asyncio.create_task(write_on())
        moments = []
        for _ in range(3):
            going.set()
            enough = index.sequence + 10
            while index.sequence < enough:
                assert not task.done()
                await asyncio.sleep(0.001)
            there = await index.snapshot()
            going.clear()  # or history would grow long
            moments.append((there.sequence, await held(there)))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await store.close()
        model = await MemoryStore().create("one", layout)
        for sequence, wanted in moments:
            while model.sequence < sequence:
                await write(model, seed, model.sequence + 1)
            assert await held(await model.snapshot()) == wanted

    run(scenario())


def test_a_compaction_swaps_while_a_snapshot_is_read(tmp_path: Path) -> None:
    """And takes the shard and the journal away that it began with."""

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE, compact_after=2000)
        await index.upsert("", RECORDS[:1000])
        old = shards(tmp_path)
        before = await taken(index)
        reading = before.batches()
        batches = list((await anext(reading))[1])
        await index.upsert("", RECORDS[1000:])
        assert index._compactor.running is not None
        during = await taken(index)
        await index.delete("", [record.id for record in RECORDS[:500]])
        await compacted(index)
        assert shards(tmp_path) != old
        async for _, records in reading:
            batches += records
        assert contents(sorted(batches, key=lambda record: record.id)) == contents(RECORDS[:1000])
        await before.close()
        assert await held(during) == {"": contents(RECORDS)}
        behind = await taken(index)
        assert await held(behind) == {"": contents(RECORDS[500:])}
        assert copies(tmp_path) == []
        await store.close()

    run(scenario())


def stop_copying(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Children of snapshots copy nothing until they are told to go on. The event: writes are held for one."""
    begin, rotate = EdgeSnapshot._begin, Contents.rotate
    holding = threading.Event()

    def stopped(self: EdgeSnapshot, contents: Contents) -> None:
        begin(self, contents)
        send_signal(child_of(self), signal.SIGSTOP)

    def told(self: Contents) -> None:
        holding.set()
        rotate(self)

    monkeypatch.setattr(EdgeSnapshot, "_begin", stopped)
    monkeypatch.setattr(Contents, "rotate", told)
    return holding


async def being_copied(root: Path, holding: threading.Event) -> tuple[EdgeStore, EdgeIndex, asyncio.Task[EdgeSnapshot]]:
    """An index of ten records whose snapshot is stopped in the copying of it."""
    store, index = await opened(root, COSINE)
    await index.upsert("", RECORDS[:10])
    taking = asyncio.create_task(taken(index))
    assert await asyncio.to_thread(holding.wait, 30)
    return store, index, taking


def test_reads_go_on_and_writes_wait_while_the_shard_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = stop_copying(monkeypatch)

    async def scenario() -> None:
        store, index, taking = await being_copied(tmp_path, holding)
        writing = asyncio.create_task(index.upsert("", RECORDS[10:20]))
        for _ in range(20):
            assert len(await index.query("", Query(100, RECORDS[0].values))) == 10
            assert len(await index.fetch("", ["r0001", "r0011"])) == 1
        assert not taking.done()
        assert not writing.done()
        (there,) = index._snapshots._open
        send_signal(child_of(there), signal.SIGCONT)
        assert await taking is there
        assert (there.sequence, await writing) == (1, 2)
        assert await held(there) == {"": contents(RECORDS[:10])}
        await store.close()

    run(scenario())


def test_an_index_closes_when_a_snapshot_of_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing takes the journal away, which the copy needs."""
    holding = stop_copying(monkeypatch)

    async def scenario() -> None:
        store, index, taking = await being_copied(tmp_path, holding)
        closing = asyncio.create_task(index.close())
        late = asyncio.create_task(index.upsert("", RECORDS[10:20]))
        await raises(Unavailable, late)
        assert not closing.done()
        (there,) = index._snapshots._open
        send_signal(child_of(there), signal.SIGCONT)
        assert await taking is there
        await closing
        assert await held(there) == {"": contents(RECORDS[:10])}
        await store.close()

    run(scenario())


def test_a_reader_is_one_frame_ahead_and_the_event_loop_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = 0
    whole = EdgeSnapshot._frame

    def counted(self: EdgeSnapshot) -> Any:
        nonlocal frames
        frame = whole(self)
        frames += 1
        return frame

    monkeypatch.setattr(EdgeSnapshot, "_frame", counted)

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        await index.upsert("", RECORDS)
        there = await taken(index)
        reading = there.batches()
        for number in range(1, 5):
            await anext(reading)
            while frames < number + 1:
                await asyncio.sleep(0.001)
            assert there._thread._work_queue.empty()
            assert frames == number + 1
        send_signal(child_of(there), signal.SIGSTOP)
        stopped = False
        while not stopped:  # what is in the pipe still comes
            pending = asyncio.ensure_future(anext(reading))
            done, _ = await asyncio.wait([pending], timeout=0.2)
            stopped = not done
        assert len(await index.query("", Query(10, RECORDS[0].values))) == 10
        assert not pending.done()
        send_signal(child_of(there), signal.SIGCONT)
        await pending
        await there.close()
        await store.close()

    run(scenario())


def test_closing_ends_the_child_and_removes_the_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        long = {"text": "x" * 500}  # so that there is more to say than a socket holds
        await index.upsert("", [Record(record.id, record.values, metadata=long) for record in RECORDS])
        begun, unread, left = await taken(index), await taken(index), await taken(index)
        assert len(copies(tmp_path)) == 3
        await anext(begun.batches())
        send_signal(child_of(unread), signal.SIGSTOP)
        pending = asyncio.ensure_future(held(unread))
        await asyncio.sleep(0)
        for there in (begun, unread):
            await there.close()
            assert child_of(there).ended
        await raises(Unavailable, pending)
        assert len(copies(tmp_path)) == 1
        await store.close()
        assert child_of(left).ended
        assert copies(tmp_path) == []
        await raises(Unavailable, anext(left.batches()))
        await left.close()

    run(scenario())


def test_an_opening_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        await index.upsert("", RECORDS[:10])
        for wait in (0, 1, 50, 200):
            taking = asyncio.create_task(taken(index))
            for _ in range(wait):
                await asyncio.sleep(0.001)
            taking.cancel()
            await asyncio.wait([taking])
            if not taking.cancelled():
                await taking.result().close()
            assert copies(tmp_path) == []
            assert index._snapshots._open == set()
        await index.upsert("", RECORDS[10:20])
        assert (await held(await taken(index)))[""] == contents(RECORDS[:20])
        await store.close()

    run(scenario())


def test_a_child_that_dies_is_a_clear_error_and_the_index_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = EdgeSnapshot._begin

    def killed(self: EdgeSnapshot, contents: Contents) -> None:
        begin(self, contents)
        child_of(self).kill()

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        await index.upsert("", RECORDS)
        there = await taken(index)
        reading = there.batches()
        await anext(reading)
        child_of(there).kill()
        with pytest.raises(Unavailable, match="ended early"):
            async for _ in reading:
                pass
        await there.close()
        with monkeypatch.context() as patch:
            patch.setattr(EdgeSnapshot, "_begin", killed)
            with pytest.raises(Unavailable, match="ended early"):
                await index.snapshot()
        assert copies(tmp_path) == []
        await index.delete("", [record.id for record in RECORDS[1:]])
        assert await held(await taken(index)) == {"": contents(RECORDS[:1])}
        await store.close()

    run(scenario())


def test_no_snapshot_begins_without_room_for_its_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        await index.upsert("", RECORDS[:10])
        await store.close()
        store = EdgeStore(tmp_path, reserve=shutil.disk_usage(tmp_path).total)
        index = await store.open("one")  # type: ignore[assignment]
        with pytest.raises(Unavailable, match="the disk is full"):
            await index.snapshot()
        assert copies(tmp_path) == []
        await store.close()

    run(scenario())


def test_a_file_system_without_links_has_snapshots_too(tmp_path: Path) -> None:
    """The journal is copied then, as the shard's files are."""

    def refused(*_: Any) -> None:
        raise PermissionError

    folder = tmp_path / "copy"

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        await index.upsert("", RECORDS[:10])
        await index.upsert("", RECORDS[10:20])
        await store.close()

    run(scenario())
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", refused)
        snapshot.copy_all(tmp_path / "one" / shards(tmp_path)[0], folder)
    assert sorted(path.name for path in folder.glob("journal-*")) == [
        path.name for path in sorted((tmp_path / "one").glob("journal-*"))
    ]


def take_and_say(root: Path, said: Connection) -> None:
    """Holds a snapshot half read until it is killed."""

    async def scenario() -> None:
        store = EdgeStore(root, reserve=0)
        index = await store.open("one")
        there = await index.snapshot()
        assert isinstance(there, EdgeSnapshot)
        await anext(there.batches())
        said.send(child_of(there).pid)
        await asyncio.Event().wait()

    asyncio.run(scenario())


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_what_a_killed_server_leaves_is_removed(tmp_path: Path) -> None:
    async def fill() -> None:
        store, index = await opened(tmp_path, COSINE)
        await index.upsert("", RECORDS)
        await store.close()

    async def look() -> None:
        store = EdgeStore(tmp_path, reserve=0)
        index = await store.open("one")
        assert copies(tmp_path) == []
        assert await index.namespaces() == {"": len(RECORDS)}
        assert await held(await index.snapshot()) == {"": contents(RECORDS)}
        await store.close()

    run(fill())
    context = multiprocessing.get_context("spawn")
    says, said = context.Pipe(duplex=False)
    server = context.Process(target=take_and_say, args=(tmp_path, said))
    server.start()
    child = says.recv()
    server.kill()
    server.join()
    deadline = time.monotonic() + 30
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlives its server"
        time.sleep(0.01)
    assert len(copies(tmp_path)) == 1
    run(look())
