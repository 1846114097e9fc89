"""Collections: static copies of indexes of pods, and indexes that are made from them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.errors import AlreadyExists, FailedPrecondition, InvalidRequest, NotFound
from pinyon.state import (
    CollectionRecord,
    CopyStatus,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobStatus,
    Pod,
    Serverless,
    State,
)
from pinyon.stores.base import Store
from pinyon.types import Metric
from tests.grounds import GROUNDS, ground
from tests.services.copying import Copying, Run, Work, everything, records
from tests.services.index_settings import settings

POD = Pod("us-east1-gcp")


@pytest.fixture(params=GROUNDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test's work with a server on each ground, whose jobs do not begin before its `start`."""

    def run(work: Work) -> None:
        async def whole(store: Store, url: str) -> None:
            state = await State.open(url)
            made = Copying(state, store, tmp_path)
            try:
                await work(made)
            finally:
                await made.close()
                await store.close()
                await state.close()

        with ground(request.param, tmp_path) as (store, url):
            asyncio.run(whole(store, url))

    return run


def pods(name: str = "pods", **others: Any) -> IndexSettings:
    return settings(name, deployment=POD, **others)


def copied(name: str, **others: Any) -> IndexSettings:
    return pods(name, source_collection="old", **others)


async def filled(it: Copying, **others: Any) -> IndexRecord:
    record = await it.indexes.create_index(pods(**others))
    index = await it.index("pods")
    await index.upsert("", records(1, ["a", "b"], 8))
    await index.upsert("other", records(2, ["a", "c"], 8))
    return record


async def collected(it: Copying) -> CollectionRecord:
    made = await it.collections.create_collection("old", "pods")
    assert (made.status, made.vector_count, made.size_bytes) == (CopyStatus.INITIALIZING, None, None)
    await it.ended()
    return await it.collections.describe_collection("old")


def test_an_index_made_from_a_collection_equals_its_source(run: Run) -> None:
    async def work(it: Copying) -> None:
        await it.start()
        await filled(it, tags={"a": "b"})
        wanted = await everything(await it.index("pods"))
        made = await collected(it)
        assert (made.status, made.vector_count, made.dimension) == (CopyStatus.READY, 4, 8)
        assert made.environment == "us-east1-gcp"
        assert made.size_bytes is not None and made.size_bytes > 4 * 8 * 4
        assert await it.collections.list_collections() == [made]
        await it.indexes.delete_index("pods")
        # It may differ in its pods, or have none.
        for deployment in (Pod("asia", "s1.x2", 3), Serverless("aws", "us-east-1")):
            record = await it.collections.create_index(replace(copied("again"), deployment=deployment))
            assert (record.status, record.source_collection) == (IndexStatus.INITIALIZING, "old")
            assert [job.status for job in await it.ended()][-1] is JobStatus.COMPLETED
            record = await it.indexes.describe_index("again")
            assert (record.status, record.deployment, record.tags) == (IndexStatus.READY, deployment, {})
            assert await everything(await it.index("again")) == wanted
            await it.indexes.delete_index("again")
        await it.collections.delete_collection("old")
        assert await it.collections.list_collections() == []
        for call in (it.collections.describe_collection, it.collections.delete_collection):
            with pytest.raises(NotFound, match="Collection old not found"):
                await call("old")

    run(work)


def test_what_is_refused(run: Run, tmp_path: Path) -> None:
    async def work(it: Copying) -> None:
        await it.start()
        await filled(it)
        await it.indexes.create_index(settings("notes"))
        with pytest.raises(InvalidRequest) as caught:
            await it.collections.create_collection("new", "notes")
        assert caught.value.param == ("source",)
        with pytest.raises(NotFound, match="Index nothing not found"):
            await it.collections.create_collection("new", "nothing")
        with pytest.raises(InvalidRequest) as caught:
            await it.collections.create_collection("New", "pods")
        assert caught.value.param == ("name",)
        with pytest.raises(NotFound, match="Collection old not found"):
            await it.collections.create_index(copied("again"))
        made = await collected(it)
        with pytest.raises(AlreadyExists):
            await it.collections.create_collection("old", "pods")
        others = {"dimension": copied("again", dimension=9), "metric": copied("again", metric=Metric.DOTPRODUCT)}
        for param, other in others.items():
            with pytest.raises(InvalidRequest) as caught:
                await it.collections.create_index(other)
            assert caught.value.param == (param,)
        with pytest.raises(AlreadyExists):
            await it.collections.create_index(copied("pods"))
        next((tmp_path / "backups" / made.id).glob("*.parquet")).write_bytes(b"")
        with pytest.raises(FailedPrecondition, match="damaged"):
            await it.collections.create_index(copied("again"))
        assert [record.name for record in await it.indexes.list_indexes()] == ["notes", "pods"]
        assert len(await it.store.keys()) == 2

    run(work)


def test_what_is_used_stays(run: Run) -> None:
    """The jobs of this one do not begin before they are let."""

    async def work(it: Copying) -> None:
        await filled(it)
        await it.collections.create_collection("old", "pods")
        with pytest.raises(FailedPrecondition, match=r"pending collections for this index: \['old'\]"):
            await it.indexes.delete_index("pods")
        with pytest.raises(FailedPrecondition, match="not ready"):
            await it.collections.create_index(copied("again"))
        await it.jobs.start()
        await it.ended()
        await it.jobs.close()

        it = Copying(it.state, it.store, it.folder)
        record = await it.collections.create_index(copied("again"))
        with pytest.raises(InvalidRequest, match="again"):
            await it.collections.delete_collection("old")
        await it.indexes.delete_index("pods")
        await it.jobs.start()
        await it.ended()
        assert (await it.indexes.describe_index("again")).id == record.id
        assert len((await everything(await it.index("again")))[""]) == 2
        await it.collections.delete_collection("old")
        await it.close()

    run(work)


def test_one_that_waits_is_deleted(run: Run) -> None:
    async def work(it: Copying) -> None:
        await filled(it)
        await it.collections.create_collection("old", "pods")
        await it.collections.delete_collection("old")
        again = await it.collections.create_collection("old", "pods")
        await it.start()
        assert [job.status for job in await it.ended()] == [JobStatus.CANCELLED, JobStatus.COMPLETED]
        assert (await it.collections.describe_collection("old")).id == again.id

    run(work)


@pytest.mark.parametrize("status", [CopyStatus.INITIALIZING, CopyStatus.TERMINATING])
def test_a_start_clears_up(run: Run, status: CopyStatus) -> None:
    async def work(it: Copying) -> None:
        source = await filled(it)
        await it.state.create_collection("left", source=source, environment="e")
        await it.state.change_collection("left", lambda record: replace(record, status=status))
        kept = await it.collections.create_collection("old", "pods")
        await it.start()
        await it.ended()
        assert [record.id for record in await it.collections.list_collections()] == [kept.id]

    run(work)


def test_an_index_that_is_gone_when_its_turn_comes(run: Run) -> None:
    async def work(it: Copying) -> None:
        source = await filled(it)
        await it.collections.create_collection("old", "pods")
        # As a crash in the middle of a deletion has it.
        await it.state.terminate_index("pods")
        await it.start()
        [job] = await it.ended()
        assert (job.status, job.error) == (JobStatus.FAILED, "Index pods not found")
        assert (await it.collections.describe_collection("old")).status is CopyStatus.FAILED
        assert source.id not in await it.store.keys()
        await it.collections.delete_collection("old")
        assert await it.collections.list_collections() == []

    run(work)
