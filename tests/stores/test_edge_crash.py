"""The embedded store under kill -9, at moments drawn from a seed: nothing acknowledged is lost, nothing half done.

A process writes, compacts, and says after each write which one it was; it is killed, and the index is opened here. The
wanted contents are those of memory after the acknowledged writes, or one more. An index lives on through 25 rounds.

PINYON_CRASH_ROUNDS says how many rounds in all (200); `make test-crash` runs 2,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.filters import And, Eq
from pinyon.stores.base import Index, Query
from pinyon.stores.edge import EdgeStore, contents
from pinyon.stores.memory import MemoryStore
from pinyon.testing_stores.scenario import contents as comparable

from .edge_writer import (
    COMPACT_AFTER,
    COMPACTION_STEPS,
    LAYOUTS,
    NAMESPACES,
    WRITE_STEPS,
    Plan,
    record,
    write,
    write_until_killed,
)
from .machine import check_matches, optional

ROUNDS = int(os.environ.get("PINYON_CRASH_ROUNDS", "200"))
CHAIN = 25  # rounds of one index
DEADLINE = 120.0  # seconds, for a writer's whole life

# Round `seed` does KINDS[seed % 11]. "writes": killed by the clock between writes. "compaction": so, while one runs.
# "swapped": soon after one. "child": only the compaction's own process is killed, and the writer later. "host": so, the
# process that has the shard.
KINDS = ["writes", "compaction", "compaction step", "compaction", "write step"]
KINDS += ["swapped", "compaction step", "compaction", "child", "write step", "host"]

# Forks from a process that has imported what a writer needs, and has no threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["__main__", "tests.stores.edge_writer"])


class Writer:
    """A process at work on a plan."""

    def __init__(self, plan: Plan) -> None:
        self._said, saying = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(target=write_until_killed, args=(saying, plan), daemon=True)
        self._process.start()
        saying.close()
        self._late = time.monotonic() + DEADLINE
        self.acknowledged = 0  # the number of the last write that it said was done
        self.seen: Counter[str] = Counter()

    def hears(self) -> tuple[str, int]:
        """The next thing it says. Raises EOFError: it is dead."""
        said = self._said.poll(max(0, self._late - time.monotonic()))
        assert said and time.monotonic() < self._late, f"the writer does not come to an end; it said {self.seen}"
        what, number = self._said.recv()
        self.seen[what] += 1
        if what == "wrote":
            self.acknowledged = number
        return what, number

    def until(self, *wanted: str, times: int = 1) -> tuple[str, int]:
        while True:
            what, number = self.hears()
            times -= what in wanted
            if not times:
                return what, number

    def kill(self) -> None:
        self._process.kill()
        self.dies()

    def dies(self) -> None:
        """Waits until it is dead, and hears what it said before."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                self.hears()
        self._process.join(DEADLINE)
        assert self._process.exitcode == -signal.SIGKILL
        self._process.close()
        self._said.close()


class Chain:
    """One index through its rounds, and its double in memory."""

    def __init__(self, root: Path, number: int) -> None:
        self.root, self.number = root, number
        self.layout = LAYOUTS[number % len(LAYOUTS)]
        self.folder = root / "one"
        self.seen: Counter[str] = Counter()  # how often what was there to be tested

    async def begin(self) -> None:
        store = EdgeStore(self.root, reserve=0)
        await store.create("one", self.layout)
        await store.close()
        self.model = await MemoryStore().create("one", self.layout)

    def round(self, seed: int) -> None:
        kind, rng = KINDS[seed % len(KINDS)], random.Random(seed)
        plan = Plan(self.root, self.number, flush_after=rng.choice([1, 10, 20_000]))
        if kind == "write step":
            plan = replace(plan, step=rng.choice(list(WRITE_STEPS)), passes=rng.randrange(30))
        elif kind != "writes":
            plan = replace(plan, compact_after=COMPACT_AFTER)
        if kind == "compaction step":
            plan = replace(plan, step=list(COMPACTION_STEPS)[seed // 2 % len(COMPACTION_STEPS)])
        shard = self.shard()
        writer = Writer(plan)
        if plan.step:
            writer.dies()
        else:
            self.disturb(writer, kind, rng)
            writer.kill()
        # Two shards: the copy is being made, or the old one was not yet removed.
        self.seen["killed within a compaction"] += len(self.shards()) == 2
        self.seen["swapped"] += self.shard() != shard
        manifest = self.manifest()
        self.seen["flushed"] += manifest["names"] < manifest["sequence"]
        acknowledged = max(writer.acknowledged, self.model.sequence)
        asyncio.run(self.check(acknowledged, rng))
        self.seen["written and not acknowledged"] += self.model.sequence > acknowledged
        self.seen["writes"] = self.model.sequence

    def disturb(self, writer: Writer, kind: str, rng: random.Random) -> None:
        """Lets it write until the moment to kill it."""
        # Sleeps are how such a moment is drawn, not a wait for something.
        if kind == "writes":
            writer.until("wrote", times=rng.randrange(1, 12))
            time.sleep(rng.random() * 0.01)
        elif kind == "compaction":
            what = rng.choice(["begun", "copied"])
            writer.until(what)
            time.sleep(rng.random() * (0.5 if what == "begun" else 0.15))
        elif kind == "swapped":
            writer.until("swapped")
            time.sleep(rng.random() * 0.01)
        elif kind == "host":
            for _ in range(3):
                _, host = writer.until("host")
                writer.until("wrote", times=rng.randrange(1, 6))
                time.sleep(rng.random() * 0.01)
                os.kill(host, signal.SIGKILL)
            writer.until("host")
            self.seen["host killed"] += 1
            writer.until("wrote", times=2)
        else:
            _, child = writer.until("begun")
            if rng.random() < 0.5:
                writer.until("copied")
            with contextlib.suppress(ProcessLookupError):  # it was done already
                os.kill(child, signal.SIGKILL)
            what, _ = writer.until("failed", "swapped")
            self.seen["child killed"] += what == "failed"
            writer.until("wrote", times=3)

    def shards(self) -> list[str]:
        return [path.name for path in self.folder.glob("shard-*")]

    def shard(self) -> Any:
        """The one in force."""
        return self.manifest()["shard"]

    def manifest(self) -> Any:
        return json.loads((self.folder / contents.MANIFEST).read_bytes())

    async def check(self, acknowledged: int, rng: random.Random) -> None:
        """What is there is all of the acknowledged writes, and at most the one under way, in every way to ask."""
        store = EdgeStore(self.root, reserve=0)
        index = await store.open("one")
        assert acknowledged <= index.sequence <= acknowledged + 1
        while self.model.sequence < index.sequence:
            await write(self.model, self.number, self.model.sequence + 1)
        assert await index.namespaces() == await self.model.namespaces()
        for namespace in await self.model.namespaces():
            got, wanted = [await everything(one, namespace) for one in (index, self.model)]
            assert got == wanted
            ids = [id for id, *_ in wanted]
            assert await index.list_ids(namespace, prefix="", after=None, limit=10**6) == ids == sorted(ids)
        await self.check_queries(index, rng)
        await store.close()
        leftovers = {path.name.split("-")[0] for path in self.folder.iterdir()}
        assert leftovers <= {contents.MANIFEST, "shard", "journal", "names"}
        assert self.shards() == [self.shard()]

    async def check_queries(self, index: Index, rng: random.Random) -> None:
        for namespace, filter in itertools.product(NAMESPACES, (Eq("n", 1.0), None)):
            asked = record(rng, self.layout, "")
            query = Query(10**4, asked.values, asked.sparse, filter)
            every = await self.model.query(namespace, query)
            missing = await optional(self.model, namespace, query, every)
            for top_k in (10, 10**4):
                got = await index.query(namespace, replace(query, top_k=top_k))
                check_matches(got, every, missing, top_k, self.layout.metric)


async def everything(index: Index, namespace: str) -> list[Any]:
    return comparable(await index.fetch_where(namespace, And(()), after=None, limit=10**6))


@pytest.mark.parametrize("first", range(0, ROUNDS, CHAIN))
def test_nothing_acknowledged_is_lost_and_nothing_is_half_done(tmp_path: Path, first: int) -> None:
    chain = Chain(tmp_path / "store", first // CHAIN)
    asyncio.run(chain.begin())
    for seed in range(first, first + CHAIN):
        chain.round(seed)
    print(f"rounds {first} to {first + CHAIN - 1}: {dict(chain.seen)}")
    # The moments that these rounds are about did come.
    assert chain.seen["killed within a compaction"] >= CHAIN // 4
    assert chain.seen["swapped"] >= CHAIN // len(KINDS)
    assert chain.seen["child killed"]
    assert chain.seen["host killed"]
    assert chain.seen["flushed"]
    assert chain.seen["written and not acknowledged"]
