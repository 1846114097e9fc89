"""Jobs with handlers that do what the test tells them, over a real state."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pinyon.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from pinyon.services.jobs import JobCancelled, Report
from pinyon.state import JobKind, JobRecord, JobStatus
from tests.services.job_handlers import IMPORT, Numbers, Steps, run, server, submit


def raising(error: BaseException) -> Any:
    async def handler(job: JobRecord, report: Report) -> None:
        raise error

    return handler


# --- the way of one --------------------------------------------------------------------------------------------------


def test_a_job_runs_reports_and_completes(url: str) -> None:
    async def test() -> None:
        steps = Steps()
        async with server(url, steps) as (jobs, state):
            made = await submit(jobs)
            assert (made.status, made.request["name"], made.index_id, made.index_name) == (
                JobStatus.PENDING, "a", "id-a", "a",
            )  # fmt: skip
            await steps.let("a")
            await steps.until(lambda: steps.done == [("a", 0)])
            seen = await jobs.get(made.id, IMPORT)
            assert (seen.status, seen.percent, seen.progress) == (JobStatus.RUNNING, 100 / 3, {"next": 1})
            await steps.let("a", 2)
            ended = await jobs.wait(made.id)
            assert (ended.status, ended.percent, ended.progress) == (JobStatus.COMPLETED, 100.0, {"next": 3})
            assert ended.finished_at is not None and ended.error is None
            assert await state.unfinished_jobs() == []

    run(test)


@pytest.mark.parametrize("given, kept", [(-1.0, 0.0), (100.5, 100.0), (40.0, 40.0)])
def test_percents_stay_between_0_and_100(url: str, given: float, kept: float) -> None:
    async def test() -> None:
        async def handler(job: JobRecord, report: Report) -> None:
            await report(given, {})
            raise Unavailable("No room")

        async with server(url, handler) as (jobs, _):
            assert (await jobs.wait((await submit(jobs)).id)).percent == kept

    run(test)


@pytest.mark.parametrize(
    "error, told",
    [
        (Unavailable("The disk is full"), "The disk is full"),
        (InvalidRequest("must not be empty", ("vectors", 3, "id")), "vectors.3.id must not be empty"),
        (InvalidRequest("The file has no column id"), "The file has no column id"),
        (ValueError("a user's text"), "internal error"),
        (asyncio.CancelledError("a user's text"), "internal error"),  # nobody is shutting down
    ],
)
def test_a_job_that_fails_says_why_and_the_next_one_runs(
    url: str, error: BaseException, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        numbers = Numbers()
        handlers = {IMPORT: raising(error), JobKind.BACKUP: Steps(open=True)}
        async with server(url, handlers, metrics=numbers) as (jobs, _):
            failing, next_one = await submit(jobs), await submit(jobs, kind=JobKind.BACKUP)
            ended = await jobs.wait(failing.id)
            assert (ended.status, ended.error, ended.percent) == (JobStatus.FAILED, told, 0.0)
            assert (await jobs.wait(next_one.id)).status is JobStatus.COMPLETED
            assert numbers.finished == [("import", "failed"), ("backup", "completed")]

    caplog.set_level(logging.INFO)
    run(test)
    bugs = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(bugs) == (told == "internal error") == any(record.exc_info for record in bugs)
    assert not any("user's text" in record.getMessage() for record in caplog.records)


def test_get_knows_kinds_and_list_gives_pages(url: str) -> None:
    async def test() -> None:
        steps = Steps(open=True)
        async with server(url, {IMPORT: steps, JobKind.BACKUP: steps}) as (jobs, _):
            made = [await submit(jobs, name) for name in "abc"]
            other = await submit(jobs, kind=JobKind.BACKUP)
            for record in (*made, other):
                await jobs.wait(record.id)
            for call in (jobs.get, jobs.cancel):
                with pytest.raises(NotFound) as caught:
                    await call(other.id, IMPORT)
                assert caught.value.name == other.id
            first = await jobs.list(IMPORT, limit=2)
            assert [record.index_name for record in first] == ["c", "b"]
            assert [record.index_name for record in await jobs.list(IMPORT, after=first[-1].id)] == ["a"]
            assert [record.id for record in await jobs.list(IMPORT, index_id="id-b")] == [made[1].id]
            assert len(await jobs.list()) == 4

    run(test)


# --- order and bounds ------------------------------------------------------------------------------------------------


def test_no_more_run_at_once_than_allowed_and_in_the_order_of_their_coming(url: str) -> None:
    async def test() -> None:
        steps, numbers = Steps(), Numbers()
        async with server(url, steps, running=2, metrics=numbers) as (jobs, _):
            made = [await submit(jobs, name, 1) for name in "abcde"]
            await steps.until(lambda: len(steps.began) == 2)
            counts = [numbers.counts["import", status]() for status in ("running", "pending")]
            assert (steps.began, counts) == (["a", "b"], [2, 3])
            await steps.let("b")
            await steps.until(lambda: len(steps.began) == 3)
            assert steps.began == ["a", "b", "c"]
            assert [record.status for record in await jobs.list()][::-1] == [
                JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.RUNNING, JobStatus.PENDING, JobStatus.PENDING,
            ]  # fmt: skip
            await steps.open()
            for record in made:
                assert (await jobs.wait(record.id)).status is JobStatus.COMPLETED
            assert (steps.began, steps.most_running) == (["a", "b", "c", "d", "e"], 2)
            # A job is told to have ended a moment before its place is free.
            while [numbers.counts["import", status]() for status in ("running", "pending")] != [0, 0]:
                await asyncio.sleep(0.001)

    run(test)


def test_many_jobs_of_many_callers_are_each_done_once(url: str) -> None:
    async def test() -> None:
        steps = Steps(open=True)
        async with server(url, steps, running=4) as (jobs, state):
            made = await asyncio.gather(*(submit(jobs, f"j{i}", 2) for i in range(60)))
            ended = await asyncio.gather(*(jobs.wait(record.id) for record in made))
            assert {record.status for record in ended} == {JobStatus.COMPLETED}
            assert sorted(steps.done) == sorted((f"j{i}", step) for i in range(60) for step in range(2))
            assert 1 < steps.most_running <= 4
            assert await state.unfinished_jobs() == []

    run(test)


def test_too_many_waiting_are_refused_also_when_they_come_together(url: str) -> None:
    async def test() -> None:
        steps = Steps()
        async with server(url, steps, waiting=3) as (jobs, state):
            await submit(jobs, "first")
            await steps.until(lambda: steps.began == ["first"])
            done = await asyncio.gather(*(submit(jobs, f"j{i}") for i in range(8)), return_exceptions=True)
            assert [type(each) for each in done] == [JobRecord] * 3 + [Overloaded] * 5
            assert len(await state.list_jobs()) == 4
            await steps.open()
            await steps.until(lambda: len(steps.began) == 4)
            await submit(jobs, "again", 0)

    run(test)


def test_a_kind_that_nobody_does_is_a_mistake_of_ours(url: str) -> None:
    async def test() -> None:
        async with server(url, Steps()) as (jobs, state):
            with pytest.raises(ValueError, match="backup"):
                await submit(jobs, kind=JobKind.BACKUP)
            assert await state.list_jobs() == []

    run(test)


def test_a_job_is_done_though_whoever_asked_for_it_goes_away(url: str) -> None:
    async def test() -> None:
        async with server(url, Steps(open=True)) as (jobs, _):
            asking = asyncio.create_task(submit(jobs))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            (made,) = await jobs.list()
            assert (await jobs.wait(made.id)).status is JobStatus.COMPLETED

    run(test)


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_a_job_that_has_not_begun_is_cancelled_at_once(url: str) -> None:
    async def test() -> None:
        steps, numbers = Steps(), Numbers()
        async with server(url, steps, metrics=numbers) as (jobs, _):
            first, second, third = [await submit(jobs, name) for name in "abc"]
            await steps.until(lambda: steps.began == ["a"])
            ended = await jobs.cancel(second.id, IMPORT)
            assert (ended.status, ended.error) == (JobStatus.CANCELLED, None)
            assert ended.finished_at is not None
            assert await jobs.wait(second.id) == await jobs.cancel(second.id) == ended
            await steps.open()
            await jobs.wait(first.id)
            await jobs.wait(third.id)
            assert steps.began == ["a", "c"]
            assert numbers.finished == [("import", each) for each in ("cancelled", "completed", "completed")]

    run(test)


def test_a_job_that_runs_is_cancelled_at_its_next_report(url: str) -> None:
    async def test() -> None:
        steps = Steps()
        async with server(url, steps) as (jobs, _):
            made = await submit(jobs)
            await steps.let("a")
            await steps.until(lambda: steps.done == [("a", 0)])
            for _ in range(2):
                seen = await jobs.cancel(made.id)
                assert (seen.status, seen.cancelling, seen.finished_at) == (JobStatus.RUNNING, True, None)
            await steps.let("a")
            ended = await jobs.wait(made.id)
            # What it had done until then is told.
            assert (ended.status, ended.progress, ended.percent) == (JobStatus.CANCELLED, {"next": 2}, 200 / 3)
            assert (steps.cleaned_up, steps.done) == (["a"], [("a", 0)])

    run(test)


def test_one_that_has_done_everything_before_its_next_report_has_completed(url: str) -> None:
    async def test() -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def handler(job: JobRecord, report: Report) -> None:
            began.set()
            await go_on.wait()

        async with server(url, handler) as (jobs, _):
            made = await submit(jobs)
            await began.wait()
            await jobs.cancel(made.id)
            go_on.set()
            ended = await jobs.wait(made.id)
            assert ended.status is JobStatus.COMPLETED
            assert await jobs.cancel(made.id) == ended

    run(test)


def test_a_cancelled_job_whose_cleaning_up_fails_has_failed(url: str) -> None:
    async def test() -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def handler(job: JobRecord, report: Report) -> None:
            began.set()
            await go_on.wait()
            try:
                await report(50, {})
            except JobCancelled:
                raise Unavailable("The disk is gone") from None

        async with server(url, handler) as (jobs, _):
            made = await submit(jobs)
            await began.wait()
            await jobs.cancel(made.id)
            go_on.set()
            ended = await jobs.wait(made.id)
            assert (ended.status, ended.error) == (JobStatus.FAILED, "The disk is gone")

    run(test)


def test_cancelling_survives_a_restart_and_cleans_up_there(url: str) -> None:
    async def test() -> None:
        before, after = Steps(), Steps(open=True)
        async with server(url, before) as (jobs, _):
            made = await submit(jobs)
            await before.let("a")
            await before.until(lambda: before.done == [("a", 0)])
            await jobs.cancel(made.id)
        async with server(url, after) as (jobs, _):
            assert (await jobs.wait(made.id)).status is JobStatus.CANCELLED
        assert (before.cleaned_up, after.cleaned_up) == ([], ["a"])

    run(test)
