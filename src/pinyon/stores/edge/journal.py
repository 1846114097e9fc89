"""The journal: every write of an index, on disk before it is acknowledged. What it holds makes the shard whole again.

The engine's own log is off: it is not synced to disk, and compaction needs to read back what was written meanwhile.
Batches say what to put and what to delete, never how it was worked out, so that replaying one twice does no harm: after
a kill, a shard may hold some of the points of a batch, or half of one. Files are named for the sequence number before
their first batch:

    journal-00000000000000000041.log      entry*, each: magic, length of body, crc32 of body (4 bytes each), body

An entry is written whole and synced before the next, so only the last of the last file can be torn; it was never
acknowledged, and is cut off. Anything else that does not read is damage, and is refused.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from pinyon.errors import Unavailable
from pinyon.stores.points import Point

_HEADER = struct.Struct("<4sII")
_MAGIC = b"PJ1\n"
_PREFIX, _SUFFIX = "journal-", ".log"


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """One write. Its parts apply in the order of the fields."""

    sequence: int
    dropped: list[str] = []  # namespaces, with their records
    created: list[str] = []  # namespaces
    deletes: list[tuple[str, list[str]]] = []  # namespace, ids
    puts: list[Point] = []

    @property
    def size(self) -> int:
        """Points that it touches, by their number."""
        return len(self.puts) + sum(len(ids) for _, ids in self.deletes)

    def pieces(self, points: int) -> Iterator[Batch]:
        """Batches of at most `points` points each that together do the same."""
        if self.dropped or self.created:
            yield Batch(self.sequence, self.dropped, self.created)
        for namespace, ids in self.deletes:
            for at in range(0, len(ids), points):
                yield Batch(self.sequence, deletes=[(namespace, ids[at : at + points])])
        for at in range(0, len(self.puts), points):
            yield Batch(self.sequence, puts=self.puts[at : at + points])


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


class Journal:
    """The end of a journal, open for writing. Not for several threads at once."""

    def __init__(self, folder: Path, sequence: int) -> None:
        """`sequence`: of the last batch there is. Goes on in a file of its own."""
        self._folder = folder
        self._broken = False
        self._open(sequence)

    def _open(self, sequence: int) -> None:
        self.path = self._folder / f"{_PREFIX}{sequence:020}{_SUFFIX}"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.length = os.fstat(self._file).st_size
        sync_folder(self._folder)

    def append(self, body: bytes) -> None:
        """Writes and syncs an encoded batch. Raises Unavailable, and it is not in the journal."""
        if self._broken:
            raise Unavailable("The index cannot be written since an earlier error of the disk; restart the server")
        entry = _HEADER.pack(_MAGIC, len(body), zlib.crc32(body)) + body
        try:
            write_all(self._file, entry)
            os.fdatasync(self._file)
        except OSError as error:
            self._cut()
            raise Unavailable(f"The index cannot be written: {os.strerror(error.errno or 0)}") from error
        self.length += len(entry)

    def _cut(self) -> None:
        """Takes back an entry that may be there in part. Where that fails, nothing more can be promised."""
        try:
            os.ftruncate(self._file, self.length)
            os.fdatasync(self._file)
        except OSError:
            self._broken = True

    def rotate(self, sequence: int) -> None:
        """Goes on in a new file, behind batch `sequence`, unless this one is empty. Raises OSError."""
        if self.length == 0:
            return
        old = self._file
        self._open(sequence)
        os.close(old)

    def close(self) -> None:
        os.close(self._file)


def replay(folder: Path, after: int, upto: int | None = None, *, mend: bool = False) -> Iterator[Batch]:
    """The batches behind sequence number `after`, to `upto` or the end, in order, with none missing.

    mend: cuts a torn entry off the end, which only the process that writes the journal may do. Raises Unavailable: it
    is damaged.
    """
    expected = after + 1
    paths = [path for path in files(folder) if upto is None or _first(path) < upto]
    while len(paths) > 1 and _first(paths[1]) <= after:
        del paths[0]
    for path in paths:
        for batch in _read(path, last=upto is None and path == paths[-1], mend=mend):
            if batch.sequence < expected:
                continue
            if upto is not None and batch.sequence > upto:
                return
            if batch.sequence > expected:
                raise Unavailable(f"The index is damaged: write {expected} is missing from its journal")
            yield batch
            expected += 1
    if upto is not None and expected <= upto:
        raise Unavailable(f"The index is damaged: write {expected} is missing from its journal")


def _read(path: Path, *, last: bool, mend: bool) -> Iterator[Batch]:
    with path.open("r+b" if mend else "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (start := file.tell()) < size:
            header = file.read(_HEADER.size)
            end = size
            if len(header) == _HEADER.size and header.startswith(_MAGIC):
                _, length, checksum = _HEADER.unpack(header)
                end = start + _HEADER.size + length
                body = file.read(length)
                if len(body) == length and zlib.crc32(body) == checksum:
                    yield _decode(body)
                    continue
            elif header.strip(b"\0") and len(header) == _HEADER.size:
                end = 0  # no beginning of an entry: not what tearing leaves
            if not last or end < size:
                raise Unavailable("The index is damaged: its journal does not read")
            if mend:
                file.truncate(start)
                os.fdatasync(file.fileno())
            return


def files(folder: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))


def forget(folder: Path, upto: int) -> None:
    """Removes the files that hold only batches up to and with `upto`."""
    paths = files(folder)
    for path, following in pairwise(paths):
        if _first(following) <= upto:
            path.unlink()


def _first(path: Path) -> int:
    """The number before its first batch."""
    return int(path.name[len(_PREFIX) : -len(_SUFFIX)])


def write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def sync_folder(folder: Path) -> None:
    """Makes names in a folder last: a synced file whose name was not is lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
