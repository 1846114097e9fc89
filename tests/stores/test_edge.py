"""The embedded store: the contract, and what is its own: the journal, the lock, a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import cast

import pytest

from pinyon.errors import Unavailable
from pinyon.filters import Eq, parse
from pinyon.stores.base import Query, Record, Store
from pinyon.stores.edge import EdgeStore, child, contents, journal, shard
from pinyon.stores.points import Point
from pinyon.testing_stores import StoreContract
from pinyon.testing_stores.scenario import raises, tagged, vector

from .edge_scenario import PLANE, opened, run, shards


class TestEdge(StoreContract):
    durable = True

    def make_store(self, folder: Path) -> Store:
        return EdgeStore(folder / "store", reserve=0)


# --- The journal and the disk


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes to the journal end half way, as on a disk without room."""
    whole = journal.write_all

    def half(file: int, data: bytes) -> None:
        whole(file, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal, "write_all", half)


def test_a_full_disk_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a", x=1.0)])
        before = index.sequence
        with pytest.MonkeyPatch.context() as patch:
            fill_disk(patch)
            for write in (index.upsert("", [tagged("b")]), index.delete("", ["a"]), index.create_namespace("n")):
                with pytest.raises(Unavailable, match="No space left on device"):
                    await write
            assert index.sequence == before
            assert await index.namespaces() == {"": 1}
            assert [match.record.id for match in await index.query("", Query(9, vector(1, 1)))] == ["a"]
        assert await index.upsert("", [tagged("c")]) == before + 1
        await store.close()
        store = EdgeStore(tmp_path)
        assert await (await store.open("one")).list_ids("", prefix="", after=None, limit=9) == ["a", "c"]
        await store.close()

    run(scenario())


def test_room_is_left_on_the_disk_for_what_the_engine_maps(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a"), tagged("b")])
        await store.close()
        store = EdgeStore(tmp_path, reserve=1 << 60)
        index = await store.open("one")  # type: ignore[assignment]
        with pytest.raises(Unavailable, match="disk is full"):
            await index.upsert("", [tagged("c")])
        await index.delete("", ["a"])
        assert await index.list_ids("", prefix="", after=None, limit=9) == ["b"]
        await store.close()

    run(scenario())


def test_a_torn_entry_is_cut_off_and_damage_is_refused(tmp_path: Path) -> None:
    async def three_writes() -> None:
        store, index = await opened(tmp_path, PLANE)
        for id in "abc":
            await index.upsert("", [tagged(id)])
        index._contents.failed = True  # closes as a kill would: the journal stays
        await store.close()

    async def listed() -> list[str]:
        store = EdgeStore(tmp_path, reserve=0)
        try:
            return await (await store.open("one")).list_ids("", prefix="", after=None, limit=9)
        finally:
            await store.close()

    run(three_writes())
    folder = tmp_path / "one"
    (path,) = journal.files(folder)
    whole = path.read_bytes()
    first, second, third = (at for at in range(len(whole)) if whole.startswith(b"PJ1\n", at))
    assert first == 0
    for cut in (third + 2, third + 12, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert [batch.sequence for batch in journal.replay(folder, 0, mend=True)] == [1, 2]
        assert path.stat().st_size == third
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [batch.sequence for batch in journal.replay(folder, 0)] == [1, 2]
    path.write_bytes(whole[: second + 20] + b"?" + whole[second + 21 :])
    with pytest.raises(Unavailable, match="does not read"):
        run(listed())
    path.write_bytes(whole[:second] + whole[third:])
    with pytest.raises(Unavailable, match="write 2 is missing"):
        run(listed())
    path.write_bytes(whole)
    assert run(listed()) == ["a", "b", "c"]


def test_an_engine_that_fails_closes_the_index_and_the_next_opening_has_the_write(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a")])
        host = index._writer.link.host.pid
        os.kill(host, signal.SIGSTOP)
        asking = asyncio.ensure_future(index.fetch("", ["a"]))
        writing = asyncio.ensure_future(index.upsert("", [tagged("b")]))
        while not index._writer.applying:
            await asyncio.sleep(0.001)
        os.kill(host, signal.SIGKILL)
        await raises(Unavailable, writing)
        await raises(Unavailable, asking)
        await raises(Unavailable, index.fetch("", ["a"]))
        await raises(Unavailable, index.upsert("", [tagged("c")]))
        again = await store.open("one")
        assert again is not index
        assert await again.list_ids("", prefix="", after=None, limit=9) == ["a", "b"]
        assert {match.record.id for match in await again.query("", Query(9, vector(1, 1)))} == {"a", "b"}
        await store.close()

    run(scenario())


def test_an_engine_that_refuses_a_write_closes_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a")])
        with monkeypatch.context() as patch:
            patch.setattr(contents, "encode", lambda batch: journal.encode(broken(batch)))
            await raises(Unavailable, index.upsert("", [tagged("b")]))
        assert index.closed
        await raises(Unavailable, index.fetch("", ["a"]))
        await store.close()

    def broken(batch: journal.Batch) -> journal.Batch:
        """With a vector of one dimension where two are wanted."""
        (point,) = batch.puts
        return journal.Batch(batch.sequence, puts=[Point(point.id, bytes(4), None, None, point.payload)])

    run(scenario())


def test_the_end_of_the_zygote_closes_indexes_and_the_next_opening_has_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a")])
        assert child._zygote is not None
        os.kill(child._zygote.process.pid, signal.SIGKILL)
        while not index.closed:
            await asyncio.sleep(0.001)
        again = await store.open("one")
        assert await again.list_ids("", prefix="", after=None, limit=9) == ["a"]
        assert list(await again.fetch("", ["a"])) == ["a"]
        await store.close()

    run(scenario())


def test_an_opening_that_is_cancelled_is_finished_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a")])
        await index.close()
        for wait in (0, 0, 0.001, 0.01):
            opening = asyncio.ensure_future(store.open("one"))
            await asyncio.sleep(wait)
            opening.cancel()
            await asyncio.wait([opening])
        again = await store.open("one")
        assert await store.open("one") is again
        assert list(await again.fetch("", ["a"])) == ["a"]
        await store.close()

    run(scenario())


def test_a_write_goes_on_when_whoever_waits_is_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        for n in range(5):
            writing = asyncio.ensure_future(index.upsert("", [tagged(f"{n}")]))
            while not index._writer._writes:
                await asyncio.sleep(0)
            for _ in range(n):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
        assert await index.upsert("", [tagged("last")]) == 6
        assert await index.namespaces() == {"": 6}
        assert len(await index.query("", Query(9, vector(1, 1)))) == 6
        await store.close()

    run(scenario())


# --- The folder


def test_a_folder_has_one_process_and_names_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = EdgeStore(tmp_path), EdgeStore(tmp_path)
        await one.create("one", PLANE)
        with pytest.raises(Unavailable, match=f"process {os.getpid()}"):
            await two.open("one")
        await one.close()
        await two.open("one")
        await raises(Unavailable, one.open("one"))
        await two.close()

    run(scenario())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged("a")])
        await store.close()
        for leftover in (".new-two-0000", ".gone-three-0000", "one/shard-9-0000"):
            (tmp_path / leftover).mkdir()
            (tmp_path / leftover / contents.MANIFEST).write_text("{}")
        store = EdgeStore(tmp_path)
        assert await store.keys() == ["one"]
        assert await (await store.open("one")).list_ids("", prefix="", after=None, limit=9) == ["a"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "one"]
        assert len(shards(tmp_path)) == 1
        await store.close()

    run(scenario())


def test_a_manifest_that_does_not_read_is_damage(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.close()
        manifest = tmp_path / "one" / contents.MANIFEST
        for text in ("", "{}", manifest.read_text().replace('"format":1', '"format":2')):
            manifest.write_text(text)
            await raises(Unavailable, store.open("one"))
        await store.close()

    run(scenario())


# --- Reads


def test_reads_beside_a_write_see_whole_records_of_their_own_namespace(tmp_path: Path) -> None:
    """They may see some records of a batch before the others."""

    def batch(b: int) -> list[Record]:
        return [Record(f"{n:03}", vector(1, b + 1), metadata={"b": float(b)}) for n in range(500)]

    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", batch(0))

        async def write() -> None:
            for b in range(1, 6):
                await index.upsert("other", batch(b))
                await index.upsert("", batch(b))
                await index.delete("other", [f"{n:03}" for n in range(500)])

        writing = asyncio.create_task(write())
        seen = set()
        while not writing.done():
            found = await index.query("", Query(500, vector(1, 1), with_values=True, with_metadata=True))
            fetched = await index.fetch("", [f"{n:03}" for n in range(0, 500, 25)])
            assert len({match.record.id for match in found}) == 500
            assert len(fetched) == 20
            for record in (*(match.record for match in found), *fetched.values()):
                assert record.values is not None
                assert record.values[1] == cast(float, record.metadata["b"]) + 1
            seen |= {match.record.metadata["b"] for match in found}
            found = await index.query("other", Query(20, vector(1, 1), with_metadata=True))
            assert len({match.record.metadata["b"] for match in found}) <= 2
            for record in (await index.fetch("other", ["000", "250", "499"])).values():
                assert record.id in {"000", "250", "499"}
        await writing
        assert len(seen) > 1
        await store.close()

    run(scenario())


def test_numbers_without_an_index_of_their_own_are_as_exact(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        # Of a batch's fields the first have one, by name: a has, b has not.
        others = {f"aa{n}": 1.0 for n in range(shard._NUMBER_INDEXES - 1)}
        await index.upsert("", [tagged(f"{n}", a=float(n), b=-n - 0.5, **(others if n == 0 else {})) for n in range(9)])
        for text in (
            {"a": {"$gt": 6}},
            {"b": {"$lt": -6.5}},
            {"b": {"$in": [-8.5, -7.5]}},
            {"$or": [{"b": {"$lte": -7.5}}, {"a": {"$gt": 99}}]},
        ):
            filter = parse(text)
            assert [match.record.id for match in await index.query("", Query(9, vector(1, 1), filter=filter))] == [
                "7",
                "8",
            ]
            assert await index.count_where("", filter) == 2
        await store.close()

    run(scenario())


def test_pages_of_a_filter_that_most_match(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, PLANE)
        await index.upsert("", [tagged(f"{n:04}", odd=bool(n % 2)) for n in range(4000)])
        await index.upsert("other", [tagged(f"{n:04}x", odd=True) for n in range(100)])
        wanted = [f"{n:04}" for n in range(1, 4000, 2)]
        assert await index._writer.link.count(None) == 4100
        pages, after = [], None
        while page := await index.fetch_where("", Eq("odd", True), after=after, limit=70):
            pages += [record.id for record in page]
            after = pages[-1]
        assert pages == wanted
        await store.close()

    run(scenario())
