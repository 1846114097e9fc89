"""The async face of an index: what each call writes or reads, and on which thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pinyon.errors import Unavailable
from pinyon.filters import And, Filter
from pinyon.stores.base import Change, Check, Layout, Match, Metadata, Query, Record, Snapshot
from pinyon.stores.edge.contents import Contents, Copy
from pinyon.stores.edge.journal import Batch
from pinyon.stores.edge.ranking import answer
from pinyon.stores.edge.snapshot import Copying, Snapshots
from pinyon.stores.points import Condition, point_id, to_condition, to_points, within

T = TypeVar("T")

# Up to so many records are read on the event loop itself: a thread would hold the interpreter as long, and cost more.
_SHORT = 200
_WALKED = 1000  # ids looked through at once, where a filter matches most of them
_READ_AT_ONCE = 500
_PART_TO_COMPACT = 20  # compacts when one part in so many is not in the graph
_QUIET_POINTS = 1000  # outside the graph: so many are compacted when writes have ceased
_QUIET_SECONDS = 1.0  # without a write
_REST = 4  # times the last compaction's time: a compaction takes seconds of a core, however small
# A compaction builds a graph from about 500 points a second. During a load that is faster by far it waits: what it
# built would be out of date, and it would take a core from the load.
_BULK_RATE = 2000
_BULK_FACTOR = 10
_MOST_DOUBLINGS = 6  # of what makes a compaction due, after failures

logger = logging.getLogger(__name__)


class _Pace:
    """How fast points are written: by seconds, counted from one write to another."""

    def __init__(self) -> None:
        self.rate = 0.0  # points a second, over the last full one
        self.last = 0.0  # when the last write ended; monotonic seconds
        self._since = time.monotonic()
        self._points = 0

    def wrote(self, points: int) -> None:
        self.last = now = time.monotonic()
        self._points += points
        if (passed := now - self._since) >= 1:
            self.rate, self._points, self._since = self._points / passed, 0, now


class EdgeIndex:
    """See base.Index. One thread writes; reads run on the event loop, or on `readers` if long or while a write applies.

    The engine holds the interpreter's lock while it works, so threads gain nothing but turns.
    """

    def __init__(
        self,
        folder: Path,
        readers: Executor,
        compacting: threading.Semaphore,
        snapshots: Snapshots,
        *,
        compact_after: int,
        reserve: int,
    ) -> None:
        """Opens it: blocks. `compacting` bounds how many indexes compact at once."""
        self._contents = Contents(folder, reserve)
        self._readers = readers
        self._compacting = compacting
        self._snapshots = snapshots
        self._compact_after = compact_after
        self._writer = ThreadPoolExecutor(1, "edge-writer")
        self._compaction: threading.Thread | None = None
        self._copy: Copy | None = None
        self._failures = 0  # compactions that failed, one after the other
        self._pace = _Pace()
        self._long_reads = 0  # on threads
        self._rested_at = 0.0  # from when on a small compaction may follow the last one
        self._quiet: asyncio.TimerHandle | None = None
        self._closing = False

    @property
    def layout(self) -> Layout:
        return self._contents.layout

    @property
    def sequence(self) -> int:
        return self._contents.sequence

    @property
    def closed(self) -> bool:
        """Whether it answers no more: it was closed, or its engine failed. Opened anew, it may."""
        return self._closing or self._contents.failed

    async def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        def batch(number: int) -> Batch:
            last = {record.id: record for record in records}
            created = [namespace] if last else []
            return Batch(number, created=created, puts=to_points(self.layout, namespace, list(last.values())))

        return await self._write(batch)

    async def update(self, namespace: str, id: str, change: Change, *, check: Check | None = None) -> int:
        def batch(number: int) -> Batch:
            changed = [old.changed(change, check) for old in self._fetched(namespace, [id])]
            return Batch(number, puts=to_points(self.layout, namespace, changed))

        return await self._write(batch)

    async def update_where(
        self, namespace: str, filter: Filter, metadata: Metadata, *, check: Check | None = None
    ) -> tuple[int, int]:
        matched = 0
        change = Change(metadata=metadata)

        def batch(number: int) -> Batch:
            nonlocal matched
            with self._contents.lock:
                ids = self._matching(namespace, filter)
            matched = len(ids)
            puts = []
            for at in range(0, len(ids), _READ_AT_ONCE):
                old = self._fetched(namespace, ids[at : at + _READ_AT_ONCE])
                puts += to_points(self.layout, namespace, [record.changed(change, check) for record in old])
            return Batch(number, puts=puts)

        return await self._write(batch), matched

    async def delete(self, namespace: str, ids: Sequence[str]) -> int:
        def batch(number: int) -> Batch:
            known = self._contents.ids(namespace)
            found = [id for id in dict.fromkeys(ids) if id in known]
            return Batch(number, deletes=[(namespace, found)] if found else [])

        return await self._write(batch)

    async def delete_where(self, namespace: str, filter: Filter) -> int:
        def batch(number: int) -> Batch:
            with self._contents.lock:
                found = self._matching(namespace, filter)
            return Batch(number, deletes=[(namespace, found)] if found else [])

        return await self._write(batch)

    async def create_namespace(self, namespace: str) -> int:
        return await self._write(lambda number: Batch(number, created=[namespace]))

    async def delete_namespace(self, namespace: str) -> int:
        return await self._write(lambda number: Batch(number, dropped=[namespace]))

    async def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        def read() -> dict[str, Record]:
            found = {record.id: record for record in self._found(namespace, ids)}
            return {id: found[id] for id in ids if id in found}

        return await self._read(read, len(ids))

    async def fetch_where(self, namespace: str, filter: Filter, *, after: str | None, limit: int) -> list[Record]:
        def read() -> list[Record]:
            found = self._found(namespace, self._page(namespace, filter, after, limit))
            return sorted(found, key=lambda record: record.id)

        return await self._read(read)

    async def query(self, namespace: str, query: Query) -> list[Match]:
        def read() -> list[Match]:
            contents = self._contents
            if not contents.ids(namespace):
                return []
            condition = self._condition(namespace, query.filter)
            return answer(contents.shard, contents.layout, namespace, condition, query, huge=contents.huge)

        return await self._read(read, query.top_k)

    async def list_ids(self, namespace: str, *, prefix: str, after: str | None, limit: int) -> list[str]:
        return await self._read(lambda: self._contents.ids(namespace).page(prefix=prefix, after=after, limit=limit), 1)

    async def count_where(self, namespace: str, filter: Filter) -> int:
        def read() -> int:
            known = self._contents.ids(namespace)
            if not known or filter == And(()):
                return len(known)
            return self._contents.shard.count(self._condition(namespace, filter))

        return await self._read(read)

    async def namespaces(self) -> dict[str, int]:
        return await self._read(
            lambda: {namespace: len(ids) for namespace, ids in sorted(self._contents.namespaces.items())}, 1
        )

    async def snapshot(self) -> Snapshot:
        def hold(copy: Copying) -> Future[tuple[int, dict[str, int]]]:
            def held() -> tuple[int, dict[str, int]]:
                self._check()
                return self._contents.hold(copy)

            try:
                return self._on_writer(held)
            except RuntimeError as error:  # closed meanwhile
                raise Unavailable("The index is closed") from error

        self._check()
        return await self._snapshots.open(self._contents, hold)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            if self._quiet is not None:
                self._quiet.cancel()
            await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._writer.submit(bool).result()  # what would begin a compaction has done so, or never will
        if (copy := self._copy) is not None:
            copy.child.kill()
        if (compaction := self._compaction) is not None:
            compaction.join()
        self._writer.submit(self._contents.close).result()
        self._writer.shutdown()

    async def _write(self, batch: Callable[[int], Batch]) -> int:
        """Makes a batch on the writing thread, where nothing changes under it, and commits it. Gives its number."""

        def write() -> int:
            self._check()
            made = batch(self._contents.sequence + 1)
            self._contents.commit(made)
            self._pace.wrote(made.size)
            self._compact_if_due()
            return made.sequence

        if self._closing:
            raise Unavailable("The index is closed")
        try:
            waiting = self._writer.submit(write)
        except RuntimeError as error:  # closed meanwhile
            raise Unavailable("The index is closed") from error
        sequence = await asyncio.wrap_future(waiting)
        if self._quiet is None and self._contents.unindexed >= _QUIET_POINTS and not self._closing:
            self._compact_when_quiet(_QUIET_SECONDS)
        return sequence

    async def _read(self, read: Callable[[], T], records: int | None = None) -> T:
        """`records`: how many it reads at most; None: who knows."""
        lock = self._contents.lock
        if records is not None and records <= _SHORT and self._acquire():
            try:
                self._check()
                return read()
            finally:
                lock.release()

        def locked() -> T:
            with lock:
                self._check()
                return read()

        self._long_reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, locked)
        finally:
            self._long_reads -= 1

    def _acquire(self) -> bool:
        """Takes the lock on the event loop, if not a long read may have it.

        It waits for a piece of a write, a millisecond or two, in which the engine holds the interpreter too, so that
        nothing else could run. A thread to wait in would take longer to get a turn.
        """
        contents = self._contents
        if contents.lock.acquire(blocking=False):
            return True
        if self._long_reads:
            return False
        contents.waiting += 1
        try:
            return contents.lock.acquire()
        finally:
            contents.waiting -= 1

    def _check(self) -> None:
        if self._closing:
            raise Unavailable("The index is closed")
        if self._contents.failed:
            raise Unavailable("The index failed in its engine, and must be opened again")

    def _condition(self, namespace: str, filter: Filter | None) -> Condition | None:
        """A condition on the namespace is left out where all records are in it: it costs the search as much as any."""
        contents = self._contents
        alone = not contents.applying and len(contents.ids(namespace)) == contents.count
        return within(None if alone else namespace, None if filter is None else to_condition(filter))

    def _found(self, namespace: str, ids: Sequence[str]) -> list[Record]:
        points = self._contents.point_ids(namespace, list(dict.fromkeys(ids)))
        if not points:
            return []
        found = self._contents.shard.fetch(points)
        known = self._contents.ids(namespace)
        complete = len(found) == len(points) or self._contents.applying  # what a batch deletes is named until its end
        if not complete or any(there != namespace or r.id not in known for there, r in found):
            raise Unavailable("The index is damaged: a record is not where it was put")
        return [record for _, record in found]

    def _fetched(self, namespace: str, ids: Sequence[str]) -> list[Record]:
        with self._contents.lock:
            return self._found(namespace, ids)

    def _matching(self, namespace: str, filter: Filter) -> list[str]:
        known = self._contents.ids(namespace)
        if not known or filter == And(()):
            return list(known)
        return self._contents.shard.ids(self._condition(namespace, filter))

    def _page(self, namespace: str, filter: Filter, after: str | None, limit: int) -> list[str]:
        """Ids that match, rising, at most `limit`. Few matches are all found and sorted; of many, ids are walked
        through in order until there are enough."""
        known = self._contents.ids(namespace)
        if not known or filter == And(()):
            return known.page(after=after, limit=limit)
        condition = self._condition(namespace, filter)
        if self._contents.shard.count(condition, exact=False) <= 10 * limit + _WALKED:
            found = self._contents.shard.ids(condition)
            return sorted(id for id in found if after is None or id > after)[:limit]
        found = []
        while len(found) < limit and (walked := known.page(after=after, limit=_WALKED)):
            these: Condition = {"has_id": [point_id(namespace, id) for id in walked]}
            found += sorted(self._contents.shard.ids({"must": [these, to_condition(filter)]}))
            after = walked[-1]
        return found[:limit]

    # Compaction. It has a thread of its own, which only waits and hands work to the writing thread.

    def _compact_if_due(self, least: int | None = None) -> None:
        """`least`: points outside the graph for which it is worth it; None: while writes go on."""
        if least is None:
            least = max(self._compact_after, self._contents.count // _PART_TO_COMPACT)
            if self._pace.rate > _BULK_RATE:
                least *= _BULK_FACTOR
        due = least << min(self._failures, _MOST_DOUBLINGS)
        if self._contents.unindexed >= due and self._compaction is None and not self._closing:
            self._compaction = threading.Thread(target=self._compact, name="edge-compaction", daemon=True)
            self._compaction.start()

    def _compact_when_quiet(self, seconds: float) -> None:
        """Sees in so many seconds whether writes have ceased. On the event loop."""
        self._quiet = asyncio.get_running_loop().call_later(seconds, self._see_whether_quiet)

    def _see_whether_quiet(self) -> None:
        self._quiet = None
        if self._closing:
            return
        now = time.monotonic()
        wait = max(self._pace.last + _QUIET_SECONDS - now, self._rested_at - now)
        if self._compaction is not None or wait > 0:
            self._compact_when_quiet(max(wait, _QUIET_SECONDS))
        else:
            with suppress(RuntimeError):  # closed meanwhile
                self._writer.submit(self._compact_if_due, _QUIET_POINTS)

    def _compact(self) -> None:
        begun = time.monotonic()
        try:
            with self._compacting:
                if self._closing:
                    return
                begun = time.monotonic()
                folder, child = self._contents.start()
                self._copy = copy = self._on_writer(lambda: self._contents.begin(folder, child)).result()
                try:
                    self._compact_copy(copy)
                except BaseException:
                    self._contents.abandon(copy)
                    raise
        except (OSError, Unavailable) as error:
            if not self._closing:
                self._failures += 1
                logger.warning("compaction failed; the index goes on without: %s", type(error).__name__)
        finally:
            now = time.monotonic()
            self._rested_at = now + _REST * (now - begun)
            self._copy = self._compaction = None
            if not self._failures:  # else the next write asks
                with suppress(RuntimeError):  # closed meanwhile
                    self._writer.submit(self._compact_if_due)  # for what was written since it began

    def _compact_copy(self, copy: Copy) -> None:
        if self._closing:
            raise Unavailable("The index is closed")
        if copy.child.wait() != 0:
            raise Unavailable("The compaction of an index ended early")
        shard, reached = self._contents.catch_up(copy)
        try:
            self._on_writer(lambda: self._contents.finish(copy, shard, reached)).result()
        except BaseException:
            shard.close()
            raise
        self._failures = 0

    def _on_writer(self, work: Callable[[], T]) -> Future[T]:
        return self._writer.submit(work)
