"""Snapshots: an index as it was behind one write, read by a process of its own from a copy of the shard.

The engine knows one state alone, the last, and a host has queries to answer. So:

    parent                                           child
    starts it
    holds writes, tells it which shard it is         copies the shard, links the journal, says so
    goes on                                          replays the journal up to the hold
    reads frames, one ahead of whoever asks          writes frames: length, then msgpack; one of length 0 is the end

A full socket stops the child, so a slow reader holds two frames and no more. The copy lies beside the indexes, not in
one: neither a compaction nor the index's end takes it away. What a killed process leaves, the next one's store removes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Record
from pinyon.stores.edge import child
from pinyon.stores.edge.child import Child, Kind
from pinyon.stores.edge.compaction import catch_up, copy_file, copy_shard
from pinyon.stores.edge.contents import Contents
from pinyon.stores.edge.journal import files
from pinyon.stores.edge.messages import Row, to_record, to_row
from pinyon.stores.edge.shard import Shard

LEFTOVER = "."  # begins the name of a folder that a store removes when it opens

_LENGTH = struct.Struct("<I")
_RECORDS = 250  # a frame: the child's numbers are Python's while it reads them, of 32 bytes each
_VALUES = 1_000_000  # dense ones, a frame

T = TypeVar("T")
Copying = Callable[[Path, int, int], Awaitable[None]]  # of a shard, with the journal behind one write up to another
# Has it called while nobody writes. Gives the last write then, and the namespaces with their counts.
Hold = Callable[[Copying], Awaitable[tuple[int, dict[str, int]]]]


class _Task(msgspec.Struct, array_like=True):
    """What the child copies, and what of the journal is missing in it."""

    shard: str
    after: int
    upto: int


class _Frame(msgspec.Struct, array_like=True):
    namespace: str
    rows: list[Row]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class EdgeSnapshot:
    """See base.Snapshot. Its one thread starts the child, reads from it and ends it: the child dies with its thread."""

    sequence: int
    namespaces: Mapping[str, int]

    def __init__(self, folder: Path, closed: Callable[[EdgeSnapshot], None]) -> None:
        """`folder`: of the copy, not there yet. `closed` is called when it is no more."""
        self._folder = folder
        self._closed = closed
        self._thread = ThreadPoolExecutor(1, "edge-snapshot")
        self._child: Child | None = None
        self._stream: BinaryIO | None = None  # what it says
        self._read = False
        self._closing: Future[None] | None = None

    async def start(self, contents: Contents, hold: Hold) -> None:
        """Raises Unavailable, OSError; close it then."""

        async def copy(shard: Path, after: int, upto: int) -> None:
            await self._run(lambda: self._copy(shard, after, upto))

        await self._run(lambda: self._begin(contents))
        self.sequence, self.namespaces = await hold(copy)

    async def batches(self) -> AsyncIterator[tuple[str, Sequence[Record]]]:
        if self._read:
            raise Unavailable("A snapshot is read once")
        self._read = True
        counted: Counter[str] = Counter()
        following = self._submit(self._frame)
        while (frame := await asyncio.wrap_future(following)) is not None:
            following = self._submit(self._frame)
            namespace, records = frame
            counted[namespace] += len(records)
            yield namespace, records
        if counted != {namespace: count for namespace, count in self.namespaces.items() if count}:
            raise Unavailable("The index is damaged: a snapshot of it does not have the records that it counts")

    async def close(self) -> None:
        if self._closing is None:
            if self._child is not None:
                self._child.kill()  # whatever the thread waits for ends with it
            self._closing = self._thread.submit(self._remove)
            self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(self._closing))
        self._closed(self)

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        try:
            return self._thread.submit(work)
        except RuntimeError as error:
            raise Unavailable("The snapshot is closed") from error

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._submit(work))

    def _begin(self, contents: Contents) -> None:
        contents.check_room()
        self._folder.mkdir(mode=0o700)
        self._child = child.start(Kind.SNAPSHOT, str(self._folder), root=self._folder.parent, layout=contents.layout)

    def _copy(self, shard: Path, after: int, upto: int) -> None:
        assert self._child is not None
        self._child.tell(msgspec.json.encode(_Task(str(shard), after, upto)))
        if not self._child.says(child.COPIED):
            raise self._ended()
        self._stream = self._child.socket.makefile("rb")

    def _frame(self) -> tuple[str, list[Record]] | None:
        """The next one; None: there are no more."""
        stream = self._stream
        assert stream is not None
        header = stream.read(_LENGTH.size)
        if len(header) < _LENGTH.size:
            raise self._ended()
        (length,) = _LENGTH.unpack(header)
        if not length:
            return None
        body = stream.read(length)
        if len(body) < length:
            raise self._ended()
        frame = _decode(body)
        return frame.namespace, [to_record(row) for row in frame.rows]

    def _ended(self) -> Unavailable:
        if self._closing is not None:
            return Unavailable("The snapshot is closed")
        return Unavailable("The snapshot of an index ended early: its process failed, or the disk is full")

    def _remove(self) -> None:
        if self._child is not None:
            self._child.end()
        if self._stream is not None:
            self._stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Snapshots:
    """Those that are open, of all indexes of a store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: set[EdgeSnapshot] = set()

    async def open(self, contents: Contents, hold: Hold) -> EdgeSnapshot:
        """Raises Unavailable."""
        snapshot = EdgeSnapshot(self._root / f"{LEFTOVER}snapshot-{secrets.token_hex(8)}", self._open.discard)
        self._open.add(snapshot)
        try:
            await snapshot.start(contents, hold)
        except OSError as error:
            await snapshot.close()
            raise Unavailable(f"No snapshot of the index can be made: {os.strerror(error.errno or 0)}") from error
        except BaseException:
            await snapshot.close()
            raise
        return snapshot

    async def close(self) -> None:
        for snapshot in list(self._open):
            await snapshot.close()


def main(stream: socket.socket, arguments: list[str], layout: Layout) -> None:
    """The child's work."""
    (folder,) = map(Path, arguments)
    task = msgspec.json.decode(child.line(stream), type=_Task)
    copy = copy_all(Path(task.shard), folder)
    child.say(stream, child.COPIED)
    os.nice(10)  # only now: writes were waiting
    shard = Shard.load(copy, layout)
    catch_up(shard, folder, task.after, task.upto)
    for frame in _frames(shard, layout):
        body = _encode(frame)
        stream.sendall(_LENGTH.pack(len(body)) + body)
    stream.sendall(_LENGTH.pack(0))
    shard.close()


def copy_all(shard: Path, folder: Path) -> Path:
    """Copies a shard that nobody writes meanwhile, with its index's journal. Gives the shard's copy."""
    copy_shard(shard, folder / "shard")
    for path in files(shard.parent):
        try:
            os.link(path, folder / path.name)
        except OSError:  # not every file system has links
            copy_file(path, folder / path.name)
    return folder / "shard"


def _frames(shard: Shard, layout: Layout) -> Iterator[_Frame]:
    """Namespace by namespace: whoever writes them down again is spared small writes."""
    places: dict[str, bytearray] = {}  # 16 bytes a record: all of them fit
    for namespace, point in shard.places():
        places.setdefault(namespace, bytearray()).extend(point)
    records = min(_RECORDS, max(1, _VALUES // (layout.dimension or 1)))
    for namespace in sorted(places):
        ids = places[namespace]
        for at in range(0, len(ids), 16 * records):
            piece = bytes(ids[at : at + 16 * records])
            found = shard.fetch([piece[place : place + 16] for place in range(0, len(piece), 16)])
            yield _Frame(namespace, [to_row(record) for _, record in found])
