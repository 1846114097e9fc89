"""A process that writes to the embedded store until it is killed, and says what it has done.

Writes follow from a seed and their number alone, so that whoever has the numbers knows what must be there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pinyon.errors import Unavailable
from pinyon.filters import Eq
from pinyon.stores.base import Change, Index, Layout, Metric, Record, SparseVector
from pinyon.stores.edge import EdgeStore, compaction, contents, journal
from pinyon.stores.edge.contents import Contents
from pinyon.stores.edge.index import EdgeIndex
from pinyon.stores.edge.journal import Journal
from pinyon.stores.edge.link import Link

from .edge_scenario import no_load

LAYOUTS = [*(Layout(8, metric) for metric in Metric), Layout(None, Metric.DOTPRODUCT)]
NAMESPACES = ["", "other"]
IDS = 250
COMPACT_AFTER = 100

# Where a process may kill itself, in the code's order: "torn" half way through an entry of the journal, the others
# just before or behind a call.
WRITE_STEPS: dict[str, tuple[Any, str]] = {
    "torn": (journal, "write_all"),
    "behind append": (Journal, "append"),
    "behind write": (Link, "write"),  # the host has it, and is killed at some point of it
    "before name": (Contents, "name"),  # it is applied
}
COMPACTION_STEPS: dict[str, tuple[Any, str]] = {
    "behind begin": (Contents, "begin"),
    "before put_in_force": (Contents, "put_in_force"),
    "before manifest": (contents, "_write_manifest"),
    "before sync": (contents, "sync_folder"),  # the manifest is renamed, and that not yet on disk
    "behind manifest": (contents, "_write_manifest"),
    "behind forget": (contents, "forget"),
}
STEPS = WRITE_STEPS | COMPACTION_STEPS


@dataclass(frozen=True)
class Plan:
    """What a writer is to do. It says ("host", its process) when it has opened the index, ("wrote", number) after each
    write, and of compactions ("begun", the child's process), ("copied", 0), ("swapped", 0) and ("failed", 0)."""

    root: Path
    seed: int  # of the history
    compact_after: int = 1 << 40  # never
    flush_after: int = 20_000
    step: str = ""  # kills itself there,
    passes: int = 0  # after having passed it so often


def record(rng: random.Random, layout: Layout, id: str) -> Record:
    """Its numbers are quarters, so that scores are exact and ties are ties."""
    values = sparse = None
    if layout.dimension is not None:
        values = np.array([rng.randrange(-8, 9) / 4 for _ in range(layout.dimension - 1)] + [0.5], np.float32)
    if layout.dimension is None or (layout.metric is Metric.DOTPRODUCT and rng.random() < 0.3):
        indices = np.array(sorted(rng.sample(range(30), 3)), np.uint32)
        sparse = SparseVector(indices, np.array([rng.randrange(1, 9) / 4 for _ in range(3)], np.float32))
    return Record(id, values, sparse, {"n": float(rng.randrange(5)), "s": f"s{rng.randrange(5)}"})


async def write(index: Index, seed: int, number: int) -> None:
    """Write `number` of a history: the same whenever it is made."""
    rng = random.Random(f"{seed}/{number}")
    namespace = rng.choice(NAMESPACES)
    kind = rng.random()
    if kind < 0.6:
        ids = [f"id{rng.randrange(IDS)}" for _ in range(rng.choice([1, 20, 150]))]
        await index.upsert(namespace, [record(rng, index.layout, id) for id in ids])
    elif kind < 0.7:
        other = record(rng, index.layout, "")
        change = Change(other.values, metadata={"u": float(number)})
        await index.update(namespace, f"id{rng.randrange(IDS)}", change)
    elif kind < 0.8:
        await index.update_where(namespace, Eq("n", float(rng.randrange(5))), {"s": f"u{number}"})
    elif kind < 0.88:
        await index.delete(namespace, [f"id{rng.randrange(IDS)}" for _ in range(30)])
    elif kind < 0.94:
        await index.delete_where(namespace, Eq("s", f"s{rng.randrange(5)}"))
    elif kind < 0.97:
        await index.create_namespace(f"empty{number}")
    else:
        await index.delete_namespace(namespace)


def write_until_killed(said: Connection, plan: Plan) -> None:
    if plan.step:
        _die_at(plan)
    _tell_of_compactions(said)
    no_load(setattr)
    asyncio.run(_write_on(said, plan))


async def _write_on(said: Connection, plan: Plan) -> None:
    store = EdgeStore(plan.root, compact_after=plan.compact_after, flush_after=plan.flush_after, reserve=0)
    while True:
        index = await store.open("one")
        assert isinstance(index, EdgeIndex)
        said.send(("host", index._writer.link.host.pid))
        with suppress(Unavailable):  # its host was killed
            await _write_to(index, said, plan)


async def _write_to(index: EdgeIndex, said: Connection, plan: Plan) -> None:
    failures = 0
    while True:
        number = index.sequence + 1
        await write(index, plan.seed, number)
        said.send(("wrote", number))
        if index._compactor.failures > failures:
            failures = index._compactor.failures
            said.send(("failed", 0))
        if index._compactor.running is not None:
            await asyncio.sleep(0.02)  # or it would have no turn, and history grow long


def _tell_of_compactions(said: Connection) -> None:
    _wrap(compaction, "start", lambda child: said.send(("begun", child.pid)))
    _wrap(Contents, "begin", lambda result: said.send(("copied", 0)))
    _wrap(Contents, "put_in_force", lambda result: said.send(("swapped", 0)))


def _wrap(owner: Any, name: str, behind: Callable[[Any], object]) -> None:
    whole = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        result = whole(*arguments)
        behind(result)
        return result

    setattr(owner, name, call)


def _die_at(plan: Plan) -> None:
    owner, name = STEPS[plan.step]
    whole = getattr(owner, name)
    passes = plan.passes

    def die(*arguments: Any) -> Any:
        nonlocal passes
        if passes:
            passes -= 1
            return whole(*arguments)
        if plan.step == "torn":
            file, data = arguments
            whole(file, data[: random.Random(plan.passes).randrange(len(data))])
        elif plan.step.startswith("behind"):
            whole(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, die)
