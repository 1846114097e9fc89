"""Indexes with their backups and collections, without HTTP: what the composition root makes of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pinyon.filters import And
from pinyon.services.backups import BackupService, RestoreSettings
from pinyon.services.collections import CollectionService
from pinyon.services.copies import Copies
from pinyon.services.indexes import Addresses, IndexService
from pinyon.services.jobs import Jobs
from pinyon.state import (
    BackupRecord,
    CopyStatus,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobRecord,
    JobStatus,
    State,
)
from pinyon.stores.base import Index, Record, SparseVector, Store
from pinyon.testing import fake_catalogue
from pinyon.testing_stores.scenario import contents
from pinyon.types import Metric


class Copying:
    """`start` it, and `close` it. A second one over the same state and store is what follows a restart."""

    def __init__(
        self,
        state: State,
        store: Store,
        folder: Path,
        addresses: Addresses | None = None,
        running: int = 2,
        where: str | None = None,
    ) -> None:
        """`where` the archives are, which is `backups` of the folder unless told."""
        self.state = state
        self.store = store
        self.folder = folder
        self.jobs = Jobs(state, running=running)
        self.indexes = IndexService(state, store, fake_catalogue(folder), addresses, self.jobs)
        self.copies = Copies(state, self.indexes, where or str(folder / "backups"))
        self.backups = BackupService(state, self.indexes, self.jobs, self.copies)
        self.collections = CollectionService(state, self.indexes, self.jobs, self.copies)

    async def start(self) -> None:
        await self.indexes.start()
        await self.backups.start()
        await self.collections.start()
        await self.jobs.start()

    async def close(self) -> None:
        await self.jobs.close()
        await self.indexes.close()

    async def index(self, name: str) -> Index:
        return (await self.indexes.open_index(name)).index

    async def ended(self) -> list[JobRecord]:
        """Every job, oldest first, once it has ended."""
        jobs = await self.jobs.list(limit=1000)
        return [await self.jobs.wait(job.id) for job in reversed(jobs)]


def records(seed: int, ids: Sequence[str], dimension: int | None, *, sparse: bool = False) -> list[Record]:
    """Values of all magnitudes, and metadata of every kind."""
    rng = np.random.default_rng(seed)
    letters = random.Random(seed)
    made = []
    for id in ids:
        values = None if dimension is None else (rng.standard_normal(dimension) * 10.0 ** rng.integers(-30, 30))
        vector = None
        if sparse or dimension is None:
            indices = np.sort(rng.choice(2**32, 3, replace=False)).astype(np.uint32)
            vector = SparseVector(indices, rng.standard_normal(3).astype(np.float32))
        metadata: dict[str, Any] = {"n": float(rng.integers(2**53)), "s": "é" * letters.randrange(3), "b": True}
        metadata["l"] = [letters.choice("abc") for _ in range(letters.randrange(3))]
        made.append(Record(id, None if values is None else values.astype(np.float32), vector, metadata))
    return made


async def everything(index: Index) -> dict[str, list[Any]]:
    """All that is in an index, as values that can be compared, bit for bit."""
    return {
        namespace: contents(await index.fetch_where(namespace, And(()), after=None, limit=10**6))
        for namespace in await index.namespaces()
    }


async def eventually(condition: Any) -> None:
    """Until the coroutine function gives something true."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.002)


# --- what tests do with it -------------------------------------------------------------------------------------------

Work = Callable[[Copying], Coroutine[Any, Any, None]]
Run = Callable[[Work], None]


async def filled(it: Copying, made: IndexSettings, count: int = 25) -> Index:
    """A new index with records in three namespaces, and a namespace without any."""
    await it.indexes.create_index(made)
    index = await it.index(made.name)
    sparse = made.metric is Metric.DOTPRODUCT
    for number, namespace in enumerate(("", "other", "日本 /%")):
        ids = [f"{namespace}{n}" for n in range(count)]
        await index.upsert(namespace, records(number, ids, made.dimension, sparse=sparse))
    await index.create_namespace("empty")
    return index


async def backed_up(it: Copying, index: str = "notes", **others: Any) -> BackupRecord:
    made = await it.backups.create_backup(index, **others)
    assert made.status is CopyStatus.INITIALIZING
    await it.ended()
    return await it.backups.describe_backup(made.id)


async def restored(it: Copying, id: str, wanted: RestoreSettings) -> IndexRecord:
    """The new index, when its job is done."""
    index, job = await it.backups.create_index_from_backup(id, wanted)
    assert index.status is IndexStatus.INITIALIZING
    assert (await it.jobs.wait(job.id)).status is JobStatus.COMPLETED
    return await it.indexes.describe_index(wanted.name)


async def restarted(it: Copying, folder: Path) -> Copying:
    """What follows on `it`, which is stopped as a server is."""
    await it.close()
    after = Copying(it.state, it.store, folder)
    await after.start()
    return after


def damaged(folder: Path, id: str, how: str) -> None:
    [part] = (folder / "backups" / id).glob("*.parquet")
    manifest = folder / "backups" / id / "manifest.json"
    if how == "a bit":
        data = bytearray(part.read_bytes())
        data[random.Random(0).randrange(len(data))] ^= 1
        part.write_bytes(data)
    elif how == "short":
        part.write_bytes(part.read_bytes()[:-1])
    elif how == "no part":
        part.unlink()
    elif how == "no manifest":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes().replace(b"25", b"24", 1))
