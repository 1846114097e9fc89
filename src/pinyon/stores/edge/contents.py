"""What one index holds, on disk and in memory: shard, journal, ordered ids, and the manifest that ties them together.

    <folder>/index.json          the manifest: layout, the shard in force, the last write that is whole in it
    <folder>/shard-<n>-<random>  the engine's files
    <folder>/journal-<n>.log     the writes behind that one
    <folder>/names-<n>.bin       the ids as of that one; see names.py

Blocking. One thread writes; the lock keeps reads from seeing half a record's change, and the engine to one thread. A
batch is applied in pieces, and reads go between them: all of a large one would make queries wait for 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Metric
from pinyon.stores.edge import child, compaction, names
from pinyon.stores.edge.ids import OrderedIds
from pinyon.stores.edge.journal import Batch, Journal, forget, replay, sync_folder, write_all
from pinyon.stores.edge.shard import Shard
from pinyon.stores.points import HUGE, ID, NAMESPACE, is_marked_huge, point_id

MANIFEST = "index.json"
_FORMAT = 1
_SHARD = re.compile(r"shard-(\d+)-[0-9a-f]+")
_PIECE = 16  # points that the engine takes at once: about 1 ms at 384 dimensions, in which nothing else runs
_TURN = 0.0001  # seconds, in which a read that waits takes the lock: it would not get it from a thread that goes on
_PAUSE = 0.0005  # seconds between pieces of a replay, for other threads
_ROUNDS = 2
_COPIES = 2  # of a shard that a compaction makes: the copy, and what it builds from it
_PAGES = 64 << 20  # bytes: the engine's files begin at 32 MB, however little is in them
_OPENING = 16 << 20  # bytes that the engine may write to when it is opened
_GROWTH = 4  # what a batch may take on disk, times its size: journal, vectors, payload, payload indexes


class Manifest(msgspec.Struct, frozen=True):
    format: int
    dimension: int | None
    metric: Metric
    shard: str  # the folder in force
    sequence: int  # every write up to this one is in it, synced
    namespaces: list[str]  # as of that write

    @property
    def layout(self) -> Layout:
        return Layout(self.dimension, self.metric)


@dataclass(frozen=True, slots=True)
class Copy:
    """A compaction on its way: a copy of the shard, and the child at work on it."""

    folder: Path
    sequence: int  # the last write that will be in it
    namespaces: list[str]  # after that write
    points: int  # written since the last compaction, up to that write
    child: subprocess.Popen[bytes]


def create(folder: Path, layout: Layout) -> None:
    """An empty index in a folder that is not there yet. Raises OSError, Unavailable."""
    folder.mkdir(mode=0o700)
    shard = _shard_name(1)
    Shard.create(folder / shard, layout).close()
    compaction.sync_tree(folder / shard)
    _write_manifest(folder, Manifest(_FORMAT, layout.dimension, layout.metric, shard, 0, []))


class Contents:
    """An open index. Raises Unavailable when it is damaged, and OSError."""

    def __init__(self, folder: Path, reserve: int) -> None:
        """`reserve`: bytes to leave free on disk. The engine writes to memory that is mapped to files with holes; where
        the disk has no room to fill one, the process is killed, so nothing may be written then."""
        self.folder = folder
        self.lock = threading.Lock()
        self.waiting = 0  # short reads that wait for the lock
        self.applying = False  # whether the shard has a part of a batch that the names do not show yet
        self.failed = False
        self._reserve = reserve
        self._manifest = _read_manifest(folder)
        self.layout = self._manifest.layout
        for path in folder.glob("shard-*"):
            if path.name != self._manifest.shard:
                shutil.rmtree(path)
        names.forget(folder, self._manifest.sequence)
        if self._room() < min(0, _OPENING - reserve):
            raise Unavailable("The index cannot be opened: the disk is full")
        self.shard = Shard.load(folder / self._manifest.shard, self.layout)
        self.sequence = self._manifest.sequence
        known = names.load(folder, self.sequence)
        self._remember(known or {})
        for batch in replay(folder, self.sequence, mend=True):
            self.shard.apply(batch)
            self._name(batch)
            self.sequence = batch.sequence
        if known is None:
            found: dict[str, list[str]] = {namespace: [] for namespace in self.namespaces}
            for namespace, id in self.shard.names():
                found.setdefault(namespace, []).append(id)
            self._remember(found)
        self._journal = Journal(folder, self.sequence)
        # whether any vector is too long for the engine's arithmetic, or was; see ranking.py
        self.huge = self.shard.count(HUGE) > 0
        self.unindexed = self.shard.unindexed() if self.layout.dimension is not None else 0  # points

    def _remember(self, known: Mapping[str, Sequence[str]]) -> None:
        self.namespaces = {namespace: OrderedIds() for namespace in self._manifest.namespaces}
        self.namespaces |= {namespace: OrderedIds(ids) for namespace, ids in known.items()}
        self.count = sum(map(len, self.namespaces.values()))  # of all records; namespaces may be many

    def ids(self, namespace: str) -> OrderedIds:
        return self.namespaces.get(namespace) or OrderedIds()

    def commit(self, batch: Batch) -> None:
        """On disk, then seen. Raises Unavailable: nothing changed, or `failed` is set and the next opening decides."""
        self._check(batch)
        self._journal.append(batch)
        try:
            self.huge = self.huge or any(map(is_marked_huge, batch.puts))
            for piece in batch.pieces(_PIECE):
                with self.lock:
                    self.applying = True
                    self.shard.apply(piece)
                if self.waiting:
                    time.sleep(_TURN)
            with self.lock:
                self._name(batch)
                self.sequence = batch.sequence
                self.applying = False
        except BaseException:
            # The journal has the batch: opened again, the index has all of it.
            self.failed = True
            raise
        self.unindexed += batch.size

    def _check(self, batch: Batch) -> None:
        if not batch.puts:
            return  # what deletes must go on
        size = sum(len(point.dense or b"") + len(point.indices or b"") * 2 + 1024 for point in batch.puts)
        if self._room() < _GROWTH * size:
            raise Unavailable("The index cannot be written: the disk is full")

    def _room(self) -> int:
        """Bytes on disk that may be used."""
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize - self._reserve

    def _name(self, batch: Batch) -> None:
        for namespace in batch.dropped:
            self.count -= len(self.namespaces.pop(namespace, ()))
        for namespace in batch.created:
            self.namespaces.setdefault(namespace, OrderedIds())
        for namespace, ids in batch.deletes:
            known = self.ids(namespace)
            for id in ids:
                self.count -= known.discard(id)
        for point in batch.puts:
            self.count += self.namespaces[point.payload[NAMESPACE]].add(point.payload[ID])

    def point_ids(self, namespace: str, ids: list[str]) -> list[bytes]:
        """Of those that are there."""
        known = self.ids(namespace)
        return [point_id(namespace, id) for id in ids if id in known]

    def check_room(self) -> None:
        """Raises Unavailable if the disk has none for a copy of the index."""
        if self._room() < compaction.size_on_disk(self.folder) + _PAGES:
            raise Unavailable("No snapshot of the index can be made: the disk is full")

    def hold(self, copy: Callable[[Path, int, int], object]) -> tuple[int, dict[str, int]]:
        """On the writing thread: while nobody writes, has `copy` take the shard, which is whole up to a write, with the
        journal up to another. Gives that one's number, and the namespaces then. Raises Unavailable, OSError."""
        self._journal.rotate(self.sequence)
        copy(self.folder / self._manifest.shard, self._manifest.sequence, self.sequence)
        return self.sequence, {namespace: len(ids) for namespace, ids in sorted(self.namespaces.items())}

    # Compaction: start on the thread that waits for it, begin on the writing one, catch_up on any, finish on the
    # writing one.

    def start(self) -> tuple[Path, subprocess.Popen[bytes]]:
        """The folder of a copy to come, and the child that is ready to make it. Raises Unavailable, OSError."""
        old = self.folder / self._manifest.shard
        if self._room() < _COPIES * compaction.size_on_disk(old) + _PAGES:
            raise Unavailable("The index cannot be compacted: the disk is full")
        held = re.fullmatch(_SHARD, old.name)
        folder = self.folder / _shard_name(int(held[1]) + 1 if held else 1)
        return folder, compaction.start(old, folder, self.layout)

    def begin(self, folder: Path, copying: subprocess.Popen[bytes]) -> Copy:
        """Holds nothing but writes. Raises Unavailable, OSError."""
        try:
            self._journal.rotate(self.sequence)
            compaction.copy(copying, self._manifest.sequence, self.sequence)
        except BaseException:
            child.end(copying)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        points, self.unindexed = self.unindexed, 0
        return Copy(folder, self.sequence, list(self.namespaces), points, copying)

    def catch_up(self, copy: Copy) -> tuple[Shard, int]:
        """The copy, loaded, with what was written since; and the last write it has.

        Writes that go on all the while are never caught up with: after a few rounds, `finish` holds them for the rest.
        """
        shard = Shard.load(copy.folder, self.layout)
        reached = copy.sequence
        for _ in range(_ROUNDS):
            if reached < (upto := self.sequence):
                self._replay(shard, reached, upto)
                reached = upto
        return shard, reached

    def _replay(self, shard: Shard, after: int, upto: int) -> None:
        for batch in replay(self.folder, after, upto):
            for piece in batch.pieces(_PIECE):
                shard.apply(piece)
                time.sleep(_PAUSE)

    def finish(self, copy: Copy, shard: Shard, reached: int) -> None:
        """Puts the copy in force. Raises Unavailable, OSError: the old shard is still in force."""
        if reached < self.sequence:
            self._replay(shard, reached, self.sequence)
        layout, name = self.layout, copy.folder.name
        old = self._manifest.shard
        manifest = Manifest(_FORMAT, layout.dimension, layout.metric, name, copy.sequence, copy.namespaces)
        _write_manifest(self.folder, manifest)
        self._manifest = manifest
        with self.lock:
            old_shard, self.shard = self.shard, shard
        forget(self.folder, copy.sequence)
        names.forget(self.folder, copy.sequence)
        old_shard.close()
        _trim()
        shutil.rmtree(self.folder / old, ignore_errors=True)

    def abandon(self, copy: Copy) -> None:
        """Ends a compaction that came to nothing."""
        child.end(copy.child)
        shutil.rmtree(copy.folder, ignore_errors=True)
        self.unindexed += copy.points

    def close(self) -> None:
        """Leaves a shard that needs no journal, if the disk lets it."""
        with self.lock:
            try:
                if not self.failed:
                    self.shard.flush()
                    self._journal.rotate(self.sequence)
                    names.save(self.folder, self.sequence, self.namespaces)
                    layout, shard = self.layout, self._manifest.shard
                    namespaces = list(self.namespaces)
                    _write_manifest(
                        self.folder,
                        Manifest(_FORMAT, layout.dimension, layout.metric, shard, self.sequence, namespaces),
                    )
                    forget(self.folder, self.sequence)
                    names.forget(self.folder, self.sequence)
            except (OSError, Unavailable):
                pass  # the journal says the same
            finally:
                self._journal.close()
                self.shard.close()


def _trim() -> None:
    """Gives memory back that the old shard's indexes had: the allocator keeps it otherwise. Linux's C library alone."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _shard_name(number: int) -> str:
    """With something random, lest a child of a killed process writes into the folder of one of ours."""
    return f"shard-{number}-{secrets.token_hex(4)}"


def _read_manifest(folder: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise Unavailable("The index is damaged: its manifest does not read") from error
    if manifest.format != _FORMAT:
        raise Unavailable(f"The index has format {manifest.format}, and this Pinyon reads {_FORMAT}")
    return manifest


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """All of it or nothing, and synced."""
    new = folder / f"{MANIFEST}.new"
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(handle, msgspec.json.encode(manifest))
        os.fsync(handle)
    finally:
        os.close(handle)
    new.rename(folder / MANIFEST)
    sync_folder(folder)
