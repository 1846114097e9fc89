"""Backups and restore jobs: what is kept, what comes back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from pinyon.services.backups import PageRequest, RestoreSettings
from pinyon.services.index_rules import IndexChange, OnDemand
from pinyon.state import (
    Byoc,
    CopyStatus,
    Embed,
    IndexSettings,
    JobStatus,
    Pod,
    VectorType,
)
from pinyon.types import Metric
from tests.services.copying import (
    Copying,
    Run,
    backed_up,
    damaged,
    everything,
    filled,
    records,
    restored,
)
from tests.services.index_settings import READS, settings

GENRE = {"genre": {"filterable": True}}


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
