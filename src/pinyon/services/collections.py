"""create_collection, list_collections, describe_collection, delete_collection, and indexes that are made from one.

A collection is a static copy of an index of pods: a row of the state and an archive, as a backup is. Jobs of the same
kind make it and make indexes of it; `collection` in a job's request is one to make, `source_collection` one to read.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pinyon.errors import FailedPrecondition, InvalidRequest, NotFound
from pinyon.services import index_rules
from pinyon.services.copies import Copies, Copy, Row
from pinyon.services.indexes import IndexService
from pinyon.services.jobs import Jobs, Report
from pinyon.state import (
    CollectionRecord,
    CopyStatus,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobKind,
    JobRecord,
    Pod,
)

if TYPE_CHECKING:
    from pinyon.state import State


class CollectionService:
    """The collections of one server. `start` before the start of its jobs."""

    def __init__(self, state: State, indexes: IndexService, jobs: Jobs, copies: Copies) -> None:
        self._state = state
        self._indexes = indexes
        self._jobs = jobs
        self._copies = copies
        # Whether a collection is used must stay true until it is deleted, or used.
        self._using = asyncio.Lock()
        jobs.handle(JobKind.COLLECTION, self._run)

    async def start(self) -> None:
        """Clears up what a crash left: a deletion is finished, and a collection that was never answered is deleted."""
        unfinished = {job.request["id"] for job in await self._unfinished()}
        for record in await self._state.list_collections():
            await self._copies.clear_up(self._row(record.id, record.name), record.status, unfinished)

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def create_collection(self, name: str, source: str) -> CollectionRecord:
        """A new collection of the index `source`, INITIALIZING. Raises InvalidRequest (also for an index without pods),
        NotFound, AlreadyExists, Overloaded, Unavailable."""
        index_rules.check_name(name)
        return await self._indexes.whole(self._create(name, source))

    async def _create(self, name: str, source: str) -> CollectionRecord:
        index = await self._indexes.describe_index(source)
        if index.status is not IndexStatus.READY:
            raise NotFound(f"Index {source} not found", "index", source)
        pod = index.deployment
        if not isinstance(pod, Pod):
            raise InvalidRequest("must be an index of pods: others do not support collections", ("source",))
        record = await self._state.create_collection(name, source=index, environment=pod.environment)
        try:
            request = {"collection": name, "id": record.id}
            await self._jobs.submit(JobKind.COLLECTION, request=request, index_id=index.id, index_name=index.name)
        except Exception:
            await self._state.delete_collection(name)
            raise
        return record

    async def list_collections(self) -> list[CollectionRecord]:
        """By rising name."""
        return await self._state.list_collections()

    async def describe_collection(self, name: str) -> CollectionRecord:
        """Raises NotFound."""
        return await self._state.get_collection(name)

    async def delete_collection(self, name: str) -> None:
        """Raises NotFound, InvalidRequest (indexes are being made from it), Unavailable."""
        await self._indexes.whole(self._delete(name))

    async def _delete(self, name: str) -> None:
        async with self._using:
            record = await self._state.get_collection(name)
            jobs = [job for job in await self._unfinished() if job.request["id"] == record.id]
            if filled := [job.index_name for job in jobs if "source_collection" in job.request]:
                raise InvalidRequest(f"Unable to delete collection. Indexes are being made from it: {filled}")
            row = self._row(record.id, name)
            was = await self._copies.terminate(row)
            ended = [(await self._jobs.cancel(job.id)).status.is_final for job in jobs]
            if all(ended) or was in (CopyStatus.READY, CopyStatus.FAILED):
                await self._copies.remove(row)
            # Else its job is still at it, and removes it.

    async def create_index(self, settings: IndexSettings) -> IndexRecord:
        """A new index, INITIALIZING, from `settings.source_collection`. Raises as `IndexService.create_index`, and
        FailedPrecondition (the collection is not ready, or damaged), Overloaded."""
        assert settings.source_collection is not None
        settings = index_rules.checked_settings(settings)
        collection = await self._fitting(settings)
        await self._copies.check(collection.id)
        return await self._indexes.whole(self._create_index(collection, settings))

    async def _create_index(self, collection: CollectionRecord, settings: IndexSettings) -> IndexRecord:
        request = {"source_collection": collection.name, "id": collection.id}

        async def submit(record: IndexRecord) -> JobRecord:
            return await self._jobs.submit(
                JobKind.COLLECTION, request=request, index_id=record.id, index_name=record.name
            )

        async with self._using:
            if (await self._fitting(settings)).id != collection.id:
                raise FailedPrecondition(f"Collection {collection.name} was deleted meanwhile")
            record, _ = await self._indexes.create_index_from_source(settings, submit)
            return record

    async def _fitting(self, settings: IndexSettings) -> CollectionRecord:
        """The collection, if an index of such settings can be made from it."""
        assert settings.source_collection is not None
        record = await self._state.get_collection(settings.source_collection)
        if record.status is CopyStatus.TERMINATING:
            raise NotFound(f"Collection {record.name} not found", "collection", record.name)
        for part in ("vector_type", "dimension", "metric"):
            needed = getattr(record.settings, part)
            if getattr(settings, part) != needed:
                raise InvalidRequest(f"must be the collection's, {needed}", (part,))
        if record.status is not CopyStatus.READY:
            raise FailedPrecondition(f"Collection {record.name} is not ready: it is {record.status.value}")
        return record

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def _run(self, job: JobRecord, report: Report) -> None:
        if "source_collection" in job.request:
            await self._copies.restore(job, job.request["id"], report)
        else:
            await self._collect(job, report)

    async def _collect(self, job: JobRecord, report: Report) -> None:
        def finished(record: CollectionRecord, copy: Copy) -> CollectionRecord:
            return replace(
                record,
                settings=copy.settings,
                vector_count=copy.archive.record_count,
                size_bytes=copy.archive.size_bytes,
            )

        row = self._row(job.request["id"], job.request["collection"])
        await self._copies.make(job, row, finished, report)

    def _row(self, id: str, name: str) -> Row[CollectionRecord]:
        """Another collection may have the name by now."""
        state = self._state

        async def read() -> CollectionRecord:
            record = await state.get_collection(name)
            if record.id != id:
                raise NotFound(f"Collection {name} not found", "collection", name)
            return record

        return Row(id, read, partial(state.change_collection, name), partial(state.delete_collection, name))

    async def _unfinished(self) -> list[JobRecord]:
        return [job for job in await self._state.unfinished_jobs() if job.kind is JobKind.COLLECTION]
