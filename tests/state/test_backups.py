"""Backups and collections as they are remembered."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from pinyon.errors import AlreadyExists, InvalidRequest, NotFound
from pinyon.state import (
    BackupRecord,
    CollectionRecord,
    CopyStatus,
    Dedicated,
    Embed,
    IndexSettings,
    Pod,
    State,
    VectorType,
)
from pinyon.types import Metric
from tests.state.making import make_ready, opened, remove

LARGE = 2**40  # more than 32 bits hold
RICH: dict[str, Any] = {
    "metric": Metric.DOTPRODUCT,
    "deployment": Pod("us-east1-gcp", "p1.x2", 2, 3, indexed=("genre",)),
    "read_capacity": Dedicated("t1"),
    "tags": {"z": "last", "a": "first"},
    "schema": {"genre": {"filterable": True}},
    "embed": Embed("model", {"text": "body"}, Metric.DOTPRODUCT, 8),
}
SCHEMAS = {"": {"year": {"filterable": True}}, "ns \0 é": {"genre": {"filterable": True}}}


def ready(record: BackupRecord) -> BackupRecord:
    return replace(record, status=CopyStatus.READY, record_count=LARGE, namespace_count=3, size_bytes=LARGE + 1)


async def backups(state: State, count: int, index: str = "notes") -> list[BackupRecord]:
    source = await make_ready(state, index)
    return [await state.create_backup(source, schemas={}) for _ in range(count)]


def test_a_backup_outlives_its_index_and_a_restart(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            source = await make_ready(state, **RICH)
            made = await state.create_backup(
                source, schemas=SCHEMAS, name="nightly", description="é '\"", tags={"k": "v"}
            )
            assert type(made.settings) is IndexSettings
            for setting in fields(IndexSettings):
                assert getattr(made.settings, setting.name) == getattr(source, setting.name)
            assert made == BackupRecord(
                id=made.id, name="nightly", description="é '\"", source_index_id=source.id,
                source_index_name="notes", settings=made.settings, schemas=SCHEMAS,
                status=CopyStatus.INITIALIZING, record_count=None, namespace_count=None, size_bytes=None,
                tags={"k": "v"}, created_at=made.created_at,
            )  # fmt: skip
            changed = await state.change_backup(made.id, ready)
            assert changed == ready(made)
            await remove(state, "notes")
        async with opened(url) as state:
            found = await state.get_backup(made.id)
            assert found.source_deleted_at is not None
            changed = replace(changed, source_deleted_at=found.source_deleted_at)
            assert found == changed
            assert await state.list_backups() == await state.list_backups(index_name="notes") == [changed]

    asyncio.run(run())


def test_a_sparse_index_and_a_backup_without_a_name(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            source = await make_ready(state, vector_type=VectorType.SPARSE, metric=Metric.DOTPRODUCT, dimension=None)
            made = await state.create_backup(source, schemas={})
            assert (made.name, made.description, made.tags, made.settings.dimension) == (None, None, {}, None)
            assert await state.get_backup(made.id) == made

    asyncio.run(run())


def test_a_change_leaves_alone_where_a_backup_comes_from(url: str) -> None:
    def other(record: BackupRecord) -> BackupRecord:
        return replace(record, id="x", source_index_id="x", source_index_name="x", tags={"t": "u"},
                       created_at=record.created_at - timedelta(days=1))  # fmt: skip

    async def run() -> None:
        async with opened(url) as state:
            (made,) = await backups(state, 1)
            assert await state.change_backup(made.id, other) == replace(made, tags={"t": "u"})
            assert await state.list_backups() == [replace(made, tags={"t": "u"})]
            with pytest.raises(InvalidRequest):
                await state.change_backup(made.id, lambda record: replace(record, name="a\0b"))
            assert await state.get_backup(made.id) == replace(made, tags={"t": "u"})

    asyncio.run(run())


def test_pages_go_on_behind_a_backup_that_is_gone(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = (await backups(state, 5))[::-1]
            (other,) = await backups(state, 1, "other")
            first = await state.list_backups(index_name="notes", limit=2)
            assert first == made[:2]
            for record in first:
                await state.delete_backup(record.id)
            assert await state.list_backups(index_name="notes", after=first[-1].id, limit=2) == made[2:4]
            assert await state.list_backups(index_id=made[0].source_index_id, after=made[3].id) == made[4:]
            assert await state.list_backups(limit=2) == [other, made[2]]
            assert await state.list_backups(index_name="no\0ne") == []
            with pytest.raises(InvalidRequest):
                await state.list_backups(after="no id")

    asyncio.run(run())


@pytest.mark.parametrize("id", ["absent", "", "n\0tes", "\ud800"])
def test_unknown_backups_and_collections_are_not_found(url: str, id: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            calls: dict[str, Any] = {
                "backup": (state.get_backup, state.delete_backup, lambda id: state.change_backup(id, ready)),
                "collection": (
                    state.get_collection,
                    state.delete_collection,
                    lambda id: state.change_collection(id, lambda record: record),
                ),
            }
            for kind, doing in calls.items():
                for call in doing:
                    with pytest.raises(NotFound) as caught:
                        await call(id)
                    assert (caught.value.kind, caught.value.name) == (kind, id)

    asyncio.run(run())


@pytest.mark.parametrize("param", ["name", "description"])
@pytest.mark.parametrize("text", ["a\0b", "\udfff"])
def test_text_that_no_database_keeps_is_refused(url: str, param: str, text: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            source = await make_ready(state)
            texts: dict[str, Any] = {param: text}
            with pytest.raises(InvalidRequest) as caught:
                await state.create_backup(source, schemas={}, **texts)
            assert caught.value.param == (param,)
            with pytest.raises(InvalidRequest):
                await state.create_collection(text, source=source, environment="e")
            assert (await state.list_backups(), await state.list_collections()) == ([], [])

    asyncio.run(run())


def test_a_collection_outlives_its_index_and_a_restart(url: str) -> None:
    def changed(record: CollectionRecord) -> CollectionRecord:
        return replace(record, status=CopyStatus.READY, vector_count=LARGE, size_bytes=LARGE + 1)

    def disguised(record: CollectionRecord) -> CollectionRecord:
        moment = record.created_at - timedelta(days=1)
        return replace(changed(record), id="x", name="x", created_at=moment)

    async def run() -> None:
        async with opened(url) as state:
            source = await make_ready(state, **RICH)
            made = await state.create_collection("copy", source=source, environment="us-east1-gcp")
            assert type(made.settings) is IndexSettings
            assert made == CollectionRecord(
                id=made.id, name="copy", environment="us-east1-gcp", settings=made.settings, dimension=8,
                vector_count=None, size_bytes=None, status=CopyStatus.INITIALIZING, created_at=made.created_at,
            )  # fmt: skip
            for setting in fields(IndexSettings):
                assert getattr(made.settings, setting.name) == getattr(source, setting.name)
            assert await state.change_collection("copy", disguised) == changed(made)
            await remove(state, "notes")
        async with opened(url) as state:
            assert await state.get_collection("copy") == changed(made)

    asyncio.run(run())


def test_a_collections_name_is_had_once_until_it_is_deleted(url: str) -> None:
    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            source = await make_ready(one)
            calls = [
                state.create_collection("copy", source=source, environment="e") for state in (one, other, one, other)
            ]
            done = await asyncio.gather(*calls, return_exceptions=True)
            won = [result for result in done if isinstance(result, CollectionRecord)]
            assert len(won) == 1
            assert sum(isinstance(result, AlreadyExists) for result in done) == 3
            await other.delete_collection("copy")
            again = await one.create_collection("copy", source=source, environment="e")
            assert again.id != won[0].id

    asyncio.run(run())


def test_collections_are_listed_by_name_in_code_point_order(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            source = await make_ready(state)
            names = ["a", "a-b", "a0", "aa", "b"]
            for name in reversed(names):
                await state.create_collection(name, source=source, environment="e")
            assert [record.name for record in await state.list_collections()] == names

    asyncio.run(run())
