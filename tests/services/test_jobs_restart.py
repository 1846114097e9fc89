"""Jobs of a server that stops in the middle and starts again, and of a state that cannot be written."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinyon.errors import NotFound, PinyonError, Unavailable
from pinyon.services.jobs import JobCancelled, Jobs, Report
from pinyon.state import JobKind, JobRecord, JobStatus, State
from tests.services.job_handlers import IMPORT, Numbers, Steps, run, server, submit
from tests.state.making import opened

# --- stopping and starting -------------------------------------------------------------------------------------------


def test_shutdown_in_the_middle_persists_nothing_false_and_the_next_start_goes_on(url: str) -> None:
    async def test() -> None:
        before, after, numbers = Steps(), Steps(open=True), Numbers()
        async with server(url, before, running=2, metrics=numbers) as (jobs, state):
            made = [await submit(jobs, name) for name in "abcd"]
            await before.let("a", 2)
            await before.until(lambda: before.done == [("a", 0), ("a", 1)] and len(before.began) == 2)
            waiting = [asyncio.create_task(jobs.wait(record.id)) for record in made]
            await asyncio.sleep(0)
            await jobs.close()
            await jobs.close()
            assert before.running == 0
            for task in waiting:
                with pytest.raises(Unavailable, match="shutting down"):
                    await task
            with pytest.raises(Unavailable, match="shutting down"):
                await submit(jobs)
            left = await state.unfinished_jobs()
            assert [(record.status, record.percent, record.progress) for record in left] == [
                (JobStatus.RUNNING, 200 / 3, {"next": 2}),
                (JobStatus.RUNNING, 0.0, {}),
                (JobStatus.PENDING, 0.0, {}),
                (JobStatus.PENDING, 0.0, {}),
            ]
            assert (before.cleaned_up, numbers.finished) == ([], [])
        async with server(url, after) as (jobs, _):
            for record in made:
                ended = await jobs.wait(record.id)
                assert (ended.status, ended.request) == (JobStatus.COMPLETED, record.request)
        assert after.began == ["a", "b", "c", "d"]
        assert [step for name, step in after.done if name == "a"] == [2]
        assert [step for name, step in after.done if name == "b"] == [0, 1, 2]

    run(test)


@pytest.mark.parametrize("becomes", [None, Unavailable("The store is closed"), ValueError("x"), JobCancelled()])
def test_whatever_a_handler_makes_of_a_shutdown_its_job_goes_on_later(
    url: str, becomes: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        began = asyncio.Event()

        async def handler(job: JobRecord, report: Report) -> None:
            await report(50, {"half": True})
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if becomes is not None:
                    raise becomes from None

        async with server(url, handler) as (jobs, _):
            made = await submit(jobs)
            await began.wait()
        async with opened(url) as state:
            found = await state.get_job(made.id)
            assert (found.status, found.progress, found.error) == (JobStatus.RUNNING, {"half": True}, None)

    run(test)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_handler_that_overhears_the_shutdown_is_told_again_by_its_report(url: str) -> None:
    async def test() -> None:
        began = asyncio.Event()
        told: list[str] = []

        async def handler(job: JobRecord, report: Report) -> None:
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            try:
                await report(50, {"false": True})
            except asyncio.CancelledError:
                told.append("again")
                raise

        async with server(url, handler) as (jobs, _):
            made = await submit(jobs)
            await began.wait()
        async with opened(url) as state:
            assert (await state.get_job(made.id)).progress == {}
        assert told == ["again"]

    run(test)


def test_a_report_that_a_shutdown_comes_upon_is_on_disk_when_all_has_stopped(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        writing, go_on = asyncio.Event(), asyncio.Event()

        async def handler(job: JobRecord, report: Report) -> None:
            await report(50, {"half": True})

        async with server(url, handler) as (jobs, state):
            change_job = state.change_job

            async def slowly(id: str, make: Callable[[JobRecord], JobRecord]) -> JobRecord:
                if make(await state.get_job(id)).percent == 50:
                    writing.set()
                    await go_on.wait()
                return await change_job(id, make)

            monkeypatch.setattr(state, "change_job", slowly)
            made = await submit(jobs)
            await writing.wait()
            closing = asyncio.create_task(jobs.close())
            await asyncio.sleep(0)
            assert (await state.get_job(made.id)).progress == {}
            go_on.set()
            await closing
            found = await state.get_job(made.id)
            assert (found.status, found.progress) == (JobStatus.RUNNING, {"half": True})

    run(test)


def test_a_handler_that_does_not_stop_is_not_waited_for_longer_than_told(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def handler(job: JobRecord, report: Report) -> None:
            began.set()
            while not go_on.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go_on.wait()

        async with server(url, handler) as (jobs, state):
            made = await submit(jobs)
            await began.wait()
            await jobs.close(seconds=0.01)
            go_on.set()
            await jobs.close()
            assert (await state.get_job(made.id)).status is JobStatus.RUNNING

    run(test)
    assert "jobs did not stop" in [record.getMessage() for record in caplog.records]


def test_what_has_ended_as_the_server_closes_is_still_written(url: str) -> None:
    async def test() -> None:
        returning = asyncio.Event()

        async def handler(job: JobRecord, report: Report) -> None:
            returning.set()

        async with server(url, handler) as (jobs, _):
            made = await submit(jobs)
            await returning.wait()  # the handler's task is done when this one goes on
        async with opened(url) as state:
            assert (await state.get_job(made.id)).status is JobStatus.COMPLETED

    run(test)


def test_what_is_submitted_before_the_start_comes_after_what_was_left(url: str) -> None:
    async def test() -> None:
        before, after = Steps(), Steps(open=True)
        async with server(url, before) as (jobs, _):
            made = [await submit(jobs, name) for name in "ab"]
        async with opened(url) as state:
            jobs = Jobs(state, running=1)
            jobs.handle(IMPORT, after)
            made += [await submit(jobs, name) for name in "cd"]
            assert after.began == []
            await jobs.start()
            for record in made:
                assert (await jobs.wait(record.id)).status is JobStatus.COMPLETED
            await jobs.close()
        assert after.began == ["a", "b", "c", "d"]

    run(test)


def test_a_kind_that_is_no_longer_done_is_left_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        steps = Steps(open=True)
        async with opened(url) as state:
            left = await state.create_job(JobKind.RESTORE, request={})
        async with server(url, steps) as (jobs, state):
            assert (await jobs.wait((await submit(jobs)).id)).status is JobStatus.COMPLETED
            assert await state.unfinished_jobs() == [left]
            with pytest.raises(PinyonError, match="not done by this server"):
                await jobs.wait(left.id)
            assert (await jobs.cancel(left.id)).status is JobStatus.CANCELLED

    run(test)
    assert "no such jobs are done here" in [record.getMessage() for record in caplog.records]


# --- what ended long ago ---------------------------------------------------------------------------------------------


def test_what_ended_is_forgotten_after_a_month_at_the_start_and_daily(url: str) -> None:
    now = [datetime(2026, 7, 1, tzinfo=UTC)]

    async def left(state: State, number: int) -> None:
        while len(await state.list_jobs()) != number:
            await asyncio.sleep(0.002)

    async def test() -> None:
        steps, blocked = Steps(open=True), Steps()
        handlers = {IMPORT: steps, JobKind.BACKUP: blocked}
        options: Any = {"clock": lambda: now[0], "forget_seconds": 0.01, "running": 3}
        async with server(url, handlers, **options) as (jobs, state):
            first = await jobs.wait((await submit(jobs)).id)
            endless = await submit(jobs, "b", kind=JobKind.BACKUP)
            now[0] += timedelta(days=29)
            second = await jobs.wait((await submit(jobs)).id)
            for _ in range(20):  # of which some have looked
                await asyncio.sleep(0.002)
            assert [job.id for job in await state.list_jobs()] == [second.id, endless.id, first.id]
            now[0] += timedelta(days=2)
            await left(state, 2)
            with pytest.raises(NotFound):
                await jobs.get(first.id)
        now[0] += timedelta(days=365)
        async with server(url, handlers, **options | {"forget_seconds": 1000}) as (jobs, state):
            await left(state, 1)
            assert (await jobs.get(endless.id)).status is JobStatus.RUNNING  # it goes on

    run(test)


def test_a_state_that_cannot_forget_does_not_stop_jobs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[Any, ...]] = []

    async def fails(*given: Any) -> int:
        tried.append(given)
        raise Unavailable("The disk is full")

    async def test() -> None:
        monkeypatch.setattr(State, "forget_jobs", fails)
        async with server(url, Steps(open=True), forget_seconds=0.001) as (jobs, _):
            while len(tried) < 3:
                await asyncio.sleep(0.001)
            assert (await jobs.wait((await submit(jobs)).id)).status is JobStatus.COMPLETED
        assert tried[0][1:] == (timedelta(days=30), 10_000)

    run(test)


# --- a state that cannot be written ----------------------------------------------------------------------------------


class Failing:
    """Makes `change_job` raise Unavailable as often as told, for changes that make a job what `wanted` says."""

    def __init__(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self.tried = 0
        self.wanted: Callable[[JobRecord], bool] = lambda record: True
        self._get_job = state.get_job
        self._change_job = state.change_job
        monkeypatch.setattr(state, "change_job", self)

    async def __call__(self, id: str, make: Callable[[JobRecord], JobRecord]) -> JobRecord:
        self.tried += 1
        if self.times and self.wanted(make(await self._get_job(id))):
            self.times -= 1
            raise Unavailable("The disk is full")
        return await self._change_job(id, make)


def test_a_beginning_and_an_end_are_written_when_they_can_be(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        steps = Steps()
        async with server(url, steps) as (jobs, state):
            failing = Failing(state, monkeypatch)
            failing.times = 2
            made = await submit(jobs, steps=1)
            await steps.until(lambda: steps.began == ["a"])
            assert (failing.times, failing.tried) == (0, 3)
            failing.times, failing.wanted = 2, lambda record: record.status.is_final
            await steps.let("a")
            assert (await jobs.wait(made.id)).status is JobStatus.COMPLETED
            assert (failing.times, steps.began) == (0, ["a"])

    run(test)


def test_a_report_that_cannot_be_written_fails_the_job(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        steps = Steps()
        async with server(url, steps) as (jobs, state):
            failing = Failing(state, monkeypatch)
            made = await submit(jobs)
            await steps.until(lambda: steps.began == ["a"])
            failing.times = 1
            await steps.let("a")
            ended = await jobs.wait(made.id)
            assert (ended.status, ended.error) == (JobStatus.FAILED, "The disk is full")

    run(test)


def test_a_shutdown_does_not_wait_for_a_state_that_cannot_be_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        steps = Steps()
        async with server(url, steps) as (jobs, state):
            failing = Failing(state, monkeypatch)
            failing.times = 10**9
            made = await submit(jobs)
            while failing.tried < 2:
                await asyncio.sleep(0)
        async with opened(url) as state:
            assert (await state.get_job(made.id)).status is JobStatus.PENDING

    run(test)
