"""Backups, restores, collections and imports under kill -9, at moments drawn from a seed: after a restart all is whole.

A process makes one after the other until it is dead; the next one goes on with what it left, checks it, and dies too.
At the end one lives until nothing is left to do.

PINYON_JOB_ROUNDS says how many kills of each kind of job (50).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from pinyon.state import JobKind

from .job_worker import STEPS, Plan, prepare, work_until_killed

ROUNDS = int(os.environ.get("PINYON_JOB_ROUNDS", "50"))
CHAIN = 25  # kills of one folder
DEADLINE = 120.0  # seconds, for whatever a process is to say next

# Forks from a process that has imported what is needed, and has no threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["__main__", "tests.faults.job_worker"])


def live(plan: Plan, rng: random.Random, seen: Counter[str]) -> None:
    """One process to its end."""
    said, saying = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=work_until_killed, args=(saying, plan), daemon=True)
    process.start()
    saying.close()
    made = rng.randrange(3)
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            assert said.poll(DEADLINE), f"the process says nothing more: {plan}, {seen}"
            what, number = said.recv()
            seen[what] += 1
            seen["left unfinished"] += what == "left" and number > 0
            if plan.step is None and not plan.ends and what == ("left", "made")[made > 0]:
                # A sleep is how such a moment is drawn, not a wait for something.
                time.sleep(rng.random() * 0.3)
                process.kill()
    process.join(DEADLINE)
    assert process.exitcode == (0 if plan.ends else -signal.SIGKILL), plan
    process.close()
    said.close()


@pytest.mark.parametrize("first", range(0, ROUNDS, CHAIN))
@pytest.mark.parametrize("kind", list(STEPS))
def test_all_is_whole_after_a_kill(tmp_path: Path, kind: JobKind, first: int) -> None:
    prepare(tmp_path)
    seen: Counter[str] = Counter()
    for seed in range(first, first + CHAIN):
        rng = random.Random(f"{kind}/{seed}")
        plan = Plan(tmp_path, kind)
        if seed % 4:
            step = seed * len(STEPS[kind]) // ROUNDS if seed % 2 else rng.randrange(len(STEPS[kind]))
            plan = Plan(tmp_path, kind, step, rng.random() < 0.5, rng.randrange(STEPS[kind][step][2]))
        live(plan, rng, seen)
        seen["kills"] += 1
    live(Plan(tmp_path, kind, ends=True), random.Random(0), seen)
    print(f"{kind}, {first} to {first + CHAIN - 1}: {dict(seen)}")
    # The moments that these rounds are about did come.
    assert seen["kills"] == CHAIN
    assert seen["left unfinished"] >= CHAIN // 3
    assert seen["ended"] == 1
