"""Imports of a process that is killed with SIGKILL, again and again, and started again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from pinyon.state import JobStatus
from pinyon.stores.edge import EdgeStore
from tests.services.import_files import replaced, server, table, uri, vectors, write

ROUNDS = int(os.environ.get("PINYON_CRASH_ROUNDS", "8"))
BATCH = 1000  # rows
BAD = 7  # in each file


def lived(folder: Path, lines: int | None) -> bool:
    """Whether a process ended by itself, before it had written so many lines and was killed."""
    command = [sys.executable, "-m", "tests.services.importer", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = 0
        while (lines is None or told < lines) and process.stdout.readline():
            told += 1
        if lines is not None and told == lines:
            process.kill()
        process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL)
        return process.returncode == 0


def test_an_import_is_whole_however_often_the_process_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    files = tmp_path / "files" / "import"
    # Enough batches that every life but the last ends by a kill.
    sizes = [BATCH * ROUNDS + chance.randrange(BATCH) for _ in range(3)]
    for at, size in enumerate(sizes):
        ids = replaced([f"{at}-{row}" for row in range(size)], **{f"_{row}": "" for row in range(0, size, size // BAD)})
        write(files / f"n{at % 2}" / f"{at}.parquet", table(size, id=ids, seed=at), 300)

    async def start() -> str:
        store = EdgeStore(tmp_path / "store", reserve=0)
        async with server(tmp_path, store=store) as made:
            # No handler runs before the first await of the shutdown: the processes do it all.
            id = (await made.imports.start_import("i", uri(files), on_error="continue")).id
        await store.close()
        return id

    async def check(id: str) -> None:
        store = EdgeStore(tmp_path / "store", reserve=0)
        async with server(tmp_path, store=store) as made:
            done = await made.imports.describe_import("i", id)
            bad = sum(len(range(0, size, size // BAD)) for size in sizes)
            assert (done.status, done.error) == (JobStatus.COMPLETED, None)
            assert (done.imported, done.failed) == (sum(sizes) - bad, bad)
            assert sum((await made.counts()).values()) == done.imported
            for at, size in enumerate(sizes):
                good = [row for row in range(size) if row % (size // BAD)]
                found = await made.fetch(*(f"{at}-{row}" for row in good), namespace=f"n{at % 2}")
                right = vectors(size, seed=at)
                for row in good:
                    record = found[f"{at}-{row}"]
                    assert record.values is not None and np.array_equal(record.values, right[row])
                    assert record.metadata["n"] == row
        await store.close()

    id = asyncio.run(start())
    for _ in range(ROUNDS):
        # Odd: while a batch is written; even: between that and its report, or a little later.
        assert not lived(tmp_path, chance.randrange(1, 5))
    assert lived(tmp_path, None)
    asyncio.run(check(id))
