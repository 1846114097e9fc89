"""`pinyon jobs` beside the state that a server writes."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pinyon.cli.jobs import watch
from pinyon.state import JobKind, JobRecord, JobStatus, State
from tests.state.making import connected, opened

from .conftest import Pinyon, one_line


@pytest.fixture
def url(folder: Path) -> str:
    return f"sqlite:///{folder}/data/state.db"


async def change(state: State, job: JobRecord, **fields: Any) -> None:
    await state.change_job(job.id, lambda record: replace(record, **fields))


async def make(state: State) -> list[JobRecord]:
    """One of each, oldest first."""
    made = [await state.create_job(kind, request={}, index_name=f"on-{kind}") for kind in JobKind]
    done, failed, stopping, _ = made
    await change(state, done, status=JobStatus.COMPLETED, percent=100.0)
    await change(state, failed, status=JobStatus.FAILED, error="[red]part\t7\n\x1b[2J is damaged")
    await change(state, stopping, status=JobStatus.RUNNING, percent=41.7, cancelling=True)
    return made


def made(url: str) -> list[JobRecord]:
    async def run() -> list[JobRecord]:
        async with opened(url) as state:
            return await make(state)

    return asyncio.run(run())


def rows(output: str) -> list[list[str]]:
    head, *rows = [line.split("\t") for line in output.splitlines()]
    assert head == ["ID", "KIND", "INDEX", "STATUS", "DONE", "CREATED", "ERROR"]
    return rows


def test_lines_newest_first(pinyon: Pinyon, url: str) -> None:
    jobs = made(url)
    result = pinyon("jobs")
    assert (result.exit_code, result.stderr) == (0, "")
    found = rows(result.stdout)
    assert [row[0] for row in found] == [job.id for job in reversed(jobs)]
    assert [row[1:5] for row in found] == [
        ["collection", "on-collection", "pending", "0%"],
        ["import", "on-import", "cancelling", "42%"],
        ["restore", "on-restore", "failed", "0%"],
        ["backup", "on-backup", "completed", "100%"],
    ]
    assert found[0][5] == jobs[-1].created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [row[6] for row in found] == ["", "", "[red]part?7??[2J is damaged", ""]


@pytest.mark.parametrize("newest, shown", [("0", 2), ("1", 3), ("9", 4)])
def test_what_is_not_finished_is_always_shown(pinyon: Pinyon, url: str, newest: str, shown: int) -> None:
    made(url)
    found = rows(pinyon("jobs", "-n", newest).stdout)
    assert len(found) == shown
    assert [row[3] for row in found[:2]] == ["pending", "cancelling"]


def test_nothing_is_made_where_no_server_was_started(pinyon: Pinyon, folder: Path) -> None:
    assert "no server has been started" in one_line(pinyon("jobs"), 1)
    assert not (folder / "data").exists()


def test_the_database_of_another_version_is_left_alone(pinyon: Pinyon, url: str) -> None:
    made(url)
    with connected(url) as connection:
        connection.exec_driver_sql("UPDATE pinyon_revision SET version_num = '0001'")
    assert "written by another Pinyon (revision 0001" in one_line(pinyon("jobs"), 1)


def test_a_table_moves_on_a_terminal_until_all_are_finished(url: str) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=200)

    async def run() -> None:
        async with opened(url) as server, opened(url, existing=True) as state:
            _, _, stopping, waiting = await make(server)
            watching = asyncio.create_task(watch(state, 20, console, pause=0.01))
            while "42%" not in shown.getvalue():
                await asyncio.sleep(0.001)
            await change(server, waiting, status=JobStatus.RUNNING, percent=77.0)
            while "77%" not in shown.getvalue():
                await asyncio.sleep(0.001)
            assert not watching.done()
            await change(server, stopping, status=JobStatus.CANCELLED)
            await change(server, waiting, status=JobStatus.COMPLETED, percent=100.0)
            await asyncio.wait_for(watching, 30)

    asyncio.run(run())
    last = shown.getvalue().rpartition("ID")[2]
    assert "━" in last and "cancelled" in last and "running" not in last
    # Neither markup nor commands to the terminal.
    assert "[red]part?7??[2J is damaged" in last


@pytest.mark.parametrize("width", [80, 200])
def test_a_table_fits_its_terminal(url: str, width: int) -> None:
    shown = io.StringIO()

    async def run() -> list[JobRecord]:
        async with opened(url) as state:
            jobs = await make(state)
            for job in jobs[2:]:
                await change(state, job, status=JobStatus.CANCELLED)
            await watch(state, 20, Console(file=shown, width=width), pause=0.01)
            return jobs

    jobs = asyncio.run(run())
    lines = shown.getvalue().splitlines()
    # One line a job, whole, and below them why one failed.
    assert [job.kind.value in line for job, line in zip(reversed(jobs), lines[1:5], strict=True)] == [True] * 4
    assert [job.id in line for job, line in zip(reversed(jobs), lines[1:5], strict=True)] == [width == 200] * 4
    assert lines[5:] == ["", f"{jobs[1].id}: [red]part?7??[2J is damaged"]


def test_what_runs_is_seen_on_a_small_terminal(url: str) -> None:
    frames: list[str] = []

    class Frames(io.StringIO):
        def write(self, text: str) -> int:
            frames.append(text)
            return super().write(text)

    # Fewer lines than jobs, of which the oldest runs.
    console = Console(file=Frames(), force_terminal=True, width=80, height=8, color_system=None)

    async def run() -> None:
        async with opened(url) as state:
            jobs = [await state.create_job(JobKind.IMPORT, request={}, index_name=f"on-{n:02}") for n in range(30)]
            for job in jobs[4:]:
                await change(state, job, status=JobStatus.COMPLETED)
            await change(state, jobs[0], status=JobStatus.RUNNING, percent=50.0)
            watching = asyncio.create_task(watch(state, 20, console, pause=0.01))
            while not any("50%" in frame for frame in frames):
                await asyncio.sleep(0.001)
            first = next(frame for frame in frames if "50%" in frame)
            assert [line.split()[1] for line in first.splitlines() if "on-" in line] == [
                "on-29", "on-28", "on-03", "on-02", "on-01", "on-00",
            ]  # fmt: skip
            assert "and 18 more" in first and "..." not in first
            for job in jobs[:4]:
                await change(state, job, status=JobStatus.COMPLETED)
            await asyncio.wait_for(watching, 30)

    asyncio.run(run())
    # In the end all of them.
    last = "".join(frames).rpartition("KIND")[2]
    assert last.count("on-") == 20 and "more" not in last
