"""What one index holds beside its shard: the journal, the ordered ids, and the manifest that ties them together.

    <folder>/index.json          the manifest: layout, the shard in force, the last write that is whole in it
    <folder>/shard-<n>-<random>  the engine's files, which a host has open
    <folder>/names-<n>.bin       the ids as of write n; see names.py
    <folder>/journal-<n>.log     the writes behind n, which is that one, or a later one

The shard's write is that of its last flush, the ids' that of the last compaction or clean end, since there may be
millions of them.

What touches the disk blocks: whoever has the index calls it on a thread, one call at a time.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Metric
from pinyon.stores.edge import child, compaction, names
from pinyon.stores.edge.child import Child, Kind
from pinyon.stores.edge.ids import OrderedIds
from pinyon.stores.edge.journal import Batch, Journal, encode, forget, replay, sync_folder, write_all
from pinyon.stores.points import ID, NAMESPACE, is_marked_huge

MANIFEST = "index.json"
_FORMAT = 1
_SHARD = re.compile(r"shard-(\d+)-[0-9a-f]+")
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
    namespaces: list[str]  # as of write `names`
    names: int | None = None  # whose ids there is a file of; None, as earlier versions left it: `sequence`

    @property
    def layout(self) -> Layout:
        return Layout(self.dimension, self.metric)

    @property
    def named(self) -> int:
        return self.sequence if self.names is None else self.names


@dataclass(slots=True)
class Copy:
    """A compaction on its way: a copy of the shard, and the child at work on it."""

    folder: Path
    child: Child
    sequence: int = 0  # the last write that will be in it
    namespaces: list[str] = field(default_factory=list)  # after that write
    points: int = 0  # written since the last compaction, up to that write


def create(folder: Path, layout: Layout) -> None:
    """An empty index in a folder that is not there yet. Raises OSError, Unavailable."""
    folder.mkdir(mode=0o700)
    shard = _shard_name(1)
    made = child.start(Kind.CREATION, str(folder / shard), root=folder.parent, layout=layout)
    try:
        if not made.says(child.DONE):
            raise child.failed("The making of an index")
    finally:
        made.end()
    _write_manifest(folder, _manifest(layout, shard, 0, []))


class Contents:
    """Of an open index. Raises Unavailable when it is damaged, and OSError."""

    def __init__(self, folder: Path, flush_after: int, reserve: int) -> None:
        """`flush_after`: see EdgeStore. `reserve`: bytes to leave free on disk. The engine writes to memory that is
        mapped to files with holes; where the disk has no room to fill one, its process is killed, so nothing may be
        written then."""
        self.folder = folder
        self.flush_after = flush_after
        self.failed = False
        self.huge = False  # whether any vector is too long for the engine's arithmetic, or was; see ranking.py
        self.unindexed = 0  # points outside the search graph
        self._reserve = reserve
        self._manifest = _read_manifest(folder)
        self.layout = self._manifest.layout
        for path in folder.glob("shard-*"):
            if path.name != self._manifest.shard:
                shutil.rmtree(path, ignore_errors=True)
        names.forget(folder, self._manifest.named)
        if self._room() < min(0, _OPENING - reserve):
            raise Unavailable("The index cannot be opened: the disk is full")
        self.sequence = self._manifest.named
        known = names.load(folder, self.sequence)
        self.named = known is not None  # if not, the shard must be asked; see remember
        none: dict[str, list[str]] = {namespace: [] for namespace in self._manifest.namespaces}
        self._remember(none | (known or {}))
        for batch in replay(folder, self.sequence, mend=True):
            self.name(batch)
        if self.sequence < self._manifest.sequence:
            raise Unavailable("The index is damaged: its journal ends before its shard")
        self._appended = self.sequence  # the last write in the journal
        self._journal = Journal(folder, self.sequence)

    @property
    def shard(self) -> Path:
        """The folder of the one in force."""
        return self.folder / self._manifest.shard

    @property
    def shard_sequence(self) -> int:
        """The last write that is whole in it."""
        return self._manifest.sequence

    def remember(self, known: Mapping[str, Sequence[str]]) -> None:
        """All ids that there are, as the shard has them."""
        self._remember({namespace: [] for namespace in self.namespaces} | dict(known))
        self.named = True

    def _remember(self, known: Mapping[str, Sequence[str]]) -> None:
        self.namespaces = {namespace: OrderedIds(ids) for namespace, ids in known.items()}
        self.count = sum(map(len, self.namespaces.values()))  # of all records; namespaces may be many

    def counts(self) -> dict[str, int]:
        """Of every namespace the number of records, by rising name."""
        return {namespace: len(ids) for namespace, ids in sorted(self.namespaces.items())}

    def ids(self, namespace: str) -> OrderedIds:
        return self.namespaces.get(namespace) or OrderedIds()

    def append(self, batch: Batch) -> bytes:
        """Puts it on disk, and gives it as it is there. Raises Unavailable: nothing changed."""
        self._check(batch)
        body = encode(batch)
        self._journal.append(body)
        self._appended = batch.sequence
        return body

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

    def expect(self, batch: Batch) -> None:
        """Before it is applied: what a query must know of it."""
        if self.layout.metric is not Metric.COSINE:
            self.huge = self.huge or any(map(is_marked_huge, batch.puts))

    def name(self, batch: Batch) -> None:
        """Once it is applied. In the order of their sequence."""
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
        self.sequence = batch.sequence
        self.unindexed += batch.size

    def check_room(self) -> None:
        """Raises Unavailable if the disk has none for a copy of the index."""
        if self._room() < compaction.size_on_disk(self.folder) + _PAGES:
            raise Unavailable("No snapshot of the index can be made: the disk is full")

    def rotate(self) -> None:
        """Goes on in a new file of the journal, so that what is copied of it stays as it is. Raises OSError."""
        self._journal.rotate(self._appended)

    def advance(self, sequence: int, shard: Path) -> None:
        """Every write up to this one is in that shard, synced: if it is the one in force, the next opening of the index
        need not do them again."""
        if shard != self.shard or sequence <= self.shard_sequence:
            return
        with suppress(OSError):  # then it does
            self.rotate()
            self._put(msgspec.structs.replace(self._manifest, sequence=sequence, names=self._manifest.named))

    def _put(self, manifest: Manifest) -> None:
        _write_manifest(self.folder, manifest)
        self._manifest = manifest

    # Compaction: `begin` and `put_in_force` while nobody writes, the rest at leisure.

    def start(self) -> Copy:
        """A child that is ready to make a copy. Raises Unavailable, OSError."""
        old = self.shard
        if self._room() < _COPIES * compaction.size_on_disk(old) + _PAGES:
            raise Unavailable("The index cannot be compacted: the disk is full")
        held = re.fullmatch(_SHARD, old.name)
        folder = self.folder / _shard_name(int(held[1]) + 1 if held else 1)
        return Copy(folder, compaction.start(old, folder, self.layout))

    def begin(self, copy: Copy) -> None:
        """While nobody writes. Raises Unavailable, OSError."""
        self.rotate()
        compaction.copy(copy.child, self.shard_sequence, self.sequence)
        copy.sequence = self.sequence
        copy.namespaces = list(self.namespaces)
        copy.points, self.unindexed = self.unindexed, 0

    def put_in_force(self, copy: Copy) -> Path:
        """While nobody writes, and with a host of the copy that has every write. Gives the old shard. Raises OSError:
        that one is still in force."""
        old = self.shard
        self._put(_manifest(self.layout, copy.folder.name, copy.sequence, copy.namespaces))
        return old

    def clear(self, old: Path) -> None:
        """Removes what is no longer needed since another shard is in force."""
        forget(self.folder, self._manifest.named)
        names.forget(self.folder, self._manifest.named)
        compaction.remove_shard(old)

    def abandon(self, copy: Copy) -> None:
        """Ends a compaction that came to nothing."""
        copy.child.end()
        shutil.rmtree(copy.folder, ignore_errors=True)
        self.unindexed += copy.points

    def close(self, flushed: bool) -> None:
        """`flushed`: every write is whole in the shard, so that it needs no journal, if the disk lets it."""
        try:
            if flushed and not self.failed:
                self.rotate()
                names.save(self.folder, self.sequence, self.namespaces)
                self._put(_manifest(self.layout, self.shard.name, self.sequence, list(self.namespaces)))
                forget(self.folder, self.sequence)
                names.forget(self.folder, self.sequence)
        except (OSError, Unavailable):
            pass  # the journal says the same
        finally:
            self._journal.close()


def _shard_name(number: int) -> str:
    """With something random, lest a child of a killed process writes into the folder of one of ours."""
    return f"shard-{number}-{secrets.token_hex(4)}"


def _manifest(layout: Layout, shard: str, sequence: int, namespaces: list[str]) -> Manifest:
    return Manifest(_FORMAT, layout.dimension, layout.metric, shard, sequence, namespaces, names=sequence)


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
