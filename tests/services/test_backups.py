"""Backups and restore jobs: what is kept, what comes back, and what other requests and restarts make of them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound, Protected
from pinyon.services.backups import PageRequest, RestoreSettings
from pinyon.services.index_rules import IndexChange, OnDemand
from pinyon.state import (
    BackupRecord,
    Byoc,
    CopyStatus,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobRecord,
    JobStatus,
    Pod,
    State,
    VectorType,
)
from pinyon.stores.base import Index, Record, Store
from pinyon.types import Metric
from tests.grounds import GROUNDS, ground
from tests.services.copying import Copying, eventually, everything, records
from tests.services.index_settings import READS, settings

GENRE = {"genre": {"filterable": True}}
Work = Callable[[Copying], Coroutine[Any, Any, None]]
Run = Callable[[Work], None]


@pytest.fixture(params=GROUNDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test's work with a server on each ground."""

    def run(work: Work) -> None:
        async def whole(store: Store, url: str) -> None:
            state = await State.open(url)
            made = Copying(state, store, tmp_path)
            await made.start()
            try:
                await work(made)
            finally:
                await made.close()
                await store.close()
                await state.close()

        with ground(request.param, tmp_path) as (store, url):
            asyncio.run(whole(store, url))

    return run


async def filled(it: Copying, made: IndexSettings, count: int = 25) -> Index:
    """A new index with records in three namespaces, and a namespace without any."""
    await it.indexes.create_index(made)
    index = await it.index(made.name)
    sparse = made.metric is Metric.DOTPRODUCT
    for number, namespace in enumerate(("", "other", "日本 /%")):
        ids = [f"{namespace}{n}" for n in range(count)]
        await index.upsert(namespace, records(number, ids, made.dimension, sparse=sparse))
    await index.create_namespace("empty")
    return index


async def backed_up(it: Copying, index: str = "notes", **others: Any) -> BackupRecord:
    made = await it.backups.create_backup(index, **others)
    assert made.status is CopyStatus.INITIALIZING
    await it.ended()
    return await it.backups.describe_backup(made.id)


async def restored(it: Copying, id: str, wanted: RestoreSettings) -> IndexRecord:
    """The new index, when its job is done."""
    index, job = await it.backups.create_index_from_backup(id, wanted)
    assert index.status is IndexStatus.INITIALIZING
    assert (await it.jobs.wait(job.id)).status is JobStatus.COMPLETED
    return await it.indexes.describe_index(wanted.name)


@pytest.mark.parametrize(
    "made",
    [
        settings(),
        settings(metric=Metric.DOTPRODUCT, dimension=3),
        settings(vector_type=VectorType.SPARSE, dimension=None, metric=Metric.DOTPRODUCT),
        settings(
            metric=Metric.EUCLIDEAN,
            deployment=Byoc("aws-1"),
            read_capacity=READS,
            tags={"a": "b"},
            schema=GENRE,
            embed=Embed("all-minilm-l6-v2", {"text": "body"}, Metric.EUCLIDEAN, 8),
        ),
    ],
)
def test_a_restored_index_equals_its_source(run: Run, made: IndexSettings) -> None:
    async def work(it: Copying) -> None:
        index = await filled(it, made)
        source = await it.indexes.describe_index("notes")
        await it.state.set_namespace_schema(source.id, "empty", GENRE)
        wanted = await everything(index)
        backup = await backed_up(it, name="nightly", description="of today")
        assert (backup.name, backup.description, backup.tags) == ("nightly", "of today", made.tags)
        assert (backup.status, backup.record_count, backup.namespace_count) == (CopyStatus.READY, 75, 4)
        assert backup.size_bytes is not None and backup.size_bytes > 75 * 10
        assert (backup.source_index_id, backup.source_index_name) == (source.id, "notes")

        # What happens to the source from here on is no matter.
        await index.delete_namespace("other")
        await it.indexes.delete_index("notes")
        record = await restored(it, backup.id, RestoreSettings("again", deletion_protection=True))
        assert record.id != source.id
        assert record == replace(
            source, name="again", deletion_protection=True, source_backup_id=backup.id, id=record.id, port=record.port,
            created_at=record.created_at, version=record.version,
        )  # fmt: skip
        assert await everything(await it.index("again")) == wanted
        assert await it.state.namespace_schemas(record.id) == {"empty": GENRE}
        backup = await it.backups.describe_backup(backup.id)
        assert backup.source_deleted_at is not None

    run(work)


def test_what_may_differ(run: Run) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings(tags={"a": "1"}, read_capacity=READS, deletion_protection=True), 1)
        id = (await backed_up(it)).id
        record = await restored(it, id, RestoreSettings("plain"))
        assert (record.tags, record.read_capacity, record.deletion_protection) == ({"a": "1"}, READS, False)
        wanted = RestoreSettings("other", {"b": "2", "c": ""}, True, OnDemand())
        record = await restored(it, id, wanted)
        assert (record.tags, record.read_capacity, record.deletion_protection) == ({"b": "2"}, None, True)
        wanted = RestoreSettings("reads", {}, read_capacity=replace(READS, replicas=7))
        record = await restored(it, id, wanted)
        assert (record.tags, record.read_capacity) == ({}, replace(READS, replicas=7))
        for bad, param in (
            (RestoreSettings("-"), ("name",)),
            (RestoreSettings("new", {"ä": "b"}), ("tags", "ä")),
            (RestoreSettings("new", read_capacity=replace(READS, scaling=None)), ("read_capacity", "scaling")),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await it.backups.create_index_from_backup(id, bad)
            assert caught.value.param == param
        for name in ("other", "notes"):
            with pytest.raises(AlreadyExists):
                await it.backups.create_index_from_backup(id, RestoreSettings(name))
        assert [record.name for record in await it.indexes.list_indexes()] == ["notes", "other", "plain", "reads"]

    run(work)


def test_an_empty_index(run: Run) -> None:
    async def work(it: Copying) -> None:
        await it.indexes.create_index(settings())
        backup = await backed_up(it)
        assert (backup.record_count, backup.namespace_count) == (0, 0)
        await restored(it, backup.id, RestoreSettings("again"))
        assert await everything(await it.index("again")) == {}

    run(work)


def test_the_moment_of_a_backup_while_writes_go_on(run: Run) -> None:
    """Every write says its number in one record; a backup holds what was there behind one of them."""

    async def work(it: Copying) -> None:
        await it.indexes.create_index(settings(dimension=1))
        index = await it.index("notes")
        written = 0

        async def write() -> None:
            nonlocal written
            [one] = records(written, [f"id{written % 7}"], 1)
            await index.upsert(f"space{written % 2}", [replace(one, metadata={"n": float(written)})])
            written += 1

        for _ in range(20):
            await write()
        backup, before = await it.backups.create_backup("notes"), written
        while (await it.backups.describe_backup(backup.id)).status is CopyStatus.INITIALIZING:
            await write()
        after = written
        await write()
        await restored(it, backup.id, RestoreSettings("again"))
        found = await everything(await it.index("again"))
        numbers = [metadata["n"][1] for rows in found.values() for _, _, _, metadata in rows]
        last = int(max(numbers))
        assert before - 1 <= last < after
        # Of each record the last write by then, and of every record one.
        wanted = {(f"space{n % 2}", f"id{n % 7}"): float(n) for n in range(last + 1)}
        seen = {(name, row[0]): row[3]["n"][1] for name, rows in found.items() for row in rows}
        assert seen == wanted

    run(work)


def test_settings_are_those_of_the_moment(run: Run) -> None:
    async def work(it: Copying) -> None:
        await it.indexes.create_index(settings(tags={"a": "1"}))
        await it.indexes.configure_index("notes", IndexChange(tags={"a": "2"}))
        backup = await backed_up(it)
        await it.indexes.configure_index("notes", IndexChange(tags={"a": "3"}))
        assert (backup.tags, backup.settings.tags) == ({"a": "2"}, {"a": "2"})
        assert (await restored(it, backup.id, RestoreSettings("again"))).tags == {"a": "2"}

    run(work)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_cannot_be_backed_up(run: Run) -> None:
    async def work(it: Copying) -> None:
        await it.indexes.create_index(settings("pods", deployment=Pod("e")))
        with pytest.raises(NotFound, match="Index nothing not found"):
            await it.backups.create_backup("nothing")
        with pytest.raises(InvalidRequest, match="collection"):
            await it.backups.create_backup("pods")
        await it.indexes.create_index(settings())
        with pytest.raises(InvalidRequest) as caught:
            await it.backups.create_backup("notes", name="a\0b")
        assert caught.value.param == ("name",)
        assert (await it.backups.list_backups(PageRequest())).items == []
        assert await it.jobs.list() == []

    run(work)


def test_what_is_not_there(run: Run) -> None:
    async def work(it: Copying) -> None:
        await it.indexes.create_index(settings())
        backup = await backed_up(it)
        [job] = await it.jobs.list()
        for id in ("nothing", "\0", job.id, "x" * 5000, "../.."):
            for call in (it.backups.describe_backup, it.backups.delete_backup):
                with pytest.raises(NotFound):
                    await call(id)
            with pytest.raises(NotFound):
                await it.backups.create_index_from_backup(id, RestoreSettings("again"))
        for id in ("nothing", backup.id, job.id):  # a job, and not one that restores
            with pytest.raises(NotFound, match="Restore job"):
                await it.backups.describe_restore_job(id)

    run(work)


def damaged(folder: Path, id: str, how: str) -> None:
    [part] = (folder / "backups" / id).glob("*.parquet")
    manifest = folder / "backups" / id / "manifest.json"
    if how == "a bit":
        data = bytearray(part.read_bytes())
        data[random.Random(0).randrange(len(data))] ^= 1
        part.write_bytes(data)
    elif how == "short":
        part.write_bytes(part.read_bytes()[:-1])
    elif how == "no part":
        part.unlink()
    elif how == "no manifest":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes().replace(b"25", b"24", 1))


@pytest.mark.parametrize("how", ["a bit", "short", "no part", "no manifest", "manifest"])
def test_a_damaged_backup_is_refused_before_anything_is_made(run: Run, tmp_path: Path, how: str) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings())
        backup = await backed_up(it)
        damaged(tmp_path, backup.id, how)
        before = await it.indexes.list_indexes(), await it.store.keys(), await it.jobs.list()
        with pytest.raises(FailedPrecondition) as caught:
            await it.backups.create_index_from_backup(backup.id, RestoreSettings("again"))
        assert str(tmp_path) not in caught.value.reason
        assert (await it.indexes.list_indexes(), await it.store.keys(), await it.jobs.list()) == before
        await it.backups.delete_backup(backup.id)

    run(work)


# --- listings --------------------------------------------------------------------------------------------------------


async def pages(list_page: Callable[[PageRequest], Coroutine[Any, Any, Any]], limit: int) -> list[list[Any]]:
    token, found = None, []
    while True:
        page = await list_page(PageRequest(token, None if token else limit))
        found.append([item.id for item in page.items])
        token = page.next
        if token is None:
            return found


def test_listings(run: Run) -> None:
    async def work(it: Copying) -> None:
        old = await it.indexes.create_index(settings())
        ids = [(await backed_up(it)).id for _ in range(3)]
        await it.indexes.delete_index("notes")
        assert (await it.backups.list_backups(PageRequest(), index="notes", deleted=True)).items != []
        with pytest.raises(NotFound):
            await it.backups.list_backups(PageRequest(), index="notes")
        new = await it.indexes.create_index(settings())
        await it.indexes.create_index(settings("other"))
        ids += [(await backed_up(it)).id, (await backed_up(it, "other")).id, (await backed_up(it)).id]
        ids.reverse()  # newest first

        async def of_index(page: PageRequest, deleted: bool = False) -> Any:
            return await it.backups.list_backups(page, index="notes", deleted=deleted)

        assert await pages(it.backups.list_backups, 4) == [ids[:4], ids[4:]]
        assert await pages(it.backups.list_backups, 6) == [ids]
        assert await pages(of_index, 1) == [[ids[0]], [ids[2]]]
        assert await pages(lambda page: of_index(page, True), 4) == [[ids[0], *ids[2:5]], [ids[5]]]
        sources = {record.source_index_id for record in (await of_index(PageRequest(), True)).items}
        assert sources == {old.id, new.id}
        for name, deleted in (("nothing", True), ("nothing", False)):
            with pytest.raises(NotFound):
                await it.backups.list_backups(PageRequest(), index=name, deleted=deleted)
        for bad in (PageRequest("x"), PageRequest(limit=0), PageRequest(limit=101)):
            with pytest.raises(InvalidRequest):
                await it.backups.list_backups(bad)

        jobs = [(await it.backups.create_index_from_backup(ids[0], RestoreSettings(f"r{n}")))[1].id for n in range(3)]
        assert await pages(it.backups.list_restore_jobs, 2) == [jobs[:0:-1], jobs[:1]]
        await it.ended()
        done = await it.backups.describe_restore_job(jobs[0])
        assert (done.status, done.percent, done.index_name) == (JobStatus.COMPLETED, 100, "r0")
        # One that goes while its page is read does not shift the next one.
        first = await it.backups.list_backups(PageRequest(limit=2))
        await it.backups.delete_backup(ids[1])
        second = await it.backups.list_backups(PageRequest(first.next, 2))
        assert [record.id for record in second.items] == ids[2:4]

    run(work)


# --- deletions, and jobs that are stopped on their way ---------------------------------------------------------------


class SlowIndex:
    """Lets so many batches through, and then waits."""

    def __init__(self, index: Index, passing: int, stuck: asyncio.Event, going_on: asyncio.Event) -> None:
        self._index = index
        self.left = passing
        self.stuck, self.going_on = stuck, going_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def upsert(self, namespace: str, batch: Sequence[Record]) -> int:
        await self._passed()
        return await self._index.upsert(namespace, batch)

    async def snapshot(self) -> SlowSnapshot:
        return SlowSnapshot(await self._index.snapshot(), self)

    async def _passed(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.going_on.is_set():
            self.stuck.set()
            await self.going_on.wait()


class SlowSnapshot:
    def __init__(self, snapshot: Any, index: SlowIndex) -> None:
        self._snapshot, self._slow = snapshot, index
        self.namespaces: Mapping[str, int] = snapshot.namespaces
        self.close = snapshot.close

    async def batches(self) -> AsyncIterator[tuple[str, Sequence[Record]]]:
        async for batch in self._snapshot.batches():
            await self._slow._passed()
            yield batch


@asynccontextmanager
async def slowed(it: Copying, monkeypatch: pytest.MonkeyPatch, passing: int = 1) -> AsyncIterator[asyncio.Event]:
    """Jobs get stuck after `passing` batches until the end; the event tells when. One job at a time."""
    stuck, going_on = asyncio.Event(), asyncio.Event()
    open_to_fill, open_index = it.indexes.open_to_fill, it.indexes.open_index

    def slow(index: Index) -> Any:
        return SlowIndex(index, passing, stuck, going_on)

    async def open_slow(name: str, id: str) -> Any:
        index = await open_to_fill(name, id)
        return None if index is None else slow(index)

    async def open_source(name: str) -> Any:
        opened = await open_index(name)
        return replace(opened, index=slow(opened.index))

    with monkeypatch.context() as patched:
        patched.setattr(it.indexes, "open_to_fill", open_slow)
        patched.setattr(it.indexes, "open_index", open_source)
        yield stuck
    going_on.set()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "backups").glob("*"))


def test_a_deleted_backup_is_gone(run: Run, tmp_path: Path) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings())
        backup, other = await backed_up(it), await backed_up(it)
        assert leftovers(tmp_path) == [backup.id, other.id]
        done = await asyncio.gather(*(it.backups.delete_backup(backup.id) for _ in range(5)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in done) == ["NoneType"] + ["NotFound"] * 4
        assert leftovers(tmp_path) == [other.id]
        assert [record.id for record in (await it.backups.list_backups(PageRequest())).items] == [other.id]

    run(work)


def test_a_backup_is_deleted_while_it_is_made(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings(), 5)
        async with slowed(it, monkeypatch) as stuck:
            running, waiting = [await it.backups.create_backup("notes") for _ in range(2)]
            await stuck.wait()
            for backup in (running, waiting):
                with pytest.raises(FailedPrecondition, match="not ready"):
                    await it.backups.create_index_from_backup(backup.id, RestoreSettings("again"))
                await it.backups.delete_backup(backup.id)
                with pytest.raises(NotFound):
                    await it.backups.describe_backup(backup.id)
            assert (await it.backups.list_backups(PageRequest())).items == []
        assert [job.status for job in await it.ended()] == [JobStatus.CANCELLED] * 2
        assert (await it.state.list_backups(), leftovers(tmp_path)) == ([], [])

    run(work)


def test_an_index_is_deleted_while_it_is_backed_up(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup that has begun is made; those that wait fail."""

    async def work(it: Copying) -> None:
        wanted = await everything(await filled(it, settings(), 5))
        it.jobs._max_running = 1
        async with slowed(it, monkeypatch) as stuck:
            running, waiting = [await it.backups.create_backup("notes") for _ in range(2)]
            await stuck.wait()
            await it.indexes.delete_index("notes")
        begun, late = await it.ended()
        assert (late.status, late.error) == (JobStatus.FAILED, "Index notes not found")
        assert (await it.backups.describe_backup(waiting.id)).status is CopyStatus.FAILED
        assert begun.status is JobStatus.COMPLETED
        assert leftovers(tmp_path) == [running.id]
        await restored(it, running.id, RestoreSettings("notes"))
        assert await everything(await it.index("notes")) == wanted

    run(work)


def test_an_index_is_not_seen_half_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Copying) -> None:
        wanted = await everything(await filled(it, settings()))
        backup = await backed_up(it)
        async with slowed(it, monkeypatch) as stuck:
            record, job = await it.backups.create_index_from_backup(backup.id, RestoreSettings("again"))
            await stuck.wait()
            assert await it.indexes.describe_index("again") == record
            with pytest.raises(NotFound):
                await it.indexes.open_index("again")
            with pytest.raises(NotFound):
                await it.backups.create_backup("again")
            for again in (it.indexes.create_index(settings("again")), it.indexes.create_index(settings("again"))):
                with pytest.raises(AlreadyExists):
                    await again
            half = await it.jobs.get(job.id)
            assert 0 < half.percent < 100
            assert half.status is JobStatus.RUNNING
            changed = await it.indexes.configure_index("again", IndexChange(tags={"a": "b"}))
            assert changed.status is IndexStatus.INITIALIZING
        await it.ended()
        assert (await it.indexes.describe_index("again")).tags == {"a": "b"}
        assert await everything(await it.index("again")) == wanted

    run(work)


@pytest.mark.parametrize("begun", [True, False])
def test_an_index_is_deleted_while_it_is_filled(run: Run, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings())
        backup = await backed_up(it)
        it.jobs._max_running = 1
        async with slowed(it, monkeypatch) as stuck:
            if not begun:
                await it.backups.create_index_from_backup(backup.id, RestoreSettings("before"))
            wanted = RestoreSettings("again", deletion_protection=True)
            _, job = await it.backups.create_index_from_backup(backup.id, wanted)
            await stuck.wait()
            with pytest.raises(Protected):
                await it.indexes.delete_index("again")
            await it.indexes.configure_index("again", IndexChange(deletion_protection=False))
            await it.indexes.delete_index("again")
            with pytest.raises(NotFound):
                await it.indexes.describe_index("again")
            # Its name is free at once.
            other = await it.indexes.create_index(settings("again"))
        await it.ended()
        assert (await it.jobs.get(job.id)).status is JobStatus.CANCELLED
        assert await it.indexes.describe_index("again") == other
        assert await everything(await it.index("again")) == {}
        assert len(await it.store.keys()) == (2 if begun else 3)

    run(work)


@pytest.mark.parametrize("used", [True, False])
def test_a_backup_is_deleted_while_it_is_restored(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    async def work(it: Copying) -> None:
        wanted = await everything(await filled(it, settings()))
        backup = await backed_up(it)
        async with slowed(it, monkeypatch) as stuck:
            made = [await it.backups.create_index_from_backup(backup.id, RestoreSettings(name)) for name in "ab"]
            await stuck.wait()
            if not used:
                ids = [job.id for _, job in made]
                with pytest.raises(FailedPrecondition) as caught:
                    await it.backups.delete_backup(backup.id)
                assert caught.value.reason.endswith(f"pending restore jobs for this backup: {ids}")
                assert await it.backups.describe_backup(backup.id) == backup
            else:
                await it.backups.delete_backup(backup.id, used=True)
                with pytest.raises(NotFound):
                    await it.backups.describe_backup(backup.id)
                with pytest.raises(NotFound):
                    await it.backups.create_index_from_backup(backup.id, RestoreSettings("c"))
        await it.ended()
        for name in "ab":
            assert await everything(await it.index(name)) == wanted
        assert leftovers(tmp_path) == ([] if used else [backup.id])
        assert len(await it.state.list_backups()) == (not used)

    run(work)


def test_a_backup_that_spoils_under_its_job(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings())
        backup = await backed_up(it)
        check = it.copies.check

        async def check_and_spoil(id: str) -> None:
            await check(id)
            damaged(tmp_path, id, "short")

        monkeypatch.setattr(it.copies, "check", check_and_spoil)
        record, job = await it.backups.create_index_from_backup(backup.id, RestoreSettings("again"))
        ended = await it.jobs.wait(job.id)
        assert ended.status is JobStatus.FAILED
        assert "damaged" in (ended.error or "")
        assert (await it.indexes.describe_index("again")).status is IndexStatus.FAILED
        assert record.id not in await it.store.keys()
        with pytest.raises(NotFound):
            await it.indexes.open_index("again")
        # It is seen to have failed until it is deleted, or made anew.
        after = Copying(it.state, it.store, tmp_path)
        await after.start()
        assert (await after.indexes.describe_index("again")).status is IndexStatus.FAILED
        await after.indexes.delete_index("again")
        await after.indexes.create_index(settings("again"))
        await after.close()

    run(work)


# --- restarts --------------------------------------------------------------------------------------------------------


async def restarted(it: Copying, folder: Path) -> Copying:
    """What follows on `it`, which is stopped as a server is."""
    await it.close()
    after = Copying(it.state, it.store, folder)
    await after.start()
    return after


def test_jobs_go_on_after_a_restart(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Copying) -> None:
        wanted = await everything(await filled(it, settings()))
        async with slowed(it, monkeypatch) as stuck:
            backups = [await it.backups.create_backup("notes") for _ in range(3)]
            await stuck.wait()
            it = await restarted(it, tmp_path)
        assert {job.status for job in await it.ended()} == {JobStatus.COMPLETED}
        async with slowed(it, monkeypatch, passing=2) as stuck:
            for number, backup in enumerate(backups):
                await it.backups.create_index_from_backup(backup.id, RestoreSettings(f"again{number}"))
            await stuck.wait()
            it = await restarted(it, tmp_path)
        jobs: list[JobRecord] = await it.ended()
        assert [job.error for job in jobs] == [None] * 6
        for number in range(3):
            assert await everything(await it.index(f"again{number}")) == wanted
        # A job whose own end was not written is done again, and changes nothing.
        for job in jobs:
            handle = it.backups._restore if job.index_name != "notes" else it.backups._back_up
            await handle(job, None)  # type: ignore[arg-type]
        await it.close()

    run(work)


@pytest.mark.parametrize("status", [CopyStatus.INITIALIZING, CopyStatus.TERMINATING])
def test_a_start_clears_up(run: Run, tmp_path: Path, status: CopyStatus) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings())
        kept, left = await backed_up(it), await backed_up(it)
        await it.state.change_backup(left.id, lambda record: replace(record, status=status))
        it = await restarted(it, tmp_path)
        assert await it.state.list_backups() == [kept]
        assert leftovers(tmp_path) == [kept.id]
        await it.close()

    run(work)


def test_a_deletion_goes_on_after_a_restart(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Copying) -> None:
        wanted = await everything(await filled(it, settings()))
        backup = await backed_up(it)
        async with slowed(it, monkeypatch) as stuck:
            unmade = await it.backups.create_backup("notes")
            await stuck.wait()
            stuck.clear()
            await it.backups.create_index_from_backup(backup.id, RestoreSettings("again"))
            await stuck.wait()
            await it.backups.delete_backup(backup.id, used=True)
            await it.backups.delete_backup(unmade.id)
            it = await restarted(it, tmp_path)
        await it.ended()
        assert await everything(await it.index("again")) == wanted
        assert (await it.state.list_backups(), leftovers(tmp_path)) == ([], [])
        await it.close()

    run(work)


def test_a_request_that_is_given_up_is_finished(run: Run) -> None:
    async def work(it: Copying) -> None:
        await filled(it, settings())
        for _ in range(10):
            asking = asyncio.create_task(it.backups.create_backup("notes"))
            for _ in range(random.Random(1).randrange(5)):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])

        async def all_made() -> bool:
            found = await it.state.list_backups()
            return all(record.status is CopyStatus.READY for record in found)

        await eventually(all_made)
        assert threading.active_count() < 100

    run(work)
