"""The process that has one shard open and answers for it: the engine holds the interpreter's lock while it works, and
here nobody else wants it.

Two kinds of calls. Short ones go first: a query waits for one step of the others, a fraction of a millisecond. The
others have a step when no short one waits, or a few have gone before, so that no number of queries starves a write.
They take turns, in the order in which they came: no write begins within a scan, and no scan sees part of a write. None
begins before the short calls that came before it are answered, so whoever calls knows what those can have seen.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Record
from pinyon.stores.edge import messages
from pinyon.stores.edge.compaction import sync_tree
from pinyon.stores.edge.journal import Batch, replay
from pinyon.stores.edge.messages import Found, Hit, Row, Status, Verb, encode, to_row
from pinyon.stores.edge.ranking import answer
from pinyon.stores.edge.shard import Shard
from pinyon.stores.points import HUGE, Condition, point_id

_SHORT = {Verb.QUERY, Verb.FETCH, Verb.COUNT}
_PATIENCE = 4  # short calls that go before a step
_PIECE = 4  # points that the engine takes at once: 0.2 ms at 384 dimensions, and no more a point than in larger pieces
_READ = 200  # records read at once
_WARMING = 200  # searches
_RECEIVED = 1 << 20  # bytes received at once

Steps = Generator[None, None, Any]  # of a call, and what it comes to


class _Call(NamedTuple):
    arrival: int
    number: int
    verb: Verb
    body: bytes


def main(stream: socket.socket, arguments: list[str], layout: Layout) -> None:
    """The child's work: says that it has the shard, or why not, as the answer to a call 0. Then answers."""
    folder, flush_after = Path(arguments[0]), int(arguments[1])
    try:
        shard = Shard.load(folder, layout)
    except Unavailable as error:
        stream.sendall(messages.frame(0, Status.UNAVAILABLE, encode(error.reason)))
        return
    stream.sendall(messages.frame(0, Status.DONE, encode(None)))
    Host(stream, shard, layout, Flushing(shard, folder, flush_after)).run()


class Flushing:
    """Flushes a shard each so many points. The disk may be slow, and no query is to wait for it: a thread has the files
    synced before, and the engine finds little left to do. It has them synced once more behind it, since whoever relies
    on a flush cannot know what the engine leaves to the system."""

    def __init__(self, shard: Shard, folder: Path, after: int) -> None:
        self._shard = shard
        self._folder = folder
        self._after = after
        self._thread = ThreadPoolExecutor(1, "edge-sync")
        self.synced = 0  # the last write up to which all are in the shard, on disk
        self.syncing: Future[None] | None = None
        self._flushed: int | None = None  # the same, once the files are synced

    def wrote(self, sequence: int) -> None:
        """To be called after each write, with its number."""
        if self.syncing is not None and not self.syncing.done():
            return
        done, self.syncing = self.syncing, None
        if done is None:
            if self._shard.unflushed >= self._after:
                self.syncing = self._sync()
        elif self._flushed is None:
            with suppress(Unavailable):  # a full disk: the journal has it all, and the next write tries again
                self._shard.flush()
                self._flushed, self.syncing = sequence, self._sync()
        else:
            if done.exception() is None:
                self.synced = self._flushed
            self._flushed = None

    def _sync(self) -> Future[None]:
        return self._thread.submit(sync_tree, self._folder)


class Host:
    def __init__(self, stream: socket.socket, shard: Shard, layout: Layout, flushing: Flushing) -> None:
        self._stream = stream
        self._shard = shard
        self._layout = layout
        self._flushing = flushing
        self._received = bytearray()
        self._arrivals = 0
        self._short: deque[_Call] = deque()
        self._turns: deque[_Call] = deque()
        self._steps: Steps | None = None  # of the first of them, once it has begun
        self._waited = 0  # short calls that were answered since the last step
        self._closed = False
        # What a body is, and who answers: with the answer, or with steps.
        self._verbs = {
            verb: (messages.decoder(type), handler)
            for verb, type, handler in (
                (Verb.QUERY, messages.QueryCall, self._query),
                (Verb.FETCH, list[bytes], self._fetch),
                (Verb.COUNT, messages.CountCall, self._count),
                (Verb.WRITE, Batch, self._write),
                (Verb.REPLAY, messages.ReplayCall, self._replay),
                (Verb.IDS, Condition | None, self._ids),
                (Verb.FETCH_MANY, list[bytes], self._fetch_many),
                (Verb.FETCH_WHERE, messages.FetchWhereCall, self._fetch_where),
                (Verb.FETCH_AMONG, messages.FetchAmongCall, self._fetch_among),
                (Verb.NAMES, None, self._names),
                (Verb.STATE, None, self._state),
                (Verb.FLUSH, None, self._flush),
                (Verb.CLOSE, None, self._close),
                (Verb.WARM, None, self._warm),
            )
        }

    def run(self) -> None:
        """Until it is told to close. Raises ConnectionError: there is nobody to answer."""
        while not self._closed:
            self._receive()
            if self._short:
                self._step(self._short.popleft(), None)
                self._waited += 1
            if self._turns and self._may_step():
                self._waited = 0
                self._steps = self._step(self._turns[0], self._steps)
                if self._steps is None:
                    self._turns.popleft()

    def _may_step(self) -> bool:
        if not self._short:
            return True
        begun = self._steps is not None or self._turns[0].arrival < self._short[0].arrival
        return begun and self._waited >= _PATIENCE

    def _receive(self) -> None:
        """Takes what calls there are; waits for one if there is nothing else to do."""
        while True:
            idle = not self._short and not self._turns
            try:
                data = self._stream.recv(_RECEIVED, 0 if idle else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not data:
                raise ConnectionResetError
            self._received += data
            for number, kind, body in messages.frames(self._received):
                self._arrivals += 1
                call = _Call(self._arrivals, number, Verb(kind), body)
                (self._short if call.verb in _SHORT else self._turns).append(call)

    def _step(self, call: _Call, steps: Steps | None) -> Steps | None:
        """Begins it, or goes on. Gives its steps if there are more, else answers."""
        try:
            if steps is None:
                decoder, handler = self._verbs[call.verb]
                result = handler(decoder.decode(call.body))
                if isinstance(result, Generator):
                    return result
            else:
                next(steps)
                return steps
            status, body = Status.DONE, encode(result)
        except StopIteration as end:
            status, body = Status.DONE, encode(end.value)
        except Unavailable as error:
            status, body = Status.UNAVAILABLE, encode(error.reason)
        self._stream.sendall(messages.frame(call.number, status, body))
        return None

    # --- short -------------------------------------------------------------------------------------------------------

    def _query(self, call: messages.QueryCall) -> list[Hit]:
        query = messages.to_query(call)
        found = answer(self._shard, self._layout, call.namespace, call.condition, query, huge=call.huge)
        return [Hit(match.score, to_row(match.record)) for match in found]

    def _fetch(self, points: list[bytes]) -> list[Found]:
        return [Found(namespace, to_row(record)) for namespace, record in self._shard.fetch(points)]

    def _count(self, call: messages.CountCall) -> int:
        return self._shard.count(call.condition, exact=call.exact)

    # --- in turns ----------------------------------------------------------------------------------------------------

    def _write(self, batch: Batch) -> Steps:
        for piece in batch.pieces(_PIECE):
            self._shard.apply(piece)
            yield
        self._flushing.wrote(batch.sequence)
        return self._flushing.synced

    def _replay(self, call: messages.ReplayCall) -> Steps:
        for batch in replay(Path(call.folder), call.after, call.upto):
            yield from self._write(batch)

    def _ids(self, condition: Condition | None) -> Steps:
        found: list[str] = []
        for ids in self._shard.id_pages(condition):
            found += ids
            yield
        return found

    def _fetch_many(self, points: list[bytes]) -> Steps:
        found: list[Found] = []
        for some in _pieces(points):
            found += self._fetch(some)
            yield
        return found

    def _fetch_where(self, call: messages.FetchWhereCall) -> Steps:
        found = yield from self._ids(call.condition)
        after = call.after
        wanted = sorted(id for id in found if after is None or id > after)[: call.limit]
        return (yield from self._rows(call.namespace, wanted))

    def _fetch_among(self, call: messages.FetchAmongCall) -> Steps:
        wanted = call.ids
        if call.condition is not None:
            these: Condition = {"has_id": [point_id(call.namespace, id) for id in wanted]}
            wanted = sorted((yield from self._ids({"must": [these, call.condition]})))
        return (yield from self._rows(call.namespace, wanted[: call.limit]))

    def _rows(self, namespace: str, ids: Sequence[str]) -> Steps:
        """Those that are there, in the order of their ids, which rise."""
        found: list[Row] = []
        for some in _pieces([point_id(namespace, id) for id in ids]):
            records: list[Record] = [record for _, record in self._shard.fetch(some)]
            found += [to_row(record) for record in sorted(records, key=lambda record: record.id)]
            yield
        return found

    def _names(self, _: None) -> Steps:
        names: dict[str, list[str]] = {}
        for number, (namespace, id) in enumerate(self._shard.names()):
            names.setdefault(namespace, []).append(id)
            if number % _READ == 0:
                yield
        return names

    def _state(self, _: None) -> messages.State:
        dense = self._layout.dimension is not None
        return messages.State(self._shard.unindexed() if dense else 0, self._shard.count(HUGE) > 0)

    def _warm(self, _: None) -> Steps:
        """Searches, so that what searches read is in this process's memory: the first ones take many times as long."""
        for row in self._shard.sample(_WARMING):
            self._shard.search(row, None, 1)
            yield

    def _flush(self, _: None) -> None:
        self._shard.flush()

    def _close(self, _: None) -> None:
        self._closed = True
        self._shard.close()


def _pieces(points: Sequence[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(points), _READ):
        yield list(points[at : at + _READ])
