"""An index's side of the socket to a host: calls, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Match, Query
from pinyon.stores.edge import child, messages
from pinyon.stores.edge.child import Child, Kind
from pinyon.stores.edge.messages import Found, Hit, Row, State, Status, Verb, encode
from pinyon.stores.points import Condition

_READY = 0  # the call that a host answers unasked, once it has its shard
_MANY = 100  # points: to read more takes turns with writes

_HITS = messages.decoder(list[Hit])
_FOUND = messages.decoder(list[Found])
_ROWS = messages.decoder(list[Row])
_IDS = messages.decoder(list[str])
_NAMES = messages.decoder(dict[str, list[str]])
_NUMBER = messages.decoder(int)
_STATE = messages.decoder(State)
_TEXT = messages.decoder(str)


class Link(asyncio.Protocol):
    """A host, for the event loop that opened it. Every call raises Unavailable: the engine failed, or the host has
    ended."""

    def __init__(self, host: Child) -> None:
        self.host = host
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._is_ready: asyncio.Future[bytes] = self._loop.create_future()
        self._calls: dict[int, asyncio.Future[bytes]] = {_READY: self._is_ready}
        self._number = _READY
        self._transport: asyncio.Transport | None = None
        self._lost = self._loop.create_future()  # done when the socket is closed

    @classmethod
    async def open(cls, shard: Path, layout: Layout, flush_after: int) -> Link:
        """`flush_after`: see EdgeStore. Raises Unavailable, OSError."""
        link = await cls.start(shard, layout, flush_after)
        await link.ready()
        return link

    @classmethod
    async def start(cls, shard: Path, layout: Layout, flush_after: int) -> Link:
        """One that is not ready yet. Raises OSError."""
        root = shard.parent.parent
        made = asyncio.to_thread(child.start, Kind.HOST, str(shard), str(flush_after), root=root, layout=layout)
        starting = asyncio.ensure_future(made)
        try:
            host = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_end)
            raise
        link = cls(host)
        try:
            await link._loop.create_unix_connection(lambda: link, sock=host.socket)
        except BaseException:
            await link.end()
            raise
        return link

    async def ready(self) -> None:
        """Until it has its shard. Raises Unavailable."""
        try:
            await self._is_ready
        except BaseException:
            await self.end()
            raise

    @property
    def lost(self) -> bool:
        """Whether the host has ended."""
        return self._lost.done()

    @property
    def waiting(self) -> int:
        """Calls that are not answered yet."""
        return len(self._calls)

    # --- calls -------------------------------------------------------------------------------------------------------

    def write(self, batch: bytes) -> Coroutine[Any, Any, int]:
        """Sends a batch of the journal before it returns. Then waits until it is applied, whole, and gives the last
        write up to which all are on disk in the shard; 0: the host has not flushed any yet."""
        return _number(self._call(Verb.WRITE, batch))

    async def query(self, namespace: str, condition: Condition | None, query: Query, *, huge: bool) -> list[Match]:
        call = messages.to_call(namespace, condition, query, huge=huge)
        hits: list[Hit] = _HITS.decode(await self._call(Verb.QUERY, encode(call)))
        return [Match(hit.score, messages.to_record(hit.row)) for hit in hits]

    async def fetch(self, points: Sequence[bytes]) -> list[Found]:
        """Those that are there, in no order."""
        verb = Verb.FETCH if len(points) <= _MANY else Verb.FETCH_MANY
        found: list[Found] = _FOUND.decode(await self._call(verb, encode(points)))
        return found

    async def fetch_where(self, namespace: str, condition: Condition, after: str | None, limit: int) -> list[Row]:
        """Those of the namespace that match, by rising id, from behind `after`. `condition` keeps to the namespace."""
        call = messages.FetchWhereCall(namespace, condition, after, limit)
        rows: list[Row] = _ROWS.decode(await self._call(Verb.FETCH_WHERE, encode(call)))
        return rows

    async def fetch_among(self, namespace: str, ids: list[str], condition: Condition | None, limit: int) -> list[Row]:
        """The first of these, whose ids rise, that are there and match."""
        call = messages.FetchAmongCall(namespace, ids, condition, limit)
        rows: list[Row] = _ROWS.decode(await self._call(Verb.FETCH_AMONG, encode(call)))
        return rows

    async def count(self, condition: Condition | None, *, exact: bool = True) -> int:
        return await _number(self._call(Verb.COUNT, encode(messages.CountCall(condition, exact))))

    async def ids(self, condition: Condition | None) -> list[str]:
        """Of all points that match, in no order."""
        ids: list[str] = _IDS.decode(await self._call(Verb.IDS, encode(condition)))
        return ids

    async def names(self) -> Mapping[str, list[str]]:
        """Of all points: namespace -> ids, in no order."""
        names: dict[str, list[str]] = _NAMES.decode(await self._call(Verb.NAMES, encode(None)))
        return names

    async def state(self) -> State:
        state: State = _STATE.decode(await self._call(Verb.STATE, encode(None)))
        return state

    async def replay(self, folder: Path, after: int, upto: int) -> None:
        """Applies what a journal has behind write `after`, to `upto`."""
        await self._call(Verb.REPLAY, encode(messages.ReplayCall(str(folder), after, upto)))

    async def warm(self) -> None:
        """Makes it ready for queries that come many at once. Takes a tenth of a second."""
        await self._call(Verb.WARM, encode(None))

    async def flush(self) -> None:
        await self._call(Verb.FLUSH, encode(None))

    async def close(self) -> None:
        """Behind all that was called before. Ends the host. Raises nothing."""
        try:
            await self._call(Verb.CLOSE, encode(None))
        except Unavailable:
            pass
        finally:
            await self.end()

    async def retire(self) -> None:
        """Ends the host when it has answered all that it was asked. It does not close its shard: nobody needs it."""
        if self._calls:
            await asyncio.wait(list(self._calls.values()))
        await self.end()

    async def end(self) -> None:
        """At once. A second time is no error."""
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self._lost])
        await asyncio.to_thread(self.host.end)

    def _call(self, verb: Verb, body: bytes) -> asyncio.Future[bytes]:
        if self._transport is None or self._lost.done():
            raise _gone()
        self._number = self._number % 0xFFFFFFFF + 1
        answer = self._calls[self._number] = self._loop.create_future()
        self._transport.write(messages.frame(self._number, verb, body))
        return answer

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._received += data
        for number, status, body in messages.frames(self._received):
            answer = self._calls.pop(number)
            if answer.done():
                continue  # whoever called waits no longer
            if status == Status.DONE:
                answer.set_result(body)
            else:
                answer.set_exception(Unavailable(_TEXT.decode(body)))

    def connection_lost(self, _: Exception | None) -> None:
        self._lost.set_result(None)
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(_gone())
        self._calls.clear()


async def _number(answer: asyncio.Future[bytes]) -> int:
    number: int = _NUMBER.decode(await answer)
    return number


def _end(starting: asyncio.Future[Child]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().end()


def _gone() -> Unavailable:
    return Unavailable("The index failed: the process that has it open has ended")
