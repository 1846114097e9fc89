from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pinyon.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound, Unavailable
from pinyon.state import (
    Byoc,
    Dedicated,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    Pod,
    Serverless,
    State,
    VectorType,
)
from pinyon.types import Metric
from tests.state.making import make_ready, opened, remove, settings

EVERYTHING = settings(
    "everything",
    metric=Metric.DOTPRODUCT,
    dimension=20_000,
    deployment=Byoc("aws-env-1"),
    read_capacity=Dedicated("t1", "Manual", 0, 3),
    tags={"z": "last", "a": "first"},
    deletion_protection=True,
    schema={"genre": {"filterable": True}, "\0 \ud800 é": {"deep": [1, 2.5, None, {"x": "y"}]}},
    embed=Embed("model", {"text": "body \0"}, Metric.DOTPRODUCT, 20_000, {"input_type": "query"}, {}),
    source_collection="old",
    source_backup_id="b-1",
    cmek_id="key",
)


@pytest.mark.parametrize(
    "wanted",
    [
        settings(),
        settings(vector_type=VectorType.SPARSE, metric=Metric.DOTPRODUCT, dimension=None),
        settings(deployment=Serverless("gcp", "anywhere \0 é")),
        settings(deployment=Pod("us-east1-gcp", "p1.x2", 2, 3, indexed=("genre", "title"))),
        settings(deployment=Pod("us-east1-gcp", indexed=())),
        settings(read_capacity=Dedicated()),
        settings(embed=Embed("model", {"text": "body"})),
        EVERYTHING,
    ],
    ids=["dense", "sparse", "serverless", "pod", "pod-none-indexed", "dedicated-bare", "embed-bare", "everything"],
)
def test_every_setting_comes_back_and_survives_a_restart(url: str, wanted: IndexSettings) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = await state.create_index(wanted)
            for setting in fields(IndexSettings):
                assert getattr(made, setting.name) == getattr(wanted, setting.name)
            assert list(made.schema) == list(wanted.schema) and list(made.tags) == list(wanted.tags)
            assert (made.status, made.port, made.version) == (IndexStatus.INITIALIZING, 5081, 1)
            assert await state.get_index(wanted.name) == made
        async with opened(url) as state:
            again = await state.get_index(wanted.name)
            assert again == made
            assert list(again.schema) == list(wanted.schema) and list(again.tags) == list(wanted.tags)
            assert type(again.deployment) is type(wanted.deployment)
            assert await state.list_indexes() == [made]

    asyncio.run(run())


def test_pods_are_replicas_times_shards() -> None:
    assert Pod("e", replicas=2, shards=3).pods == 6


def test_created_at_is_utc_to_the_microsecond_whatever_the_clock_says(url: str) -> None:
    clock = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    async def run() -> None:
        async with opened(url, clock=lambda: clock) as state:
            made = await state.create_index(settings())
            read = await state.get_index("notes")
        assert made.created_at == read.created_at == clock
        assert read.created_at.tzinfo is UTC

    asyncio.run(run())


def test_a_name_is_had_once_until_it_is_deleted(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            first = await make_ready(state)
            with pytest.raises(AlreadyExists, match="Index notes already exists"):
                await state.create_index(settings())
            await state.terminate_index("notes")
            with pytest.raises(AlreadyExists):
                await state.create_index(settings())
            await state.delete_index(first.id)
            second = await state.create_index(settings(dimension=3))
            assert second.id != first.id
            assert second.dimension == 3

    asyncio.run(run())


@pytest.mark.parametrize("name", ["absent", "", "NOTES", "n\0tes", "\ud800", "notes\0", "%", "x" * 10_000])
def test_unknown_names_are_not_found(url: str, name: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            await make_ready(state)
            for call in (state.get_index(name), state.terminate_index(name), state.change_index(name, _same)):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.kind, caught.value.name) == ("index", name)
            with pytest.raises(NotFound):
                await state.delete_index("no-such-id")

    asyncio.run(run())


@pytest.mark.parametrize("param", ["name", "source_collection", "source_backup_id", "cmek_id"])
@pytest.mark.parametrize("text", ["a\0b", "\udfff"])
def test_text_that_no_database_keeps_is_refused(url: str, param: str, text: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            with pytest.raises(InvalidRequest) as caught:
                await state.create_index(settings(**{"name": "notes", param: text}))
            assert caught.value.param == (param,)
            assert await state.list_indexes() == []

    asyncio.run(run())


def test_indexes_are_listed_by_name_in_code_point_order(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            names = ["Z", "a", "a-b", "a0", "aa", "ab-", "b", "é"]
            for name in reversed(names):
                await state.create_index(settings(name))
            assert [record.name for record in await state.list_indexes()] == names

    asyncio.run(run())


def test_an_update_replaces_settings_and_status_and_nothing_that_identifies(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = await state.create_index(settings())
            changes: dict[str, Any] = {f.name: getattr(EVERYTHING, f.name) for f in fields(IndexSettings)}
            wanted = replace(made, **changes | {"status": IndexStatus.READY})
            wanted = replace(wanted, port=9, created_at=made.created_at + timedelta(days=1))
            updated = await state.update_index(wanted)
            identity: dict[str, Any] = {
                "name": made.name,
                "port": made.port,
                "created_at": made.created_at,
                "version": 2,
            }
            assert updated == replace(wanted, **identity)
            assert await state.get_index("notes") == updated

    asyncio.run(run())


def test_an_update_of_what_was_changed_meanwhile_is_refused(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            seen = await make_ready(state)
            await state.update_index(replace(seen, tags={"by": "the first"}))
            with pytest.raises(FailedPrecondition, match="changed by another request"):
                await state.update_index(replace(seen, tags={"by": "the second"}))
            assert (await state.get_index("notes")).tags == {"by": "the first"}

            await remove(state, "notes")
            with pytest.raises(NotFound):
                await state.update_index(seen)
            await state.create_index(settings())  # another index of the same name
            with pytest.raises(NotFound):
                await state.update_index(seen)
            with pytest.raises(NotFound):
                await state.change_port(seen)

    asyncio.run(run())


def test_what_a_change_raises_comes_through_and_changes_nothing(url: str) -> None:
    def refuse(record: IndexRecord) -> IndexRecord:
        raise InvalidRequest("is wrong", ("tags",))

    async def run() -> None:
        async with opened(url) as state:
            seen = await make_ready(state)
            with pytest.raises(InvalidRequest, match="is wrong"):
                await state.change_index("notes", refuse)
            assert await state.get_index("notes") == seen
            assert (await state.change_index("notes", _same)).version == seen.version + 1

    asyncio.run(run())


def test_a_protected_index_does_not_terminate(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            seen = await make_ready(state, deletion_protection=True)
            with pytest.raises(FailedPrecondition, match="Deletion protection is enabled for index notes"):
                await state.terminate_index("notes")
            with pytest.raises(FailedPrecondition):
                await state.update_index(replace(seen, status=IndexStatus.TERMINATING))
            with pytest.raises(FailedPrecondition):
                await state.delete_index(seen.id)
            assert await state.get_index("notes") == seen
            await state.update_index(replace(seen, deletion_protection=False))
            await remove(state, "notes")
            assert await state.list_indexes() == []

    asyncio.run(run())


def test_a_terminating_index_changes_no_more(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            await make_ready(state)
            seen = await state.terminate_index("notes")
            assert seen.status is IndexStatus.TERMINATING
            for call in (
                state.update_index(replace(seen, status=IndexStatus.READY)),
                state.change_index("notes", lambda record: replace(record, deletion_protection=True)),
                state.terminate_index("notes"),
                state.change_port(seen),
            ):
                with pytest.raises(FailedPrecondition):
                    await call
        async with opened(url) as state:  # a restart finds it, and can finish
            assert await state.list_indexes() == [seen]
            await state.delete_index(seen.id)
            assert await state.list_indexes() == []

    asyncio.run(run())


@pytest.mark.parametrize("status", [IndexStatus.INITIALIZING, IndexStatus.FAILED])
def test_an_index_that_never_was_ready_can_be_forgotten_though_protected(url: str, status: IndexStatus) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = await state.create_index(settings(deletion_protection=True))
            await state.update_index(replace(made, status=status))
            await state.delete_index(made.id)
            assert await state.list_indexes() == []

    asyncio.run(run())


def test_a_ready_index_must_be_told_to_terminate_first(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = await make_ready(state)
            with pytest.raises(FailedPrecondition, match="is ready"):
                await state.delete_index(made.id)
            assert await state.list_indexes() == [made]

    asyncio.run(run())


def test_a_closed_state_answers_nothing(url: str) -> None:
    async def run() -> None:
        state = await State.open(url)
        await state.close()
        await state.close()
        for call in (state.list_indexes(), state.create_index(settings())):
            with pytest.raises(Unavailable, match="shutting down"):
                await call

    asyncio.run(run())


def _same(record: IndexRecord) -> IndexRecord:
    return record
