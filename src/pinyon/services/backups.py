"""create_backup, list_backups, describe_backup, delete_backup, create_index_from_backup, and restore jobs.

A backup is a row of the state and an archive of the same id. As with indexes, the row is written first and deleted
last. A job writes the archive, another one fills an index from it; what a crash leaves of them is gone on with, or
cleared up at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from pinyon.errors import FailedPrecondition, InvalidRequest, NotFound
from pinyon.services import index_rules
from pinyon.services.copies import Copies, Copy, Row
from pinyon.services.index_rules import OnDemand
from pinyon.services.indexes import IndexService
from pinyon.services.jobs import Jobs, Report
from pinyon.services.paging import make_token, read_token
from pinyon.state import (
    BackupRecord,
    CopyStatus,
    Dedicated,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobKind,
    JobRecord,
    Pod,
)

if TYPE_CHECKING:
    from pinyon.state import State

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page of a listing: `default` long if neither `limit` nor `token` says how long, `highest` at most."""

    token: str | None = None
    limit: int | None = None
    default: int = 100
    highest: int = 100


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next` is the token of the next one; None on the last."""

    items: Sequence[T]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    """What may differ from the index that was backed up. None: as that was."""

    name: str
    tags: Mapping[str, str] | None = None
    deletion_protection: bool = False
    read_capacity: Dedicated | OnDemand | None = None


class BackupService:
    """The backups of one server. `start` before the start of its jobs."""

    def __init__(self, state: State, indexes: IndexService, jobs: Jobs, copies: Copies) -> None:
        self._state = state
        self._indexes = indexes
        self._jobs = jobs
        self._copies = copies
        # Whether a backup is used must stay true until it is deleted, or used.
        self._using = asyncio.Lock()
        self._restored: set[str] = set()  # jobs that need their backup no more, and may not be seen to have ended yet
        jobs.handle(JobKind.BACKUP, self._back_up)
        jobs.handle(JobKind.RESTORE, self._restore)

    async def start(self) -> None:
        """Clears up what a crash left: a deletion is finished, and a backup that was never answered is deleted."""
        unfinished = {job.request["backup_id"] for job in await self._unfinished(JobKind.BACKUP, JobKind.RESTORE)}
        for record in await self._state.list_backups():
            await self._copies.clear_up(self._row(record.id), record.status, unfinished)

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def create_backup(self, index: str, name: str | None = None, description: str | None = None) -> BackupRecord:
        """A new backup, INITIALIZING, which will hold all that has been written by now, and may hold more. Raises
        NotFound, InvalidRequest (an index of pods), Overloaded, Unavailable."""
        return await self._indexes.whole(self._create(index, name, description))

    async def _create(self, index: str, name: str | None, description: str | None) -> BackupRecord:
        source = await self._indexes.describe_index(index)
        if source.status is not IndexStatus.READY:
            raise NotFound(f"Index {index} not found", "index", index)
        if isinstance(source.deployment, Pod):
            raise InvalidRequest(f"Index {index} has pods: a collection can be made of it, a backup cannot")
        schemas = await self._state.namespace_schemas(source.id)
        record = await self._state.create_backup(
            source, schemas=schemas, name=name, description=description, tags=source.tags
        )
        try:
            await self._jobs.submit(
                JobKind.BACKUP, request={"backup_id": record.id}, index_id=source.id, index_name=source.name
            )
        except Exception:
            await self._state.delete_backup(record.id)
            raise
        return record

    async def list_backups(
        self, page: PageRequest, *, index: str | None = None, deleted: bool = False
    ) -> Page[BackupRecord]:
        """Newest first; those of one index, or, with `deleted`, of all that ever had its name. Raises NotFound,
        InvalidRequest."""
        id = None
        if index is not None:
            try:
                id = (await self._indexes.describe_index(index)).id
            except NotFound:
                if not deleted or not await self._state.list_backups(index_name=index, limit=1):
                    raise

        async def listed(after: str | None, limit: int) -> list[BackupRecord]:
            if deleted:
                return await self._state.list_backups(index_name=index, after=after, limit=limit)
            return await self._state.list_backups(index_id=id, after=after, limit=limit)

        return await _paged(page, listed, lambda record: record.id, _is_seen)

    async def describe_backup(self, id: str) -> BackupRecord:
        """Raises NotFound."""
        record = await self._state.get_backup(id)
        if not _is_seen(record):
            raise NotFound(f"Backup {id} not found", "backup", id)
        return record

    async def delete_backup(self, id: str, *, used: bool = False) -> None:
        """With `used`, one that indexes are being made from goes when they have been made. Raises NotFound,
        FailedPrecondition (it is used), Unavailable."""
        await self._indexes.whole(self._delete(id, used))

    async def _delete(self, id: str, used: bool) -> None:
        async with self._using:
            await self.describe_backup(id)
            restoring = [job.id for job in await self._unfinished(JobKind.RESTORE) if job.request["backup_id"] == id]
            if restoring and not used:
                raise FailedPrecondition(
                    f"Unable to delete backup. There are pending restore jobs for this backup: {restoring}"
                )
            was = await self._copies.terminate(self._row(id))
            if was is CopyStatus.INITIALIZING and not await self._cancelled(id):
                return  # its job is still at it, and removes it
            if not restoring:
                await self._copies.remove(self._row(id))

    async def create_index_from_backup(self, id: str, wanted: RestoreSettings) -> tuple[IndexRecord, JobRecord]:
        """A new index, INITIALIZING, and the job that fills it. Raises NotFound, InvalidRequest, AlreadyExists,
        FailedPrecondition (the backup is not ready, or damaged), Overloaded, Unavailable."""
        backup = await self._ready(id)
        settings = index_rules.checked_settings(_restored(backup, wanted))
        await self._copies.check(id)
        return await self._indexes.whole(self._create_index(id, settings))

    async def _create_index(self, id: str, settings: IndexSettings) -> tuple[IndexRecord, JobRecord]:
        async def submit(record: IndexRecord) -> JobRecord:
            return await self._jobs.submit(
                JobKind.RESTORE, request={"backup_id": id}, index_id=record.id, index_name=record.name
            )

        async with self._using:
            await self._ready(id)
            return await self._indexes.create_index_from_source(settings, submit)

    async def list_restore_jobs(self, page: PageRequest) -> Page[JobRecord]:
        """Newest first. Raises InvalidRequest."""

        async def listed(after: str | None, limit: int) -> Sequence[JobRecord]:
            return await self._jobs.list(JobKind.RESTORE, after=after, limit=limit)

        return await _paged(page, listed, lambda job: job.id, lambda job: True)

    async def describe_restore_job(self, id: str) -> JobRecord:
        """Raises NotFound."""
        try:
            return await self._jobs.get(id, JobKind.RESTORE)
        except NotFound:
            raise NotFound(f"Restore job {id} not found", "restore job", id) from None

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def _back_up(self, job: JobRecord, report: Report) -> None:
        def finished(record: BackupRecord, copy: Copy) -> BackupRecord:
            return replace(
                record,
                settings=copy.settings,
                tags=copy.settings.tags,
                schemas=copy.schemas,
                record_count=copy.archive.record_count,
                namespace_count=len(copy.archive.namespaces),
                size_bytes=copy.archive.size_bytes,
            )

        await self._copies.make(job, self._row(job.request["backup_id"]), finished, report)

    async def _restore(self, job: JobRecord, report: Report) -> None:
        id: str = job.request["backup_id"]
        try:
            await self._copies.restore(job, id, report)
        except Exception:
            await self._remove_if_unused(id, job)
            raise
        await self._remove_if_unused(id, job)

    async def _remove_if_unused(self, id: str, ended: JobRecord) -> None:
        """Finishes a deletion that waited for `ended`, and for no other job."""
        self._restored.add(ended.id)
        async with self._using:
            restoring = await self._unfinished(JobKind.RESTORE)
            self._restored &= {job.id for job in restoring}
            with suppress(NotFound):
                record = await self._state.get_backup(id)
                unfinished = {job.id for job in restoring if job.request["backup_id"] == id}
                if record.status is CopyStatus.TERMINATING and unfinished <= self._restored:
                    await self._copies.remove(self._row(id))

    # --- parts -------------------------------------------------------------------------------------------------------

    async def _ready(self, id: str) -> BackupRecord:
        record = await self.describe_backup(id)
        if record.status is not CopyStatus.READY:
            raise FailedPrecondition(f"Backup {id} is not ready: it is {record.status.value}")
        return record

    async def _cancelled(self, id: str) -> bool:
        """Whether nobody writes the backup any more."""
        jobs = [job for job in await self._unfinished(JobKind.BACKUP) if job.request["backup_id"] == id]
        return all([(await self._jobs.cancel(job.id)).status.is_final for job in jobs])

    async def _unfinished(self, *kinds: JobKind) -> list[JobRecord]:
        return [job for job in await self._state.unfinished_jobs() if job.kind in kinds]

    def _row(self, id: str) -> Row[BackupRecord]:
        state = self._state
        return Row(
            id, partial(state.get_backup, id), partial(state.change_backup, id), partial(state.delete_backup, id)
        )


def _is_seen(record: BackupRecord) -> bool:
    return record.status is not CopyStatus.TERMINATING


def _restored(backup: BackupRecord, wanted: RestoreSettings) -> IndexSettings:
    settings = replace(
        backup.settings,
        name=wanted.name,
        deletion_protection=wanted.deletion_protection,
        source_collection=None,
        source_backup_id=backup.id,
    )
    if wanted.tags is not None:
        settings = replace(settings, tags=wanted.tags)
    match wanted.read_capacity:
        case OnDemand():
            settings = replace(settings, read_capacity=None)
        case Dedicated() as capacity:
            settings = replace(settings, read_capacity=capacity)
    return settings


async def _paged(
    page: PageRequest,
    listed: Callable[[str | None, int], Awaitable[Sequence[T]]],
    id_of: Callable[[T], str],
    is_seen: Callable[[T], bool],
) -> Page[T]:
    after, limit = read_token(page.token, page.limit, default=page.default, highest=page.highest)
    seen: list[T] = []
    # One more than asked for tells whether there is another page.
    while len(seen) <= limit:
        rows = await listed(after, limit + 1)
        seen += filter(is_seen, rows)
        if len(rows) <= limit:
            break
        after = id_of(rows[-1])
    more = make_token(id_of(seen[limit - 1]), limit) if len(seen) > limit else None
    return Page(seen[:limit], more)
