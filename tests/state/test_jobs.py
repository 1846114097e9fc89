"""Jobs as they are remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from pinyon.errors import FailedPrecondition, InvalidRequest, NotFound
from pinyon.state import JobKind, JobRecord, JobStatus, State
from tests.state.making import opened

NOON = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
ODD = {"z": "last", "a": ["\0", "\ud800", "é", None, 2.5, {"deep": True}]}


def becoming(status: JobStatus, **others: Any) -> Callable[[JobRecord], JobRecord]:
    return lambda record: replace(record, status=status, **others)


async def make(state: State, *kinds: JobKind, index_id: str | None = None) -> list[JobRecord]:
    return [await state.create_job(kind, request={}, index_id=index_id) for kind in kinds]


def test_what_was_asked_for_and_how_far_it_came_survive_a_restart(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = await state.create_job(JobKind.IMPORT, request=ODD, index_id="i-1", index_name="notes")
            assert made == JobRecord(
                id=made.id, kind=JobKind.IMPORT, index_id="i-1", index_name="notes", status=JobStatus.PENDING,
                request=ODD, progress={}, percent=0.0, error=None, cancelling=False, created_at=made.created_at,
                finished_at=None, version=1,
            )  # fmt: skip
            assert await state.get_job(made.id) == made
            wanted = becoming(JobStatus.RUNNING, progress=ODD, percent=100 / 3, cancelling=True)
            changed = await state.change_job(made.id, wanted)
            assert changed == replace(wanted(made), version=2)
        async with opened(url) as state:
            again = await state.get_job(made.id)
            assert again == changed
            assert list(again.request) == list(again.progress) == list(ODD)
            assert await state.unfinished_jobs() == [changed]

    asyncio.run(run())


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_job_that_has_finished_changes_no_more(url: str, status: JobStatus) -> None:
    async def run() -> None:
        async with opened(url, clock=lambda: NOON) as state:
            (made,) = await make(state, JobKind.BACKUP)
            ended = await state.change_job(made.id, becoming(status, error="Why: \0 \ud800"))
            assert (ended.status, ended.error, ended.finished_at) == (status, "Why: \0 \ud800", NOON)
            assert status.is_final
            assert await state.get_job(made.id) == ended
            with pytest.raises(FailedPrecondition, match="has finished"):
                await state.change_job(made.id, becoming(JobStatus.RUNNING))
            assert await state.get_job(made.id) == ended
            assert await state.unfinished_jobs() == []

    asyncio.run(run())


def test_a_change_leaves_alone_what_was_asked_for(url: str) -> None:
    def other(record: JobRecord) -> JobRecord:
        moment = NOON - timedelta(days=1)
        return replace(record, id="x", kind=JobKind.RESTORE, index_id="x", index_name="x", request={"x": 1},
                       created_at=moment, finished_at=moment, version=9)  # fmt: skip

    def refuse(record: JobRecord) -> JobRecord:
        raise InvalidRequest("is wrong")

    async def run() -> None:
        async with opened(url) as state:
            (made,) = await make(state, JobKind.BACKUP)
            assert await state.change_job(made.id, other) == replace(made, version=2)
            assert await state.get_job(made.id) == replace(made, version=2)
            with pytest.raises(InvalidRequest, match="is wrong"):
                await state.change_job(made.id, refuse)
            assert await state.get_job(made.id) == replace(made, version=2)

    asyncio.run(run())


@pytest.mark.parametrize("id", ["absent", "", "n\0tes", "\ud800", "00000000-0000-0000-0000-000000000000"])
def test_unknown_ids_are_not_found(url: str, id: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            for call in (state.get_job(id), state.change_job(id, lambda record: record)):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.kind, caught.value.name) == ("job", id)

    asyncio.run(run())


def test_text_that_no_database_keeps_is_refused(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            with pytest.raises(InvalidRequest) as caught:
                await state.create_job(JobKind.IMPORT, request={}, index_name="a\0b")
            assert caught.value.param == ("index_name",)
            assert await state.list_jobs() == []

    asyncio.run(run())


def test_jobs_keep_their_order_whatever_the_clock_says(url: str) -> None:
    moments = iter([NOON, NOON, NOON - timedelta(days=1), NOON + timedelta(microseconds=1), NOON + timedelta(hours=1)])

    async def run() -> None:
        async with opened(url, clock=lambda: next(moments)) as state:
            made = await make(state, *[JobKind.BACKUP] * 5)
            assert await state.unfinished_jobs() == made
            assert await state.list_jobs() == made[::-1]
            assert made[0].created_at == NOON and made[4].created_at == NOON + timedelta(hours=1)
            assert [UUID(record.id).version for record in made] == [7] * 5
            assert len({record.id for record in made}) == 5

    asyncio.run(run())


def test_pages_of_one_kind_and_one_index_newest_first(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = []
            for index in ("a", "b", "a", "b", "a"):
                made += await make(state, JobKind.IMPORT, JobKind.BACKUP, index_id=index)
            wanted = [record for record in made if (record.index_id, record.kind) == ("a", JobKind.IMPORT)][::-1]
            pages, after = [], None
            while True:
                page = await state.list_jobs(kind=JobKind.IMPORT, index_id="a", after=after, limit=2)
                if not page:
                    break
                pages.append(page)
                after = page[-1].id
            assert pages == [wanted[:2], wanted[2:]]
            assert await state.list_jobs(limit=3) == made[:-4:-1]
            assert len(await state.list_jobs(kind=JobKind.BACKUP)) == 5
            assert await state.list_jobs(kind=JobKind.RESTORE) == []

    asyncio.run(run())


@pytest.mark.parametrize("after", ["", "notes", "zz", "ffffffff-ffff-ffff-ffff-ffffffffffff", "\0"])
def test_a_listing_begins_behind_an_id_or_not_at_all(url: str, after: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            with pytest.raises(InvalidRequest) as caught:
                await state.list_jobs(after=after)
            assert caught.value.param == ("pagination_token",)

    asyncio.run(run())


def test_no_change_is_lost_to_another(url: str) -> None:
    def adding(i: int) -> Callable[[JobRecord], JobRecord]:
        return lambda record: replace(record, progress={**record.progress, str(i): "done"})

    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            created = await asyncio.gather(
                *((one, other)[i % 2].create_job(JobKind.IMPORT, request={}) for i in range(8))
            )
            assert len({record.created_at for record in created}) == 8
            id = created[0].id
            await asyncio.gather(*((one, other)[i % 2].change_job(id, adding(i)) for i in range(12)))
            found = await other.get_job(id)
            assert (set(found.progress), found.version) == ({str(i) for i in range(12)}, 13)

    asyncio.run(run())


def test_what_ended_long_ago_is_forgotten(url: str) -> None:
    now = [NOON]

    async def run() -> None:
        async with opened(url, clock=lambda: now[0]) as state:

            async def left(age: int, keep: int) -> list[int]:
                """Of the jobs 0 to 5, by their numbers."""
                await state.forget_jobs(timedelta(days=age), keep)
                return [numbers[job.id] for job in reversed(await state.list_jobs())]

            numbers = {record.id: number for number, record in enumerate(await make(state, *[JobKind.IMPORT] * 6))}
            ids = list(numbers)
            # 0 and 3 never end. The others do, a day after another, in whatever way and order.
            ends = {5: JobStatus.FAILED, 1: JobStatus.COMPLETED, 2: JobStatus.CANCELLED, 4: JobStatus.COMPLETED}
            for number, status in ends.items():
                now[0] += timedelta(days=1)
                await state.change_job(ids[number], becoming(status))
            assert await left(4, 4) == [0, 1, 2, 3, 4, 5]
            now[0] += timedelta(days=1)  # 5 ended 4 days ago, 1 ended 3
            assert await left(4, 4) == [0, 1, 2, 3, 4, 5]
            now[0] += timedelta(microseconds=1)
            assert await left(4, 4) == [0, 1, 2, 3, 4]
            assert await left(4, 2) == [0, 2, 3, 4]
            assert await left(4, 1) == [0, 3, 4]
            now[0] += timedelta(days=1000)
            assert await left(4, 1) == [0, 3]
            assert await state.forget_jobs(timedelta(0), 0) == 0

    asyncio.run(run())
