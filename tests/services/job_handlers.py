"""Handlers of jobs that do what a test tells them, and a server's jobs around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Any

from pinyon.services.jobs import JobCancelled, Jobs, Report
from pinyon.state import JobKind, JobRecord, State
from tests.state.making import opened

IMPORT = JobKind.IMPORT
TIMEOUT = 30  # seconds; nothing here takes one


class Steps:
    """A handler of `request["steps"]` steps, each of which waits for `let(name)`; what is done, is told in `done`."""

    def __init__(self, *, open: bool = False) -> None:
        self.is_open = open
        self.began: list[str] = []
        self.done: list[tuple[str, int]] = []
        self.cleaned_up: list[str] = []
        self.running = 0
        self.most_running = 0
        self._let = asyncio.Condition()
        self._steps_let: dict[str, int] = {}

    async def __call__(self, job: JobRecord, report: Report) -> None:
        name, steps = job.request["name"], job.request["steps"]
        async with self._let:
            self.began.append(name)
            self._let.notify_all()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for step in range(job.progress.get("next", 0), steps):
                async with self._let:
                    await self._let.wait_for(lambda: self.is_open or self._steps_let.get(name, 0) > 0)
                    self._steps_let[name] = self._steps_let.get(name, 0) - 1
                await report(100 * (step + 1) / steps, {"next": step + 1})
                async with self._let:
                    self.done.append((name, step))
                    self._let.notify_all()
        except JobCancelled:
            self.cleaned_up.append(name)
            raise
        finally:
            self.running -= 1

    async def let(self, name: str, steps: int = 1) -> None:
        async with self._let:
            self._steps_let[name] = self._steps_let.get(name, 0) + steps
            self._let.notify_all()

    async def open(self) -> None:
        async with self._let:
            self.is_open = True
            self._let.notify_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with self._let:
            await self._let.wait_for(is_so)


class Numbers:
    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Callable[[], float]] = {}
        self.finished: list[tuple[str, str]] = []

    def watch_jobs(self, kind: str, status: str, count: Callable[[], float]) -> None:
        self.counts[kind, status] = count

    def finished_job(self, kind: str, status: str) -> None:
        self.finished.append((kind, status))


@contextlib.asynccontextmanager
async def server(
    url: str, handlers: Any, *, running: int = 1, clock: Callable[[], datetime] | None = None, **options: Any
) -> AsyncIterator[tuple[Jobs, State]]:
    """Jobs that have been started, as a server has them from its start to its end."""
    async with opened(url, **{"clock": clock} if clock else {}) as state:
        jobs = Jobs(state, running=running, retry_seconds=0.01, **options)
        for kind, handler in (handlers if isinstance(handlers, dict) else {IMPORT: handlers}).items():
            jobs.handle(kind, handler)
        await jobs.start()
        try:
            yield jobs, state
        finally:
            await jobs.close()


async def submit(jobs: Jobs, name: str = "a", steps: int = 3, kind: JobKind = IMPORT) -> JobRecord:
    return await jobs.submit(kind, request={"name": name, "steps": steps}, index_id=f"id-{name}", index_name=name)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), TIMEOUT))
