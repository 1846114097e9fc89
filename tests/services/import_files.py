"""Parquet files for tests of imports, and a service that imports them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pinyon.config import Integration
from pinyon.services.import_sources import Sources
from pinyon.services.imports import Import, ImportService
from pinyon.services.indexes import IndexService
from pinyon.services.jobs import Jobs
from pinyon.state import JobKind, State
from pinyon.stores.base import Record, Store
from pinyon.stores.memory import MemoryStore
from pinyon.testing import fake_catalogue
from tests.state.making import settings

DIMENSION = 8
TIMEOUT = 60  # seconds; nothing here takes so long
SPARSE = pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))])


def vectors(count: int, dimension: int = DIMENSION, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)


def table(count: int, prefix: str = "r", dimension: int = DIMENSION, seed: int = 0, **columns: Any) -> pa.Table:
    """Rows `r0`, `r1`... with values and metadata. `columns` replace these, or add to them; None takes one away."""
    rows = vectors(count, dimension, seed)
    made: dict[str, Any] = {
        "id": [f"{prefix}{at}" for at in range(count)],
        "values": pa.array(list(rows), pa.list_(pa.float32())),
        "metadata": [f'{{"n": {at}, "tags": ["a", "b"]}}' for at in range(count)],
        **columns,
    }
    return pa.table({name: column for name, column in made.items() if column is not None})


def write(path: Path, rows: pa.Table, row_group: int = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=row_group)


def uri(folder: Path) -> str:
    return f"file://{folder}"


def replaced(items: Sequence[Any], **others: Any) -> list[Any]:
    """`replaced("abc", _1="x")` is a, x, c."""
    found = list(items)
    for at, item in others.items():
        found[int(at[1:])] = item
    return found


@dataclass
class Server:
    imports: ImportService
    jobs: Jobs
    indexes: IndexService
    state: State
    store: Store

    async def started(self, uri: str, index: str = "i", **options: Any) -> Import:
        """Starts an import and waits for its end."""
        begun = await self.imports.start_import(index, uri, **options)
        await self.jobs.wait(begun.id)
        return await self.imports.describe_import(index, begun.id)

    async def counts(self, index: str = "i") -> dict[str, int]:
        return await (await self.indexes.open_index(index)).index.namespaces()

    async def fetch(self, *ids: str, namespace: str = "n", index: str = "i") -> dict[str, Record]:
        return await (await self.indexes.open_index(index)).index.fetch(namespace, ids)


@contextlib.asynccontextmanager
async def server(
    folder: Path,
    *,
    store: Store | None = None,
    roots: Sequence[str] | None = None,
    integrations: dict[str, Integration] | None = None,
    running: int = 2,
    **index: Any,
) -> AsyncIterator[Server]:
    """Imports over `state.db` of the folder and a store, which stays open if it was given. There is an index `i`, of
    DIMENSION dimensions unless `index` says otherwise. Files are read from `files` of the folder."""
    own = store or MemoryStore()
    state = await State.open(f"sqlite:///{folder}/state.db")
    indexes = IndexService(state, own, fake_catalogue(folder))
    if not await state.list_indexes():
        await indexes.create_index(settings("i", **{"dimension": DIMENSION, **index}))
    jobs = Jobs(state, running=running)
    imports = ImportService(jobs, indexes, Sources([str(folder / "files")] if roots is None else roots, integrations))
    jobs.handle(JobKind.IMPORT, imports.run)
    await jobs.start()
    try:
        yield Server(imports, jobs, indexes, state, own)
    finally:
        await jobs.close()
        await indexes.close()
        if store is None:
            await own.close()
        await state.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), TIMEOUT))
