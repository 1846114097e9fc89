"""The embedded store where there is no room left: on a small file system of its own, which is really full, and with
files that the kernel lets grow no more. Writes are refused, reads go on, and nothing acknowledged is lost.

    python -m tests.stores.test_edge_full_disk fill|reopen|limit FOLDER ...
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.errors import Unavailable
from pinyon.filters import Lt
from pinyon.stores.base import Index, Layout, Metric, Query, Record
from pinyon.stores.edge import EdgeStore
from pinyon.stores.edge.journal import files
from pinyon.testing_stores.scenario import contents

from .edge_scenario import opened, run

LAYOUT = Layout(1024, Metric.COSINE)
DISK = 160  # MB; an index that is empty has 40 already
RESERVE = 8 << 20  # bytes
SPARES = {"spare": 16 << 20, "other spare": 48 << 20}  # bytes, of files whose end makes room
BATCH = 120  # more than the deletes that fit into the last page of a journal
NEVER = 1 << 40
UPSERT_REFUSED = "disk is full"
MOUNTS = ("unshare --mount", "unshare --map-root-user --mount", "sudo -n unshare --mount")


@cache
def mount() -> str:
    """What runs a command that may mount, seen by itself alone; "" where nobody may."""
    for command in MOUNTS:
        attempt = [*shlex.split(command), "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(attempt, capture_output=True).returncode == 0:
                return command
    return ""


def batch(number: int) -> list[Record]:
    rows = np.random.default_rng(number).standard_normal((BATCH, 1024), np.float32)
    return [Record(f"{number:04}-{n:03}", row, metadata={"n": float(n)}) for n, row in enumerate(rows)]


async def check(index: Index, batches: int, deleted: int = 0) -> None:
    """It answers every kind of read, with `batches` whole batches less the first records of the first."""
    gone = {record.id for record in batch(0)[:deleted]}
    assert await index.namespaces() == {"": batches * BATCH - deleted}
    ids = [record.id for number in range(batches) for record in batch(number) if record.id not in gone]
    assert await index.list_ids("", prefix="", after=None, limit=10**6) == ids
    assert await index.count_where("", Lt("n", 1.0)) == batches - (deleted > 0)
    for number in range(batches):
        wanted = [record for record in batch(number) if record.id not in gone]
        assert contents((await index.fetch("", [record.id for record in wanted])).values()) == contents(wanted)
    for record in batch(batches - 1)[:3]:
        assert record.values is not None
        for query in (Query(1, record.values), Query(1, record.values, filter=Lt("n", 5.0))):
            assert [match.record.id for match in await index.query("", query)] == [record.id]


async def refused(index: Index, text: str) -> None:
    before = index.sequence
    with pytest.raises(Unavailable, match=text):
        await index.upsert("", batch(9999))
    assert index.sequence == before


def take_all(path: Path) -> None:
    """Leaves no room on the disk."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))


async def fill(folder: Path, compact_after: int) -> None:
    """Writes until there is no room, then takes the rest of it away, and is killed. Says how much is there."""
    for name, size in SPARES.items():
        (folder / name).write_bytes(bytes(size))
    store = EdgeStore(folder / "store", reserve=RESERVE, compact_after=compact_after)
    index = await store.create("one", LAYOUT)
    batches = 0
    try:
        while True:
            await index.upsert("", batch(batches))
            batches += 1
    except Unavailable as error:
        assert UPSERT_REFUSED in str(error)
    assert batches
    assert not index.closed
    await check(index, batches)
    # Others write on, until nothing is left.
    take_all(folder / "ballast")
    await check(index, batches)
    await refused(index, UPSERT_REFUSED)
    # A delete needs room in the journal alone, whose last page may have some.
    deleted = 0
    with pytest.raises(Unavailable, match="No space left on device"):
        for record in batch(0):
            await index.delete("", [record.id])
            deleted += 1
    for _ in range(3):
        with pytest.raises(Unavailable, match="No space left on device"):
            await index.create_namespace("long " * 1000)
    assert not index.closed
    await check(index, batches, deleted)
    # Room is made, and taken.
    (folder / "spare").unlink()
    await index.upsert("", batch(batches))
    batches += 1
    await check(index, batches, deleted)
    print(batches, deleted, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


async def reopen(folder: Path, compact_after: int, batches: int, deleted: int) -> None:
    store = EdgeStore(folder / "store", reserve=RESERVE, compact_after=compact_after)
    if compact_after == NEVER:  # else a copy may be left over, whose end makes room
        take_all(folder / "more ballast")
        with pytest.raises(Unavailable, match="disk is full"):
            await store.open("one")
        (folder / "more ballast").unlink()
    for name in ("ballast", "other spare"):
        (folder / name).unlink()
    index = await store.open("one")
    await check(index, batches, deleted)
    await index.upsert("", batch(batches))
    await check(index, batches + 1, deleted)
    await store.close()


@pytest.mark.skipif(not mount() and "CI" not in os.environ, reason="nobody here may mount a file system")
@pytest.mark.parametrize("compact_after", [NEVER, 1000])
def test_on_a_disk_that_is_full_writes_are_refused_and_reads_go_on(tmp_path: Path, compact_after: int) -> None:
    place = shlex.quote(str(tmp_path))
    python = f"{shlex.quote(sys.executable)} -X faulthandler -m {__name__}"
    script = f"""
        mount -t tmpfs -o size={DISK}m none {place} || exit
        said=$({python} fill {place} {compact_after})
        test $? = {128 + signal.SIGKILL} || exit 1
        {python} reopen {place} {compact_after} $said
    """
    done = subprocess.run([*shlex.split(mount()), "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


async def limit(folder: Path) -> None:
    """The process may write no file beyond the journal's size, which every kernel refuses without any rights."""
    store, index = await opened(folder, LAYOUT)
    await index.upsert("", batch(0))
    [journal] = files(folder / "one")
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for batches in (1, 2, 3):
        size = journal.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, most[1]))  # an entry begins, and does not end
        for _ in range(2):
            await refused(index, "File too large")
        assert journal.stat().st_size == size
        await check(index, batches)
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
        await index.upsert("", batch(batches))
        await check(index, batches + 1)
    await store.close()
    store = EdgeStore(folder, reserve=0)
    await check(await store.open("one"), 4)
    await store.close()


def test_where_the_journal_may_not_grow_writes_are_refused_and_reads_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", __name__, "limit", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    steps: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"fill": fill, "reopen": reopen, "limit": limit}
    run(steps[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:])))
