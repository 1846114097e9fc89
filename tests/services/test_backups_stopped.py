"""Backups and restore jobs that are deleted, stopped or restarted on their way."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.errors import AlreadyExists, FailedPrecondition, NotFound, Protected
from pinyon.services.backups import PageRequest, RestoreSettings
from pinyon.services.index_rules import IndexChange
from pinyon.state import (
    CopyStatus,
    IndexStatus,
    JobRecord,
    JobStatus,
)
from pinyon.stores.base import Index, Record
from tests.services.copying import (
    Copying,
    Run,
    backed_up,
    damaged,
    eventually,
    everything,
    filled,
    restarted,
    restored,
)
from tests.services.index_settings import settings

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
