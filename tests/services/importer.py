"""A process that goes on with imports until they have ended. `python -m tests.services.importer FOLDER`: its store,
its state, and the files. Writes a line before and behind each batch that it stores, so that it can be killed there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from pinyon.stores.base import Index, Record
from pinyon.stores.edge import EdgeStore
from tests.services.import_files import server


class Telling:
    """An index that says when it writes."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    async def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        print("writing", flush=True)
        number = await self._index.upsert(namespace, records)
        print("written", flush=True)
        return number


class TellingStore(EdgeStore):
    async def open(self, key: str) -> Index:
        return Telling(await super().open(key))  # type: ignore[return-value]


async def run(folder: Path) -> None:
    store = TellingStore(folder / "store", reserve=0)
    async with server(folder, store=store) as made:
        for job in await made.jobs.list():
            await made.jobs.wait(job.id)
    await store.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
