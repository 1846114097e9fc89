"""Compaction: builds the search graph over what was written since the last time, in a process of its own.

`optimize` takes minutes, in which a shard can do nothing else, so it works on a copy of the shard, in a child:

    parent                                           child
    starts it
    holds writes, tells it the last one              copies the shard, says so
    goes on                                          replays the journal up to the hold, optimises, flushes, says so

    starts a host of the copy                        loads it, searches to be warm, replays what came meanwhile
    holds writes, has it replay the rest,
    names the copy in the index's manifest,
    and asks that host from now on
    ends the old host, removes the old shard

No query waits for any of it: they go to the old host until the new one has it all. The manifest is the only place that
says which shard is in force, and changes by one rename: a crash before it leaves the old one and its journal, after it
the new. What neither names is removed when the index is opened.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

from pinyon.stores.base import Layout
from pinyon.stores.edge import child, names
from pinyon.stores.edge.child import Child, Kind
from pinyon.stores.edge.int8 import SAMPLE, keep_neighbours
from pinyon.stores.edge.journal import replay, sync_folder, write_all
from pinyon.stores.edge.shard import FLUSH_AFTER, GRAPH_FROM, Shard

_BLOCK = 1 << 20
_FREED = 4 << 20  # bytes of a file, at once
_PAUSE = 0.001  # seconds, before the next ones
# Written once and never changed, so that a second name is as good as a copy: a graph, and what is under it.
_IMMUTABLE = {"matrix.dat", "quantized.data", "links_compressed.bin"}


def start(old: Path, new: Path, layout: Layout) -> Child:
    """Starts a child that is to copy `old` to `new`, a sibling of it. Raises OSError, Unavailable."""
    return child.start(Kind.COMPACTION, str(old), str(new), root=old.parent.parent, layout=layout)


def copy(copying: Child, after: int, upto: int) -> None:
    """Has the child copy the shard, in which every write up to `after` is whole, and bring the copy up to `upto`. Waits
    for the copy alone: until then nobody may write. Raises Unavailable."""
    copying.tell(b"%d %d" % (after, upto))
    if not copying.says(child.COPIED):
        raise child.failed("The copy of an index, to compact it,")


def main(stream: socket.socket, arguments: list[str], layout: Layout) -> None:
    """The child's work."""
    old, new = map(Path, arguments)
    after, upto = map(int, child.line(stream).split())
    copy_shard(old, new)
    child.say(stream, child.COPIED)
    os.nice(19)  # only now: writes were waiting
    shard = Shard.load(new, layout)
    catch_up(shard, old.parent, after, upto)
    int8 = _suit_int8(shard, layout)
    shard.flush()
    shard.close()
    shard = Shard.load(new, layout, indexing_threads=max(1, (os.cpu_count() or 1) // 2), int8=int8)
    shard.optimize()
    shard.flush()
    known: dict[str, list[str]] = {}
    for namespace, id in shard.names():
        known.setdefault(namespace, []).append(id)
    shard.close()
    sync_tree(new)
    names.save(old.parent, upto, known)
    child.say(stream, child.DONE)


def _suit_int8(shard: Shard, layout: Layout) -> bool:
    """Whether a graph is built over vectors that int8.py takes. Without a graph there is little to gain."""
    if layout.dimension is None or shard.count(None, exact=False) * layout.dimension * 4 < GRAPH_FROM:
        return False
    return keep_neighbours(shard.sample(SAMPLE), layout.metric)


def catch_up(shard: Shard, folder: Path, after: int, upto: int) -> None:
    """Brings it from one write up to another of an index's journal."""
    for batch in replay(folder, after, upto):
        shard.apply(batch)
        if shard.unflushed >= FLUSH_AFTER:
            shard.flush()


def size_on_disk(folder: Path) -> int:
    """Bytes, without the holes. What goes away meanwhile may count or not."""
    size = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                size += os.lstat(Path(path, name)).st_blocks * 512
    return size


def copy_shard(old: Path, new: Path) -> None:
    """Copies a shard that nobody writes meanwhile. Most of its files are mostly holes, and stay so."""
    for folder, _, files in os.walk(old):
        target = new / os.path.relpath(folder, old)
        target.mkdir(mode=0o700)
        for name in files:
            source = Path(folder, name)
            if name in _IMMUTABLE:
                with suppress(OSError):  # not every file system has links
                    os.link(source, target / name)
                    continue
            copy_file(source, target / name)


def copy_file(source: Path, target: Path) -> None:
    """Holes stay holes. Raises OSError."""
    with source.open("rb") as reading, target.open("xb") as writing:
        size = os.fstat(reading.fileno()).st_size
        end = 0
        while end < size:
            try:
                start = os.lseek(reading.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                break
            end = os.lseek(reading.fileno(), start, os.SEEK_HOLE)
            os.lseek(writing.fileno(), start, os.SEEK_SET)
            os.lseek(reading.fileno(), start, os.SEEK_SET)
            while start < end and (block := os.read(reading.fileno(), min(_BLOCK, end - start))):
                write_all(writing.fileno(), block)
                start += len(block)
        writing.truncate(size)


def remove_shard(folder: Path) -> None:
    """One that no process has open. In pieces: while the system freed hundreds of megabytes of a file at once, a query
    waited for 40 ms. What another folder has a name of too stays there as it is."""
    for path, _, files in os.walk(folder):
        for name in files:
            file = Path(path, name)
            with suppress(OSError):
                held = file.stat()
                for size in range(held.st_size - _FREED, 0, -_FREED) if held.st_nlink == 1 else ():
                    os.truncate(file, size)
                    time.sleep(_PAUSE)
    shutil.rmtree(folder, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Makes a folder last, with all that is in it."""
    for path, _, files in os.walk(folder):
        for name in files:
            handle = os.open(Path(path, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(path))
    sync_folder(folder.parent)
