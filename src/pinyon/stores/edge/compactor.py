"""When an index is compacted, and the steps of it that are its own; see compaction.py for the whole."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pinyon.errors import Unavailable
from pinyon.stores.edge import child
from pinyon.stores.edge.child import Child
from pinyon.stores.edge.contents import Copy
from pinyon.stores.edge.link import Link
from pinyon.stores.edge.writer import Writer

_PART_TO_COMPACT = 20  # compacts when one part in so many is not in the graph
_QUIET_POINTS = 1000  # outside the graph: so many are compacted when writes have ceased
_QUIET_SECONDS = 1.0  # without a write
_REST = 4  # times the last compaction's time: a compaction takes seconds of a core, however small
# A compaction builds a graph from about 500 points a second. During a load that is faster by far it waits: what it
# built would be out of date, and it would take a core from the load.
_BULK_RATE = 2000
_BULK_FACTOR = 10
_BULK_POINTS = 1_000_000  # at least: fewer are written in a minute or two, and a second host would hold them all twice
_MOST_DOUBLINGS = 6  # of what makes a compaction due, after failures
_SLICE = 0.004  # seconds, in which a compaction goes on or is paused
_CROWD = 2  # calls that wait for the host, for which it is paused
_MOST_PAUSED = 4  # slices in five: queries that never cease must not keep the graph from being built
# Seconds, twice, in which a new host gets used to its work before the old one ends, and then its files are removed. All
# at once, queries waited for 30 to 80 ms for half a second.
_SETTLING = 1.0
_ROUNDS = 10  # of catching up, each with less left, before writes are held for the rest

logger = logging.getLogger(__name__)


class Compactor:
    """Of one index; one compaction at a time."""

    def __init__(self, writer: Writer, compacting: asyncio.Semaphore, compact_after: int) -> None:
        """`compacting` bounds how many indexes compact at once. `compact_after`: points outside the graph."""
        self.failures = 0  # one after the other
        self.running: asyncio.Task[None] | None = None
        self._writer = writer
        self._compacting = compacting
        self._compact_after = compact_after
        self._copy: Copy | None = None
        self._rested_at = 0.0  # from when on a small compaction may follow the last one
        self._quiet: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()

    def wrote(self) -> None:
        """To be called after a write."""
        self._compact_if_due()
        if self._quiet is None and self._writer.contents.unindexed >= _QUIET_POINTS and not self._writer.closing:
            self._compact_when_quiet(_QUIET_SECONDS)

    def _compact_if_due(self, least: int | None = None) -> None:
        """`least`: points outside the graph for which it is worth it; None: while writes go on."""
        contents = self._writer.contents
        if least is None:
            least = self._many
            if self._writer.pace.rate > _BULK_RATE:
                least = max(least * _BULK_FACTOR, _BULK_POINTS)
        due = least << min(self.failures, _MOST_DOUBLINGS)
        if contents.unindexed >= due and self.running is None and not self._writer.closing:
            self.running = asyncio.ensure_future(self._compact())

    @property
    def _many(self) -> int:
        """Points outside the graph that make queries slow."""
        return max(self._compact_after, self._writer.contents.count // _PART_TO_COMPACT)

    def _compact_when_quiet(self, seconds: float) -> None:
        """Sees in so many seconds whether writes have ceased."""
        self._quiet = asyncio.get_running_loop().call_later(seconds, self._see_whether_quiet)

    def _see_whether_quiet(self) -> None:
        self._quiet = None
        if self._writer.closing:
            return
        now = time.monotonic()
        wait = self._writer.pace.last + _QUIET_SECONDS - now
        if self._writer.contents.unindexed < self._many:
            wait = max(wait, self._rested_at - now)
        if self.running is not None or wait > 0:
            self._compact_when_quiet(max(wait, _QUIET_SECONDS))
        else:
            self._compact_if_due(_QUIET_POINTS)

    async def _compact(self) -> None:
        begun = time.monotonic()
        try:
            async with self._compacting:
                begun = time.monotonic()
                await self._compact_copy()
            self.failures = 0
        except (OSError, Unavailable) as error:
            if not self._writer.closing:
                self.failures += 1
                logger.warning("compaction failed; the index goes on without: %s", type(error).__name__)
        finally:
            now = time.monotonic()
            self._rested_at = now + _REST * (now - begun)
            self.running = None
        if not self.failures:  # else the next write asks
            self._compact_if_due()  # for what was written since it began

    async def _compact_copy(self) -> None:
        writer, contents = self._writer, self._writer.contents
        writer.check()
        # A thread of its own: it waits for the child for as long as that takes.
        with ThreadPoolExecutor(1, "edge-compaction") as thread:
            run = asyncio.get_running_loop().run_in_executor
            self._copy = copy = await run(thread, contents.start)
            try:
                async with writer.still():
                    await writer.on_disk(contents.begin, copy)
                async with self._yielding(copy.child):
                    done = await run(thread, copy.child.says, child.DONE)
                if not done:
                    raise child.failed("The compaction of an index")
                await run(thread, copy.child.end)
                writer.check()
                old = await self._change_host(copy)
            except BaseException:
                await run(thread, contents.abandon, copy)
                raise
            finally:
                self._copy = None
        await writer.on_disk(contents.clear, old)
        await writer.on_disk(_trim)

    @asynccontextmanager
    async def _yielding(self, process: Child) -> AsyncIterator[None]:
        """Pauses the process meanwhile as long as calls wait for the host, for most of the time. A low priority is not
        enough: what it does slows the other processor down too, where the two are threads of one core, and the memory.
        """
        yielding = asyncio.ensure_future(self._yield_to_queries(process))
        try:
            yield
        finally:
            yielding.cancel()
            process.go_on()

    async def _yield_to_queries(self, process: Child) -> None:
        paused = 0  # slices, one after the other
        while True:
            await asyncio.sleep(_SLICE)
            if self._writer.link.waiting >= _CROWD and paused < _MOST_PAUSED:
                paused += 1
                process.pause()
            elif paused:
                paused = 0
                process.go_on()

    async def _change_host(self, copy: Copy) -> Path:
        """Has a host of the copy answer from now on. Gives the old shard's folder."""
        writer, contents = self._writer, self._writer.contents
        link = await Link.start(copy.folder, contents.layout, contents.flush_after)
        try:
            async with self._yielding(link.host):
                await link.ready()
                await link.warm()
                reached = copy.sequence
                # Writes that go on all the while are never caught up with.
                for _ in range(_ROUNDS):
                    if reached == (upto := contents.sequence):
                        break
                    await link.replay(contents.folder, reached, upto)
                    reached = upto
            async with writer.still():
                if reached < contents.sequence:
                    await link.replay(contents.folder, reached, contents.sequence)
                old = await writer.on_disk(contents.put_in_force, copy)
                before, writer.link = writer.link, link
        except BaseException:
            await link.end()
            raise
        await self._settle()
        await before.retire()
        await self._settle()
        return old

    async def _settle(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), _SETTLING)

    async def close(self) -> None:
        """Ends what is under way. To be called once the writer is closing."""
        self._closing.set()
        if self._quiet is not None:
            self._quiet.cancel()
        if self._copy is not None:
            self._copy.child.kill()
        if self.running is not None:
            await asyncio.wait([self.running])


def _trim() -> None:
    """Gives memory back that the bodies of a load had: the allocator keeps it otherwise. Linux's C library alone."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
