"""Indexes with their backups and collections, without HTTP: what the composition root makes of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pinyon.filters import And
from pinyon.services.backups import BackupService
from pinyon.services.collections import CollectionService
from pinyon.services.copies import Copies
from pinyon.services.indexes import Addresses, IndexService
from pinyon.services.jobs import Jobs
from pinyon.state import JobRecord, State
from pinyon.stores.base import Index, Record, SparseVector, Store
from pinyon.testing import fake_catalogue
from pinyon.testing_stores.scenario import contents


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
