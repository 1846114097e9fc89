"""What backups and collections have in common: a row that says how far a copy has come, an index's content to an
archive, and an archive's into a new index.

Both are done by jobs, and can be done again from where the last report was: an archive is written anew, since another
moment of the index would not fit to what is there; of records that are restored, each may be written twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from pinyon.errors import FailedPrecondition, NotFound, Unavailable
from pinyon.services.archive_place import Place
from pinyon.services.indexes import IndexService, OpenIndex
from pinyon.services.jobs import JobCancelled, Report
from pinyon.state import BackupRecord, CollectionRecord, CopyStatus, IndexSettings, IndexStatus, JobRecord
from pinyon.state.records import Schema
from pinyon.stores.base import Index

if TYPE_CHECKING:
    from pinyon.services.archives import Archive, ArchiveInfo
    from pinyon.state import State

logger = logging.getLogger("pinyon.copies")

R = TypeVar("R", BackupRecord, CollectionRecord)


@dataclass(frozen=True, slots=True)
class Copy:
    """An archive, and what its index was like then. `schemas` are its namespaces', by their names."""

    archive: ArchiveInfo
    settings: IndexSettings
    schemas: Mapping[str, Schema]


@dataclass(frozen=True, slots=True)
class Row(Generic[R]):
    """What the state remembers of a copy. Each raises NotFound if that is gone."""

    id: str  # of the archive too
    read: Callable[[], Awaitable[R]]
    change: Callable[[Callable[[R], R]], Awaitable[R]]
    forget: Callable[[], Awaitable[None]]


class Copies:
    """Archives of the indexes of one server, in one place (see `archive_place.Place`)."""

    def __init__(self, state: State, indexes: IndexService, where: str) -> None:
        self._state = state
        self._indexes = indexes
        self._place = Place(where)

    async def clear_up(self, row: Row[R], was: CopyStatus, unfinished: Collection[str]) -> None:
        """After a crash: finishes a deletion, and deletes a copy whose making was never answered. `unfinished` are the
        copies that jobs are still there for."""
        if was in (CopyStatus.INITIALIZING, CopyStatus.TERMINATING) and row.id not in unfinished:
            await self.remove(row)
            logger.info("cleared up", extra={"copy": row.id, "was": was.value})

    async def make(self, job: JobRecord, row: Row[R], finished: Callable[[R, Copy], R], report: Report) -> None:
        """The work of a job that makes a copy; `finished` gives the row what is known of it then."""
        try:
            record = await row.read()
        except NotFound:
            raise JobCancelled from None
        if record.status is CopyStatus.READY:
            return  # all but the job's own end was there before a restart
        try:
            if record.status is CopyStatus.TERMINATING:
                raise JobCancelled
            copy = await self.write(job, row.id, report)

            def ready(record: R) -> R:
                if record.status is CopyStatus.TERMINATING:
                    raise JobCancelled
                return replace(finished(record, copy), status=CopyStatus.READY)

            await row.change(ready)
        except Exception:
            if (await row.read()).status is CopyStatus.TERMINATING:
                await self.remove(row)
                raise JobCancelled from None
            await row.change(lambda record: replace(record, status=CopyStatus.FAILED))
            with suppress(Unavailable):  # it goes with its row
                await self.delete(row.id)
            raise

    async def terminate(self, row: Row[R]) -> CopyStatus:
        """What follows is `remove`, by whoever is done with it last. Gives what it was before."""
        was = CopyStatus.TERMINATING

        def terminating(record: R) -> R:
            nonlocal was
            was = record.status
            return replace(record, status=CopyStatus.TERMINATING)

        await row.change(terminating)
        return was

    async def remove(self, row: Row[R]) -> None:
        """The archive, then what is remembered of it. Raises Unavailable."""
        await self.delete(row.id)
        await row.forget()

    async def write(self, job: JobRecord, id: str, report: Report) -> Copy:
        """The archive `id` of the job's index as it is now. Raises NotFound if the index is gone, Unavailable."""
        opened = await self._source(job)
        settings = settings_of(opened.record)
        schemas = await self._state.namespace_schemas(opened.record.id)
        about = {"settings": msgspec.to_builtins(settings), "schemas": schemas}
        await _import_archives()
        from pinyon.services.archives import write_archive

        snapshot = await opened.index.snapshot()
        try:
            info = await write_archive(self._place, id, snapshot, about, report)
        finally:
            await snapshot.close()
        return Copy(info, settings, schemas)

    async def delete(self, id: str) -> None:
        """An unknown one is no error. Raises Unavailable."""
        await _import_archives()
        from pinyon.services.archives import delete_archive

        await delete_archive(self._place, id)

    async def check(self, id: str) -> None:
        """Reads the whole archive. Raises FailedPrecondition if it is damaged, Unavailable."""
        await self._opened(id)

    async def _opened(self, id: str) -> Archive:
        await _import_archives()
        from pinyon.services.archives import open_archive

        return await open_archive(self._place, id)

    async def _source(self, job: JobRecord) -> OpenIndex:
        assert job.index_name is not None
        opened = await self._indexes.open_index(job.index_name)
        if opened.record.id != job.index_id:
            raise NotFound(f"Index {job.index_name} not found", "index", job.index_name)
        return opened

    async def restore(self, job: JobRecord, id: str, report: Report) -> None:
        """Fills the job's index from the archive `id`, and makes it ready; or else it is seen to have failed."""
        assert job.index_name is not None and job.index_id is not None
        try:
            index = await self._indexes.open_to_fill(job.index_name, job.index_id)
            if index is None:
                return await self._nothing_to_fill(job)
            archive = await self._opened(id)
            await _fill(index, archive, job, report)
            for namespace, schema in archive.description["schemas"].items():
                await self._state.set_namespace_schema(job.index_id, namespace, schema)
            if not await self._indexes.finish_filling(job.index_name, job.index_id):
                raise JobCancelled
        except asyncio.CancelledError:
            raise  # the server is shutting down, and the next start goes on
        except Exception:
            if await self._is_gone(job):
                raise JobCancelled from None  # whatever it was, it came of that
            await self._indexes.fail_filling(job.index_name, job.index_id)
            raise

    async def _nothing_to_fill(self, job: JobRecord) -> None:
        """Returns if it was all done before a restart."""
        if await self._is_gone(job):
            raise JobCancelled
        assert job.index_name is not None
        record = await self._state.get_index(job.index_name)
        if record.status is not IndexStatus.READY:
            raise FailedPrecondition(f"Index {job.index_name} could not be filled")

    async def _is_gone(self, job: JobRecord) -> bool:
        assert job.index_name is not None
        try:
            record = await self._state.get_index(job.index_name)
        except NotFound:
            return True
        return record.id != job.index_id or record.status is IndexStatus.TERMINATING


async def _fill(index: Index, archive: Archive, job: JobRecord, report: Report) -> None:
    done: int = job.progress.get("records", 0)
    for namespace in archive.info.namespaces if not done else ():
        await index.create_namespace(namespace)  # empty ones too
    async for namespace, records in archive.batches(skip=done):
        await index.upsert(namespace, records)
        done += len(records)
        await report(100 * done / archive.info.record_count, {"records": done})


async def _import_archives() -> None:
    """Not before it is needed, and not on the event loop: pyarrow takes a fifth of a second."""
    await asyncio.to_thread(import_module, "pinyon.services.archives")


def settings_of(record: IndexSettings) -> IndexSettings:
    """The settings alone, of an index that has more."""
    return IndexSettings(**{field.name: getattr(record, field.name) for field in fields(IndexSettings)})
