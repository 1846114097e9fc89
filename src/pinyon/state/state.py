"""The control plane's memory, for asyncio. What a call has answered is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa

from pinyon.errors import Unavailable
from pinyon.state import backups, collections, indexes, jobs, namespaces
from pinyon.state.database import Database
from pinyon.state.records import (
    BackupRecord,
    CollectionRecord,
    IndexRecord,
    IndexSettings,
    JobKind,
    JobRecord,
    Schema,
)

_T = TypeVar("_T")

INDEX_PORTS = range(5081, 6081)


def _now() -> datetime:
    return datetime.now(UTC)


class State:
    """Opened with `open`. Several may be open on one database, in one process or in many.

    Every method raises Unavailable if the database cannot be reached, read or written (a full disk), and then changed
    nothing. A call that is cancelled may still have its effect.
    """

    def __init__(self, database: Database, ports: range, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._ports = ports
        self._clock = clock
        # A writer waits here and not in a thread: threads are few, and readers need them.
        self._writing = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        ports: range = INDEX_PORTS,
        lock_seconds: float = 30,
        existing: bool = False,
        clock: Callable[[], datetime] = _now,
    ) -> State:
        """Opens `sqlite:////folder/state.db`, which is made if it is not there, or `postgresql://user@host/database`,
        and brings its tables up to date.

        New indexes get a port out of `ports`; none if it is empty. `lock_seconds` is how long a writer waits for one of
        another process. `existing`: neither makes nor changes tables, for whoever looks on while a server runs. Raises
        ConfigError for a URL that is neither, Unavailable also for a database that a newer Pinyon has written.
        """
        database = Database(url, lock_seconds)
        try:
            await asyncio.to_thread(database.check if existing else database.prepare)
        except BaseException:
            database.close()
            raise
        return cls(database, ports, clock)

    async def close(self) -> None:
        """Closing twice is no error."""
        self._closed = True
        async with self._writing:
            await asyncio.to_thread(self._database.close)

    async def create_index(self, settings: IndexSettings) -> IndexRecord:
        """A new index, INITIALIZING, with an id and a port. Raises AlreadyExists (a terminating index still has its
        name), FailedPrecondition when there is no port left, InvalidRequest for text that holds NUL."""
        return await self._write(lambda connection: indexes.create(connection, settings, self._ports, self._clock()))

    async def get_index(self, name: str) -> IndexRecord:
        """Raises NotFound."""
        return await self._read(lambda connection: indexes.get(connection, name))

    async def list_indexes(self) -> list[IndexRecord]:
        """Every index, whatever its status, by rising name."""
        return await self._read(indexes.list_all)

    async def update_index(self, record: IndexRecord) -> IndexRecord:
        """Writes a record that was made from another by `dataclasses.replace`; gives it as it is now.

        `id`, `name`, `port` and `created_at` stay as they are. Raises NotFound; FailedPrecondition if the index has
        been changed since that other was read, or is terminating.
        """
        return await self._write(lambda connection: indexes.update(connection, record))

    async def change_index(self, name: str, make: Callable[[IndexRecord], IndexRecord]) -> IndexRecord:
        """`update_index` of what `make` makes of the index as it is now, so that no other request comes between.

        `make` is quick and pure, and runs in a thread; what it raises comes through, and nothing is changed. Raises
        NotFound; FailedPrecondition if the index is terminating.
        """
        return await self._write(lambda connection: indexes.change(connection, name, make))

    async def change_port(self, record: IndexRecord) -> IndexRecord:
        """Another port for an index whose own cannot be listened at; the old one is released. Raises as `update_index`,
        and FailedPrecondition when there is no port left."""
        return await self._write(lambda connection: indexes.change_port(connection, record, self._ports, self._clock()))

    async def terminate_index(self, name: str) -> IndexRecord:
        """The first half of a deletion: the index changes no more, and whoever called drops its store, then calls
        `delete_index`. Raises NotFound; FailedPrecondition if it is protected, or terminating already."""
        return await self._write(lambda connection: indexes.change(connection, name, indexes.terminating))

    async def delete_index(self, id: str) -> None:
        """The second half: forgets the index, which frees its name and port. Also for an index that never became ready,
        protected or not. Raises NotFound; FailedPrecondition if it is READY."""
        await self._write(lambda connection: indexes.delete(connection, id, self._clock()))

    async def namespace_schemas(self, index_id: str) -> dict[str, Schema]:
        """What the index's namespaces declare, by their names; those that declare nothing are left out."""
        return await self._read(lambda connection: namespaces.schemas(connection, index_id))

    async def set_namespace_schema(self, index_id: str, namespace: str, schema: Schema | None) -> None:
        """None: it declares nothing. A schema goes with its index. Raises NotFound if that is gone."""
        await self._write(lambda connection: namespaces.set_schema(connection, index_id, namespace, schema))

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def create_job(
        self,
        kind: JobKind,
        *,
        request: Mapping[str, Any],
        index_id: str | None = None,
        index_name: str | None = None,
    ) -> JobRecord:
        """A new job, PENDING, with an id. Raises InvalidRequest for text that holds NUL."""
        return await self._write(
            lambda connection: jobs.create(connection, kind, request, index_id, index_name, self._clock())
        )

    async def get_job(self, id: str) -> JobRecord:
        """Raises NotFound."""
        return await self._read(lambda connection: jobs.get(connection, id))

    async def change_job(self, id: str, make: Callable[[JobRecord], JobRecord]) -> JobRecord:
        """What `make` makes of the job as it is now, so that nobody comes between; gives it as it is then.

        `make` is quick and pure, and runs in a thread; what it raises comes through, and nothing is changed. What was
        asked for stays as it is, `finished_at` and `version` are set here. Raises NotFound; FailedPrecondition if the
        job has finished: then it changes no more.
        """
        return await self._write(lambda connection: jobs.change(connection, id, make, self._clock))

    async def list_jobs(
        self, *, kind: JobKind | None = None, index_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """At most `limit`, newest first, from behind the job whose id is `after`. Raises InvalidRequest if that is no
        id."""
        return await self._read(lambda connection: jobs.page(connection, kind, index_id, after, limit))

    async def unfinished_jobs(self) -> list[JobRecord]:
        """Those that are to be done or to be gone on with, oldest first."""
        return await self._read(jobs.unfinished)

    async def forget_jobs(self, age: timedelta, keep: int) -> int:
        """Forgets jobs that finished longer ago than `age`, and all but the newest `keep` that have finished. Gives how
        many it were."""
        return await self._write(lambda connection: jobs.forget(connection, self._clock() - age, keep))

    # --- backups -----------------------------------------------------------------------------------------------------

    async def create_backup(
        self,
        source: IndexRecord,
        *,
        schemas: Mapping[str, Schema],
        name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> BackupRecord:
        """A new backup of `source`, INITIALIZING, with an id. Raises InvalidRequest for text that holds NUL."""
        return await self._write(
            lambda connection: backups.create(connection, source, schemas, name, description, tags or {}, self._clock())
        )

    async def get_backup(self, id: str) -> BackupRecord:
        """Raises NotFound."""
        return await self._read(lambda connection: backups.get(connection, id))

    async def change_backup(self, id: str, make: Callable[[BackupRecord], BackupRecord]) -> BackupRecord:
        """As `change_job`; where it comes from stays as it is. Raises NotFound, InvalidRequest."""
        return await self._write(lambda connection: backups.change(connection, id, make))

    async def delete_backup(self, id: str) -> None:
        """Forgets it. Raises NotFound."""
        await self._write(lambda connection: backups.delete(connection, id))

    async def list_backups(
        self,
        *,
        index_name: str | None = None,
        index_id: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[BackupRecord]:
        """Newest first, those of one index if it is given; from behind the backup whose id is `after`, which may be
        gone. Raises InvalidRequest if that is no id."""
        return await self._read(lambda connection: backups.page(connection, index_name, index_id, after, limit))

    # --- collections -------------------------------------------------------------------------------------------------

    async def create_collection(self, name: str, *, source: IndexRecord, environment: str) -> CollectionRecord:
        """A new collection of `source`, INITIALIZING, with an id. Raises AlreadyExists (a terminating one still has its
        name), InvalidRequest for text that holds NUL."""
        return await self._write(
            lambda connection: collections.create(connection, name, source, environment, self._clock())
        )

    async def get_collection(self, name: str) -> CollectionRecord:
        """Raises NotFound."""
        return await self._read(lambda connection: collections.get(connection, name))

    async def change_collection(
        self, name: str, make: Callable[[CollectionRecord], CollectionRecord]
    ) -> CollectionRecord:
        """As `change_job`; `id`, `name` and `created_at` stay as they are. Raises NotFound."""
        return await self._write(lambda connection: collections.change(connection, name, make))

    async def delete_collection(self, name: str) -> None:
        """Forgets it, which frees its name. Raises NotFound."""
        await self._write(lambda connection: collections.delete(connection, name))

    async def list_collections(self) -> list[CollectionRecord]:
        """Every collection, whatever its status, by rising name."""
        return await self._read(collections.list_all)

    async def _read(self, work: Callable[[sa.Connection], _T]) -> _T:
        self._must_be_open()
        return await asyncio.to_thread(self._database.read, work)

    async def _write(self, work: Callable[[sa.Connection], _T]) -> _T:
        async with self._writing:
            self._must_be_open()
            return await asyncio.to_thread(self._database.write, work)

    def _must_be_open(self) -> None:
        if self._closed:
            raise Unavailable("The server is shutting down")
