"""A process that makes backups, restores, collections or imports, one after another, until it is killed or may end.

It does with an index what a server does, without HTTP. What is left by whoever was killed before it, it looks at first:
nothing that answers may be half made.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pinyon.services import record_checks
from pinyon.services.archive_place import Place
from pinyon.services.backups import PageRequest, RestoreSettings
from pinyon.services.import_sources import Sources
from pinyon.services.imports import ImportService
from pinyon.state import CopyStatus, IndexStatus, JobKind, JobStatus, Pod, State
from pinyon.stores.edge import EdgeStore
from pinyon.stores.edge.index import EdgeIndex
from tests.services.copying import Copying, everything, records
from tests.services.import_files import DIMENSION, replaced, table, uri, vectors, write
from tests.services.index_settings import settings

NAMESPACES = 8
RECORDS = 60  # of each
GENRE = {"genre": {"filterable": True}}
# Files of an import, by their namespaces, and the rows of each. Every BAD-th row of each has no id.
FILES = {"n0/0": 250, "n0/1": 130, "n1/0": 90}
BAD = 40
BATCH = 50  # rows, where a server takes 1,000
BATCHES = sum(-(-rows // BATCH) for rows in FILES.values())

# Where a process may kill itself: before or behind one of so many first calls.
_JOB = [(State, "create_job", 1), (State, "change_job", 4)]
_WRITING = [(EdgeIndex, "snapshot", 1), (Place, "put", 1), (Place, "remove", 2)]
_FILLING = [
    (State, "create_index", 1),
    (EdgeStore, "create", 1),
    (EdgeIndex, "create_namespace", NAMESPACES),
    (EdgeIndex, "upsert", NAMESPACES),
    (State, "change_job", NAMESPACES),
    (State, "set_namespace_schema", 1),
    (State, "change_index", 1),
    (State, "delete_index", 1),
]
STEPS: dict[JobKind, list[tuple[Any, str, int]]] = {
    JobKind.BACKUP: [
        *_JOB, *_WRITING, (State, "create_backup", 1), (State, "change_backup", 2), (State, "delete_backup", 1),
    ],
    JobKind.RESTORE: [*_JOB, *_FILLING],
    JobKind.COLLECTION: [
        *_JOB, *_WRITING, *_FILLING, (State, "create_collection", 1), (State, "change_collection", 2),
        (State, "delete_collection", 1),
    ],
    JobKind.IMPORT: [
        *_JOB, (EdgeIndex, "namespaces", 2), (EdgeIndex, "upsert", BATCHES), (State, "change_job", BATCHES + 3),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a process is to do. It says ("left", how many jobs another has left), ("made", 0) after each that it made
    whole, and ("ended", 0) at the end of a life without a death."""

    folder: Path
    kind: JobKind
    step: int | None = None  # of STEPS; kills itself there,
    is_before: bool = False  # before the call and not behind it,
    passes: int = 0  # after having passed it so often
    ends: bool = False  # when there is nothing left to do


def prepare(folder: Path) -> None:
    """The index that is the source of all, and a backup of it."""
    asyncio.run(_prepare(folder))


async def _prepare(folder: Path) -> None:
    it = await _opened(folder)
    await it.start()
    await it.indexes.create_index(settings("source", dimension=4, deployment=Pod("e")))
    await it.indexes.create_index(settings("plain", dimension=4))
    for name in ("source", "plain"):
        index = await it.index(name)
        for number in range(NAMESPACES):
            ids = [f"{number}-{n}" for n in range(RECORDS)]
            await index.upsert(f"space{number}", records(number, ids, 4))
        await index.create_namespace("empty")
        record = await it.indexes.describe_index(name)
        await it.state.set_namespace_schema(record.id, "empty", GENRE)
    for name, rows in FILES.items():
        ids = replaced([f"{name}-{n}" for n in range(rows)], **{f"_{n}": "" for n in range(0, rows, BAD)})
        write(folder / "files" / f"{name}.parquet", table(rows, id=ids, seed=rows), 70)
    await it.backups.create_backup("plain", "first")
    assert [job.status for job in await it.ended()] == [JobStatus.COMPLETED]
    await _closed(it)


class Working(Copying):
    def __init__(self, state: State, folder: Path) -> None:
        super().__init__(state, EdgeStore(folder / "indexes", reserve=0), folder)
        self.files = folder / "files"
        self.imports = ImportService(self.jobs, self.indexes, Sources([str(self.files)]))
        self.jobs.handle(JobKind.IMPORT, self.imports.run)


async def _opened(folder: Path) -> Working:
    return Working(await State.open(f"sqlite:///{folder}/state.db"), folder)


async def _closed(it: Working) -> None:
    await it.close()
    await it.store.close()
    await it.state.close()


def work_until_killed(said: Connection, plan: Plan) -> None:
    """In a process of its own."""
    record_checks.MAX_RECORDS = BATCH
    if plan.step is not None:
        _die_at(plan)
    asyncio.run(_work(said, plan))


async def _work(said: Connection, plan: Plan) -> None:
    it = await _opened(plan.folder)
    said.send(("left", len(await it.state.unfinished_jobs())))
    await it.indexes.start()
    await it.backups.start()
    await it.collections.start()
    wanted = await everything(await it.index("plain"))
    await _check_whole(it, wanted)
    await it.jobs.start()
    for job in await it.state.unfinished_jobs():
        ended = await it.jobs.wait(job.id)
        assert ended.status is JobStatus.COMPLETED, ended
    await _check_whole(it, wanted)
    await _check_nothing_else(it, plan.folder)
    await _forget(it)
    said.send(("made", 0))
    while not plan.ends:
        await _make(it, plan.kind)
        await _check_whole(it, wanted)
        await _forget(it)
        said.send(("made", 0))
    await _check_nothing_else(it, plan.folder)
    await _closed(it)
    said.send(("ended", 0))


async def _make(it: Working, kind: JobKind) -> None:
    if kind is JobKind.BACKUP:
        await it.backups.create_backup("plain")
    elif kind is JobKind.IMPORT:
        await it.indexes.create_index(settings("imported", dimension=DIMENSION))
        await it.imports.start_import("imported", uri(it.files), on_error="continue")
    elif kind is JobKind.RESTORE:
        [first] = (await it.backups.list_backups(PageRequest())).items
        await it.backups.create_index_from_backup(first.id, RestoreSettings("made", {"a": "b"}))
    else:
        await it.collections.create_collection("old", "source")
        await it.ended()
        made = settings("made", dimension=4, source_collection="old")
        await it.collections.create_index(made)
    assert {job.status for job in await it.ended()} == {JobStatus.COMPLETED}


async def _check_whole(it: Working, wanted: dict[str, list[Any]]) -> None:
    """All that says of itself that it is ready is."""
    for record in await it.indexes.list_indexes():
        if record.name == "imported":
            if record.status is IndexStatus.READY:
                await _check_import(it)
        elif record.status is IndexStatus.READY:
            assert await everything(await it.index(record.name)) == wanted
            assert await it.state.namespace_schemas(record.id) == {"empty": GENRE}
    for backup in await it.state.list_backups():
        if backup.status is CopyStatus.READY:
            assert (backup.record_count, backup.namespace_count) == (NAMESPACES * RECORDS, NAMESPACES + 1)
            await it.copies.check(backup.id)
    for collection in await it.collections.list_collections():
        if collection.status is CopyStatus.READY:
            assert collection.vector_count == NAMESPACES * RECORDS
            await it.copies.check(collection.id)


async def _check_import(it: Working) -> None:
    """What has been imported is as it stands in the files, and is all that the import says; in the end it is all."""
    index = await it.index("imported")
    counts = await index.namespaces()
    found = 0
    for name, rows in FILES.items():
        namespace = name.partition("/")[0]
        good = [n for n in range(rows) if n % BAD]
        right = vectors(rows, seed=rows)
        for at in range(0, len(good), BATCH):
            ids = {f"{name}-{n}": n for n in good[at : at + BATCH]}
            for id, record in (await index.fetch(namespace, list(ids))).items():
                assert record.values is not None and np.array_equal(record.values, right[ids[id]])
                assert record.metadata == {"n": ids[id], "tags": ["a", "b"]}
                found += 1
    assert found == sum(counts.values())
    for job in (await it.imports.list_imports("imported", token=None, limit=None)).imports:
        assert job.status in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.COMPLETED)
        assert job.imported <= found <= job.imported + BATCH
        if job.status is JobStatus.COMPLETED:
            bad = sum(len(range(0, rows, BAD)) for rows in FILES.values())
            assert (job.imported, job.failed, job.percent) == (sum(FILES.values()) - bad, bad, 100)
            assert found == job.imported


async def _check_nothing_else(it: Working, folder: Path) -> None:
    """When no job is left, all is ready, and nothing lies about that belongs to nobody."""
    indexes, backups = await it.indexes.list_indexes(), await it.state.list_backups()
    collections = await it.collections.list_collections()
    assert {record.status for record in indexes} == {IndexStatus.READY}
    assert {record.status for record in backups} == {CopyStatus.READY}
    assert {record.status for record in collections} <= {CopyStatus.READY}
    assert sorted(record.id for record in indexes) == await it.store.keys()
    archives = {path.name for path in (folder / "backups").iterdir()}
    assert archives == {backup.id for backup in backups} | {collection.id for collection in collections}


async def _forget(it: Working) -> None:
    """All but what `prepare` has made."""
    for record in await it.indexes.list_indexes():
        if record.name in ("made", "imported"):
            await it.indexes.delete_index(record.name)
    for backup in await it.state.list_backups():
        if backup.name != "first":
            await it.backups.delete_backup(backup.id)
    for collection in await it.collections.list_collections():
        await it.collections.delete_collection(collection.name)


def _die_at(plan: Plan) -> None:
    assert plan.step is not None
    owner, name, _ = STEPS[plan.kind][plan.step]
    whole = getattr(owner, name)
    passes = plan.passes

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def is_over() -> bool:
        nonlocal passes
        passes -= 1
        return passes < 0

    def call(*arguments: Any, **named: Any) -> Any:
        over = is_over()
        if over and plan.is_before:
            die()
        result = whole(*arguments, **named)
        if over:
            die()
        return result

    async def call_async(*arguments: Any, **named: Any) -> Any:
        over = is_over()
        if over and plan.is_before:
            die()
        result = await whole(*arguments, **named)
        if over:
            die()
        return result

    setattr(owner, name, call_async if inspect.iscoroutinefunction(whole) else call)
