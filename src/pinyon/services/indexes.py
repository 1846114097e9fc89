"""create_index, describe_index, list_indexes, configure_index, delete_index, open_index: the life of an index.

Two things must agree: the row in `state`, and the store's index, whose key is the row's id. The row is written first
and deleted last, and says how far the index has come, so that whatever a crash leaves can be seen and cleared up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from pinyon.catalog import Catalogue
from pinyon.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound, Protected, Unavailable
from pinyon.services import index_rules
from pinyon.services.index_rules import IndexChange, OnDemand
from pinyon.services.jobs import Jobs
from pinyon.state import (
    Dedicated,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobKind,
    JobRecord,
    Pod,
    VectorType,
)
from pinyon.stores.base import Index, Store

if TYPE_CHECKING:
    from pinyon.state import State

logger = logging.getLogger("pinyon.indexes")

T = TypeVar("T")

# Jobs that fill an index which is INITIALIZING. (A job for a collection may also be one that makes it, of an index that
# is READY.)
_FILLING = (JobKind.RESTORE, JobKind.COLLECTION)


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """An index that answers, with what is remembered of it."""

    record: IndexRecord
    index: Index


class Addresses(Protocol):
    """Where indexes answer clients, beside a path of the server."""

    async def open(self, record: IndexRecord) -> IndexRecord:
        """Clients can connect when it returns; gives the record as it is then, since its port may have to change."""
        ...

    async def close(self, record: IndexRecord) -> None:
        """No error for one that is not open."""
        ...


class NoAddresses:
    """Only a path."""

    async def open(self, record: IndexRecord) -> IndexRecord:
        return record

    async def close(self, record: IndexRecord) -> None:
        return


class IndexService:
    """The indexes of one server over one state and one store. `start` before the first request, `close` after the
    last.

    A change that has begun is finished, also when whoever asked for it goes away. `jobs` fill the indexes that are made
    from a source; None where there are no sources.
    """

    def __init__(
        self,
        state: State,
        store: Store,
        catalogue: Catalogue,
        addresses: Addresses | None = None,
        jobs: Jobs | None = None,
    ) -> None:
        self._state = state
        self._store = store
        self._catalogue = catalogue
        self._addresses = addresses or NoAddresses()
        self._jobs = jobs
        self._open: dict[str, OpenIndex] = {}
        # Changes to one index, by its name, one at a time.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._working: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Clears up what a crash left: a deletion is finished, and an index that was never answered is deleted. Gives
        the others their addresses, also those that a job will go on to fill. Before the start of the jobs."""
        filled = {job.index_id for job in await self._state.unfinished_jobs() if job.kind in _FILLING}
        for record in await self._state.list_indexes():
            is_filled = record.status is IndexStatus.INITIALIZING and record.id in filled
            if record.status is IndexStatus.READY or is_filled:
                await self._addresses.open(record)
            elif record.status is not IndexStatus.FAILED:  # that one stays, to be seen, until it is deleted
                await self._remove(record)
                logger.info("cleared up", extra={"index": record.name, "was": record.status.value})

    async def close(self) -> None:
        """Waits for what has begun. The state and the store are their owner's to close."""
        while self._working:
            await asyncio.wait(self._working)
        self._open.clear()

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def create_index(self, settings: IndexSettings) -> IndexRecord:
        """A new, empty index, ready. Raises InvalidRequest, AlreadyExists, NotFound (a cloud, a source), Unsupported,
        FailedPrecondition (no port left), Unavailable."""
        if settings.source_collection is not None:
            # Whoever has collections makes it from there: this one would be empty.
            name = settings.source_collection
            raise NotFound(f"Collection {name} not found", "collection", name)
        return await self.whole(self._create(index_rules.checked_settings(settings)))

    async def create_index_from_source(
        self, settings: IndexSettings, submit: Callable[[IndexRecord], Awaitable[JobRecord]]
    ) -> tuple[IndexRecord, JobRecord]:
        """A new index, INITIALIZING, and the job that fills it, which `submit` gives. Raises as `create_index`."""
        return await self.whole(self._create_to_be_filled(index_rules.checked_settings(settings), submit))

    async def create_index_for_model(self, settings: IndexSettings) -> IndexRecord:
        """`create_index` for `settings.embed`, which decides the vectors: what `settings` say of them is not read.

        Raises also NotFound for an unknown model, known ones may have no weights here yet.
        """
        embed = settings.embed
        if embed is None:
            raise InvalidRequest("is required", ("embed",))
        spec = self._catalogue.get(embed.model)
        embed = index_rules.checked_embed(embed, spec)
        assert embed.metric is not None
        return await self.create_index(
            replace(
                settings,
                embed=embed,
                vector_type=VectorType(spec.vector_type or "dense"),
                metric=embed.metric,
                dimension=embed.dimension,
            )
        )

    async def describe_index(self, name: str) -> IndexRecord:
        """Raises NotFound."""
        return await self._state.get_index(name)

    async def list_indexes(self) -> list[IndexRecord]:
        """By rising name."""
        return await self._state.list_indexes()

    async def configure_index(self, name: str, change: IndexChange) -> IndexRecord:
        """The index after the change. Raises NotFound (an index, a model), InvalidRequest, FailedPrecondition (it is
        being deleted)."""
        return await self.whole(self._configure(name, change))

    async def delete_index(self, name: str) -> None:
        """Cancels the jobs that write to it. Raises NotFound, Protected, FailedPrecondition (a collection is being made
        of it), Unavailable."""
        await self.whole(self._delete(name))

    async def open_index(self, name: str) -> OpenIndex:
        """An index for reading and writing: a look-up, once it was opened. Raises NotFound, Unavailable."""
        opened = self._open.get(name)
        if opened is not None and not opened.index.closed:
            return opened
        async with self._lock(name):
            opened = self._open.get(name)
            if opened is not None and not opened.index.closed:
                return opened
            record = await self._state.get_index(name)
            if record.status is not IndexStatus.READY:
                raise NotFound(f"Index {name} not found", "index", name)
            try:
                index = await self._store.open(record.id)
            except NotFound:
                raise Unavailable(f"The data of index {name} is not in this server's store") from None
            opened = self._open[name] = OpenIndex(record, index)
            return opened

    # --- an index that a job fills: all three do nothing where it is gone, or is another by now ----------------------

    async def open_to_fill(self, name: str, id: str) -> Index | None:
        """The store's index, for the job that fills it; None if there is nothing to fill (any more). Raises
        Unavailable."""
        return await self.whole(self._open_to_fill(name, id))

    async def _open_to_fill(self, name: str, id: str) -> Index | None:
        async with self._lock(name):
            record = await self._filled(name, id)
            if record is None:
                return None
            try:
                return await self._store.open(id)
            except NotFound:
                return await self._store.create(id, index_rules.layout_of(record))

    async def finish_filling(self, name: str, id: str) -> bool:
        """The index answers when it returns. Whether it does: False for one that was deleted meanwhile."""
        async with self._lock(name):
            if await self._filled(name, id) is None:
                return False
            await self._state.change_index(name, _ready)
            return True

    async def fail_filling(self, name: str, id: str) -> None:
        """The index is seen to have failed, and holds nothing."""
        await self.whole(self._fail_filling(name, id))

    async def _fail_filling(self, name: str, id: str) -> None:
        async with self._lock(name):
            record = await self._filled(name, id)
            if record is not None:
                await self._state.change_index(name, _failed)
                await self._addresses.close(record)
                await self._store.drop(id)

    async def _filled(self, name: str, id: str) -> IndexRecord | None:
        try:
            record = await self._state.get_index(name)
        except NotFound:
            return None
        return record if record.id == id and record.status is IndexStatus.INITIALIZING else None

    # --- changes, each under its index's lock ------------------------------------------------------------------------

    async def _create(self, settings: IndexSettings) -> IndexRecord:
        async with self._lock(settings.name):
            record = await self._remembered(settings)
            async with self._removed_on_error(record):
                index = await self._store.create(record.id, index_rules.layout_of(record))
                record = await self._addresses.open(record)
                record = await self._state.change_index(record.name, _ready)
            self._open[record.name] = OpenIndex(record, index)
            return record

    async def _create_to_be_filled(
        self, settings: IndexSettings, submit: Callable[[IndexRecord], Awaitable[JobRecord]]
    ) -> tuple[IndexRecord, JobRecord]:
        async with self._lock(settings.name):
            record = await self._remembered(settings)
            async with self._removed_on_error(record):
                # Before the job, so that clients are told no other address than the index will have.
                record = await self._addresses.open(record)
                return record, await submit(record)

    async def _remembered(self, settings: IndexSettings) -> IndexRecord:
        try:
            return await self._state.create_index(settings)
        except AlreadyExists:
            old = await self._state.get_index(settings.name)
            if old.status is IndexStatus.READY or await self._jobs_of(old, *_FILLING):
                raise
            # Nobody works on it, since we have the lock: an earlier call failed, and so did its clearing up.
            await self._remove(old)
            return await self._state.create_index(settings)

    @asynccontextmanager
    async def _removed_on_error(self, record: IndexRecord) -> AsyncIterator[None]:
        try:
            yield
        except Exception:
            try:
                await self._remove(record)
            except Exception:
                # The next create of this name, or the next start, tries again.
                logger.error("not cleared up", extra={"index": record.name})
            raise

    async def _configure(self, name: str, change: IndexChange) -> IndexRecord:
        async with self._lock(name):
            record = await self._state.change_index(name, lambda record: self._changed(record, change))
            if (opened := self._open.get(name)) is not None:
                self._open[name] = OpenIndex(record, opened.index)
            return record

    async def _delete(self, name: str) -> None:
        async with self._lock(name):
            record = await self._state.get_index(name)
            writing = await self._jobs_of(record, *_FILLING, JobKind.IMPORT)
            if record.status is IndexStatus.READY or (record.status is IndexStatus.INITIALIZING and writing):
                if record.deletion_protection:
                    raise Protected(
                        f"Deletion protection is enabled for index {name}. Disable it before deleting the index"
                    )
                if record.status is IndexStatus.READY:
                    await self._check_not_collected(record)
                record = await self._state.terminate_index(name)
            for job in writing:
                # First, or it would have failed for the lack of its index.
                if self._jobs is not None:
                    await self._jobs.cancel(job.id)
            await self._remove(record)

    async def _check_not_collected(self, record: IndexRecord) -> None:
        jobs = await self._jobs_of(record, JobKind.COLLECTION)
        if names := [job.request["collection"] for job in jobs if "collection" in job.request]:
            raise FailedPrecondition(
                f"Unable to delete an index. There are pending collections for this index: {names}"
            )

    async def _jobs_of(self, record: IndexRecord, *kinds: JobKind) -> list[JobRecord]:
        """Unfinished ones."""
        unfinished = await self._state.unfinished_jobs()
        return [job for job in unfinished if job.index_id == record.id and job.kind in kinds]

    async def _remove(self, record: IndexRecord) -> None:
        """The index's data, then what is remembered of it."""
        self._open.pop(record.name, None)
        await self._addresses.close(record)
        await self._store.drop(record.id)
        await self._state.delete_index(record.id)

    def _changed(self, record: IndexRecord, change: IndexChange) -> IndexRecord:
        """Pure: runs in a thread, inside the state's transaction."""
        kind = change.deployment
        if kind is not None and not isinstance(record.deployment, kind):
            deployed = type(record.deployment).__name__.lower()
            raise InvalidRequest(f"does not fit the index, which is {deployed}", ("deployment",))
        if change.tags is not None:
            record = replace(record, tags=index_rules.merged_tags(record.tags, change.tags))
        if change.deletion_protection is not None:
            record = replace(record, deletion_protection=change.deletion_protection)
        if change.replicas is not None or change.pod_type is not None:
            record = replace(record, deployment=_changed_pod(record, change))
        if change.read_capacity is not None:
            record = replace(record, read_capacity=_changed_capacity(record, change.read_capacity))
        if change.embed is not None:
            embed = index_rules.changed_embed(record, change.embed, self._catalogue.get)
            record = replace(record, embed=embed)
        return record

    # --- order -------------------------------------------------------------------------------------------------------

    def _lock(self, name: str) -> asyncio.Lock:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end, also when the caller is cancelled. `close` waits for it."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return await asyncio.shield(task)


def _ready(record: IndexRecord) -> IndexRecord:
    return replace(record, status=IndexStatus.READY)


def _failed(record: IndexRecord) -> IndexRecord:
    return replace(record, status=IndexStatus.FAILED)


def _changed_pod(record: IndexRecord, change: IndexChange) -> Pod:
    pod = record.deployment
    if not isinstance(pod, Pod):
        raise InvalidRequest("does not fit the index, which has no pods", ("deployment",))
    if change.replicas is not None:
        pod = replace(pod, replicas=change.replicas)
    if change.pod_type is not None:
        pod = replace(pod, pod_type=change.pod_type)
    return index_rules.checked_pods(pod)


def _changed_capacity(record: IndexRecord, wanted: OnDemand | Dedicated) -> Dedicated | None:
    if isinstance(record.deployment, Pod):
        raise InvalidRequest("must not be given for an index of pods", ("read_capacity",))
    if isinstance(wanted, OnDemand):
        return None
    old = record.read_capacity or Dedicated()
    merged = Dedicated(
        node_type=old.node_type if wanted.node_type is None else wanted.node_type,
        scaling=old.scaling if wanted.scaling is None else wanted.scaling,
        replicas=old.replicas if wanted.replicas is None else wanted.replicas,
        shards=old.shards if wanted.shards is None else wanted.shards,
    )
    index_rules.check_read_capacity(merged, record.deployment)
    return merged
