"""The line of an index's writes: into the journal, then to the host, in the order of their numbers.

A write has its turn: it gets a number, is put into the journal on a thread, and is sent to the host. An upsert's turn
ends there, so that the next one is put into the journal while this one is applied. What has to know what is there
waits until all that was sent is applied, and keeps its turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from pinyon.errors import Unavailable
from pinyon.stores.edge.contents import Contents
from pinyon.stores.edge.journal import Batch
from pinyon.stores.edge.link import Link
from pinyon.stores.points import NAMESPACE

_SOON = 0.2  # seconds of a load, after which its rate is known well enough

P = ParamSpec("P")
T = TypeVar("T")


class Pace:
    """How fast points are written: over the last second of writes, or what there was of it so far."""

    def __init__(self) -> None:
        self.last = 0.0  # when the last write ended; monotonic seconds
        self._rate = 0.0  # over the last full second
        self._since = time.monotonic()
        self._points = 0

    @property
    def rate(self) -> float:
        """Points a second."""
        passed = self.last - self._since
        return max(self._rate, self._points / passed) if passed >= _SOON else self._rate

    def wrote(self, points: int) -> None:
        now = time.monotonic()
        if now - self.last > 1:  # a load begins
            self._rate, self._points, self._since = 0.0, 0, now
        self.last = now
        self._points += points
        if (passed := now - self._since) >= 1:
            self._rate, self._points, self._since = self._points / passed, 0, now


class Writer:
    """Has the contents of an open index, and its host. For the event loop that made it."""

    def __init__(self, contents: Contents, link: Link, wrote: Callable[[], object]) -> None:
        """`wrote` is called after each write."""
        self.contents = contents
        self.link = link
        self.pace = Pace()
        self.closing = False
        self.applying = 0  # writes that the host was given, and has not applied
        self._putting: Counter[str] = Counter()  # the namespaces that they put records into
        self._wrote = wrote
        self._turn = asyncio.Lock()
        self._sent = contents.sequence  # the last write that the host was given
        self._settled = asyncio.Event()  # none is being applied
        self._settled.set()
        self._writes: set[asyncio.Task[int]] = set()
        self._disk = ThreadPoolExecutor(1, "edge-disk")

    def check(self) -> None:
        """Raises Unavailable: it answers no more."""
        if self.closing:
            raise Unavailable("The index is closed")
        if self.failed:
            raise Unavailable("The index failed in its engine, and must be opened again")

    @property
    def failed(self) -> bool:
        return self.contents.failed or self.link.lost

    def has_alone(self, namespace: str) -> bool:
        """Whether all records are of this namespace, those that are being written too."""
        contents = self.contents
        others = sum(self._putting.values()) - self._putting[namespace]
        return not others and len(contents.ids(namespace)) == contents.count

    async def write(self, make: Callable[[int], Awaitable[Batch]], *, blindly: bool = False) -> int:
        """Commits the batch that `make` makes for a number, and gives the number. `make` is called when everything
        before is applied, or at once if it works `blindly`. Goes on if whoever waits is cancelled. Raises Unavailable
        and what `make` raises: nothing changed, or the index failed and the next opening decides."""
        self.check()
        writing = asyncio.ensure_future(self._write(make, blindly))
        self._writes.add(writing)
        writing.add_done_callback(self._done)
        return await asyncio.shield(writing)

    def _done(self, writing: asyncio.Task[int]) -> None:
        self._writes.discard(writing)
        if not writing.cancelled():
            writing.exception()  # whoever wrote may be gone

    async def _write(self, make: Callable[[int], Awaitable[Batch]], blindly: bool) -> int:
        async with self._turn:
            if not blindly:
                await self._settled.wait()
            self.check()
            batch = await make(self._sent + 1)
            body = await self.on_disk(self.contents.append, batch)
            self.contents.expect(batch)
            self._sent = batch.sequence
            self.applying += 1
            namespaces = {str(point.payload[NAMESPACE]) for point in batch.puts}
            self._putting.update(namespaces)
            self._settled.clear()
            try:
                applied = self.link.write(body)
            except Unavailable:
                self._fail()
                raise
        try:
            synced = await applied
        except BaseException:
            self._fail()
            raise
        # Answers come in the order of the calls, and wake whoever waits for them in that order.
        self.contents.name(batch)
        self._putting -= Counter(namespaces)  # which keeps none of 0
        if synced > self.contents.shard_sequence:
            self._disk.submit(self.contents.advance, synced, self.contents.shard)
        self._applied()
        self.pace.wrote(batch.size)
        self._wrote()
        return batch.sequence

    def _applied(self) -> None:
        self.applying -= 1
        if not self.applying:
            self._settled.set()

    def _fail(self) -> None:
        """The journal has the batch: opened again, the index has all of it."""
        self.contents.failed = True
        self._applied()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """While nobody writes, and all that was written is applied. Raises Unavailable."""
        async with self._turn:
            await self._settled.wait()
            self.check()
            yield

    async def on_disk(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """On the one thread that has the journal."""
        return await asyncio.wrap_future(self._disk.submit(work, *arguments, **named))

    async def close(self) -> None:
        """Writes that have begun are finished, and whatever holds them."""
        self.closing = True
        async with self._turn:
            await self._settled.wait()
            flushed = False
            if not self.failed:
                try:
                    await self.link.flush()
                    flushed = True
                except Unavailable:
                    pass  # the journal says the same
            await self.on_disk(self.contents.close, flushed)
            await self.link.close()
        while self._writes:  # those that had no turn are refused
            await asyncio.wait(self._writes)
        self._disk.shutdown()
