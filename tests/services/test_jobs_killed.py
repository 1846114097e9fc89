"""Jobs of a process that is killed with SIGKILL, again and again, and started again."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

from pinyon.state import JobKind, JobStatus
from tests.state.making import opened

STEPS = 40
# Three jobs, two at a time. A step is written down before it is reported, as an import's batch is stored.
PROGRAM = f"""
import asyncio, sys
from pinyon.services.jobs import Jobs
from pinyon.state import JobKind, State

async def handler(job, report):
    for step in range(job.progress.get("next", 0), {STEPS}):
        print(job.index_name, step, flush=True)
        await report(100 * (step + 1) / {STEPS}, {{"next": step + 1}})

async def run():
    state = await State.open(sys.argv[1])
    jobs = Jobs(state, running=2)
    jobs.handle(JobKind.IMPORT, handler)
    await jobs.start()
    for job in await jobs.list():
        await jobs.wait(job.id)
    await jobs.close()
    await state.close()

asyncio.run(run())
"""


async def progress(url: str) -> dict[str, int]:
    """The next step of each job, by its index's name."""
    async with opened(url) as state:
        return {job.index_name or "": job.progress.get("next", 0) for job in await state.list_jobs()}


def lived(url: str, lines: int | None) -> list[tuple[str, int]]:
    """What a process wrote down before it was killed, after it had written so many lines; None: it is let be."""
    told = []
    with subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if lines is not None:
            told = [process.stdout.readline() for _ in range(lines)]
            process.kill()
        told += process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == (0 if lines is None else -signal.SIGKILL)
    return [(name, int(step)) for name, step in map(str.split, told)]


def test_jobs_end_rightly_however_often_the_process_is_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    chance = random.Random(4)
    done: dict[str, set[int]] = {name: set() for name in "abc"}

    async def submit() -> None:
        async with opened(url) as state:
            for name in done:
                await state.create_job(JobKind.IMPORT, request={}, index_name=name)

    async def check() -> None:
        async with opened(url) as state:
            for job in await state.list_jobs():
                assert (job.status, job.percent) == (JobStatus.COMPLETED, 100.0)

    asyncio.run(submit())
    for lines in (*(chance.randrange(1, 20) for _ in range(4)), None):
        before = asyncio.run(progress(url))
        steps = lived(url, lines)
        for name in done:
            here = [step for job, step in steps if job == name]
            # On from the last report, and nothing twice in one life.
            assert here == list(range(before[name], before[name] + len(here)))
            done[name] |= set(here)
    assert all(steps == set(range(STEPS)) for steps in done.values())
    asyncio.run(check())
