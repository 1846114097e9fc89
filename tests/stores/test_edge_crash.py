"""The embedded store under kill -9, at moments drawn from a seed: nothing acknowledged is lost, nothing half done.

A child writes, compacts, and says after each write which one it was; it is killed, and the index is opened here. Writes
follow from the seed alone, so the wanted contents are those of memory after the acknowledged ones, or one more. Every
other round the child kills itself at a step of a compaction, which a moment drawn by the clock would seldom hit.

PINYON_CRASH_ROUNDS says how many rounds (12).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.filters import And, Eq
from pinyon.stores.base import Change, Index, Layout, Metric, Query, Record, SparseVector
from pinyon.stores.edge import EdgeStore, contents
from pinyon.stores.edge.contents import Contents
from pinyon.stores.edge.index import EdgeIndex
from pinyon.stores.memory import MemoryStore
from pinyon.testing_stores.scenario import contents as comparable

ROUNDS = int(os.environ.get("PINYON_CRASH_ROUNDS", "12"))
SEEDS = 4  # indexes that live on from round to round
DIMENSION = 8
LAYOUTS = [
    *(Layout(DIMENSION, metric) for metric in (Metric.COSINE, Metric.DOTPRODUCT, Metric.EUCLIDEAN)),
    Layout(None, Metric.DOTPRODUCT),
]
NAMESPACES = ["", "other"]
STEPS = [
    *("behind begin", "behind catch_up", "before _write_manifest", "before sync_folder", "behind _write_manifest"),
    *("behind forget",),
]


def record(rng: random.Random, layout: Layout, id: str) -> Record:
    values = sparse = None
    if layout.dimension is not None:
        values = np.array([rng.gauss(0, 3) for _ in range(layout.dimension)], np.float32)
    if layout.dimension is None or (layout.metric is Metric.DOTPRODUCT and rng.random() < 0.3):
        indices = np.array(sorted(rng.sample(range(99), 3)), np.uint32)
        sparse = SparseVector(indices, np.array([rng.random() + 0.1 for _ in range(3)], np.float32))
    return Record(id, values, sparse, {"n": float(rng.randrange(5)), "s": f"s{rng.randrange(5)}"})


async def write(index: Index, layout: Layout, seed: int, number: int) -> None:
    """Write `number` of a history: the same whenever it is made."""
    rng = random.Random(f"{seed}/{number}")
    namespace = rng.choice(NAMESPACES)
    kind = rng.random()
    if kind < 0.6:
        size = rng.choice([1, 20, 300])
        ids = [f"id{rng.randrange(1500)}" for _ in range(size)]
        await index.upsert(namespace, [record(rng, layout, id) for id in ids])
    elif kind < 0.7:
        other = record(rng, layout, "")
        await index.update(namespace, f"id{rng.randrange(1500)}", Change(other.values, metadata={"u": float(number)}))
    elif kind < 0.8:
        await index.update_where(namespace, Eq("n", float(rng.randrange(5))), {"s": f"u{number}"})
    elif kind < 0.9:
        await index.delete(namespace, [f"id{rng.randrange(1500)}" for _ in range(30)])
    elif kind < 0.97:
        await index.delete_where(namespace, Eq("s", f"s{rng.randrange(5)}"))
    elif kind < 0.99:
        await index.create_namespace(f"empty{number}")
    else:
        await index.delete_namespace(namespace)


def die_at(step: str) -> None:
    """Has this process killed where a compaction has come to `step`."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(owner: Any, name: str) -> None:
        setattr(owner, name, die)

    def behind(owner: Any, name: str) -> None:
        whole = getattr(owner, name)
        setattr(owner, name, lambda *arguments: die(whole(*arguments)))

    owner, name = (Contents, step[7:]) if step[7:] in ("begin", "catch_up") else (contents, step[7:])
    {"before ": before, "behind ": behind}[step[:7]](owner, name)


async def child(root: Path, seed: int, step: str) -> None:
    """Goes on with the history from where the index is, until it is killed."""
    if step:
        die_at(step)
    store = EdgeStore(root, compact_after=400, reserve=0)
    index = await store.open("one")
    while True:
        number = index.sequence + 1
        await write(index, LAYOUTS[seed % len(LAYOUTS)], seed, number)
        os.write(1, f"{number}\n".encode())
        if isinstance(index, EdgeIndex) and index._compaction is not None:
            await asyncio.sleep(0.02)  # or it would have no turn, and history grow long


async def everything(index: Index) -> dict[str, list[Any]]:
    return {
        namespace: comparable(await index.fetch_where(namespace, And(()), after=None, limit=10**6))
        for namespace in await index.namespaces()
    }


class History:
    """One index, and its double in memory."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed, self.layout = root, seed, LAYOUTS[seed % len(LAYOUTS)]

    async def begin(self) -> None:
        store = EdgeStore(self.root, reserve=0)
        await store.create("one", self.layout)
        await store.close()
        self.model = await MemoryStore().create("one", self.layout)

    def killed(self, step: str, seconds: float) -> int:
        """Runs the child until it comes to `step`, or for so long. Gives the number of the last write that it said was
        done; 0 for none."""
        command = [sys.executable, "-m", __name__, str(self.root), str(self.seed), step]
        running = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert running.stdout is not None
        with running.stdout as said:
            first = said.readline()
            if not step:
                time.sleep(seconds)  # the moment to kill at, not a wait for something
                running.kill()
            lines = (first + said.read()).split(b"\n")[:-1]
            assert running.wait() == -signal.SIGKILL
        return int(lines[-1]) if lines else 0

    async def check(self, acknowledged: int) -> None:
        """What is there is all of the acknowledged writes, and at most the one under way, in every way to ask."""
        store = EdgeStore(self.root, reserve=0)
        index = await store.open("one")
        assert acknowledged <= index.sequence <= acknowledged + 1
        while self.model.sequence < index.sequence:
            await write(self.model, self.layout, self.seed, self.model.sequence + 1)
        assert await index.namespaces() == await self.model.namespaces()
        assert await everything(index) == await everything(self.model)
        rng = random.Random(acknowledged)
        asked = record(rng, self.layout, "")
        for namespace in NAMESPACES:
            for filter in (Eq("n", 1.0), Eq("s", "s1"), None):
                query = Query(10**4, asked.values, asked.sparse, filter)
                got, wanted = [await one.query(namespace, query) for one in (index, self.model)]
                assert {match.record.id for match in got} == {match.record.id for match in wanted}
        await store.close()
        leftovers = {path.name.split("-")[0] for path in (self.root / "one").iterdir()}
        assert leftovers <= {"index.json", "shard", "journal"}
        assert len(list((self.root / "one").glob("shard-*"))) == 1


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_acknowledged_is_lost_and_nothing_is_half_done(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "store", seed)
    rng = random.Random(seed)
    acknowledged = 0
    asyncio.run(history.begin())
    for number in range(max(1, ROUNDS // SEEDS)):
        step = rng.choice(STEPS) if number % 2 else ""
        acknowledged = max(history.killed(step, rng.random()), history.model.sequence)
        asyncio.run(history.check(acknowledged))
    assert acknowledged


if __name__ == "__main__":
    asyncio.run(child(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
