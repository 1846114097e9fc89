"""The life of an index: rules, order, and what crashes and other requests leave of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pinyon.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    Protected,
    Unavailable,
    Unsupported,
)
from pinyon.services.index_rules import EmbedChange, IndexChange, OnDemand
from pinyon.services.indexes import IndexService
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
from pinyon.stores.base import Index, Layout, Store
from pinyon.testing import fake_catalogue
from pinyon.types import Metric
from tests.grounds import GROUNDS, ground
from tests.services.index_settings import READS, settings, with_model


class FailingStore:
    """A store that raises what the names of its calls stand for; `passing` is set when a call is to go on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.open, self.keys, self.close = store.open, store.keys, store.close
        self.errors: dict[str, Exception] = {}
        self.began = asyncio.Event()
        self.passing = asyncio.Event()
        self.passing.set()

    async def create(self, key: str, layout: Layout) -> Index:
        self.began.set()
        await self.passing.wait()
        index = await self._store.create(key, layout)
        if "create" in self.errors:
            raise self.errors["create"]
        return index

    async def drop(self, key: str) -> None:
        if "drop" in self.errors:
            raise self.errors["drop"]
        await self._store.drop(key)


class Server:
    def __init__(self, state: State, store: FailingStore, folder: Path) -> None:
        self.state = state
        self.store = store
        self.catalogue = fake_catalogue(folder, e5="multilingual-e5-large")
        self.service = IndexService(state, store, self.catalogue)


Run = Callable[[Callable[[Server], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=GROUNDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test's work with a server on each ground."""

    def run(work: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
        async def whole(store: Store, url: str) -> None:
            state = await State.open(url)
            made = Server(state, FailingStore(store), tmp_path)
            try:
                await work(made)
            finally:
                await made.service.close()
                await store.close()
                await state.close()

        with ground(request.param, tmp_path) as (store, url):
            asyncio.run(whole(store, url))

    return run


def test_created_is_ready_and_deleted_is_gone(run: Run) -> None:
    async def work(it: Server) -> None:
        record = await it.service.create_index(settings(tags={"a": "b", "c": ""}))
        assert (record.status, record.tags) == (IndexStatus.READY, {"a": "b"})
        assert await it.service.describe_index("notes") == record
        assert await it.service.list_indexes() == [record]
        assert await it.store.keys() == [record.id]
        with pytest.raises(AlreadyExists):
            await it.service.create_index(settings())
        await it.service.delete_index("notes")
        assert (await it.store.keys(), await it.service.list_indexes()) == ([], [])
        for gone in (it.service.describe_index, it.service.delete_index, it.service.open_index):
            with pytest.raises(NotFound, match="Index notes not found"):
                await gone("notes")
        again = await it.service.create_index(settings())
        assert again.id != record.id

    run(work)


@pytest.mark.parametrize(
    ("made", "layout"),
    [
        (settings(dimension=1), Layout(1, Metric.COSINE)),
        (settings(dimension=20_000, metric=Metric.EUCLIDEAN), Layout(20_000, Metric.EUCLIDEAN)),
        (
            settings(vector_type=VectorType.SPARSE, dimension=None, metric=Metric.DOTPRODUCT),
            Layout(None, Metric.DOTPRODUCT),
        ),
        (settings(deployment=Pod("e", "p1"), metric=Metric.DOTPRODUCT), Layout(8, Metric.DOTPRODUCT)),
        (settings("a", deployment=Byoc("e"), read_capacity=Dedicated("b1", "Manual", 0, 1)), Layout(8, Metric.COSINE)),
        (settings("x" * 45), Layout(8, Metric.COSINE)),
    ],
)
def test_what_may_be(run: Run, made: IndexSettings, layout: Layout) -> None:
    async def work(it: Server) -> None:
        record = await it.service.create_index(made)
        opened = await it.service.open_index(record.name)
        assert (opened.record, opened.index.layout) == (record, layout)

    run(work)


def test_what_is_refused_is_not_remembered(run: Run) -> None:
    async def work(it: Server) -> None:
        with pytest.raises(InvalidRequest):
            await it.service.create_index(settings("-"))
        with pytest.raises(InvalidRequest):
            await it.service.create_index_for_model(settings())
        assert await it.service.list_indexes() == []

    run(work)


def test_what_is_not_here(run: Run) -> None:
    async def work(it: Server) -> None:
        with pytest.raises(NotFound, match="cloud: moon region: crater not found"):
            await it.service.create_index(settings(deployment=Serverless("moon", "crater")))
        with pytest.raises(NotFound, match="Collection old not found"):
            await it.service.create_index(settings(source_collection="old"))
        with pytest.raises(Unsupported):
            await it.service.create_index(settings(cmek_id="key"))

    run(work)


# --- integrated embedding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "kind", "metric", "dimension"),
    [
        (with_model(), "dense", "cosine", 384),
        (with_model("e5"), "dense", "cosine", 1024),
        (with_model("llama-text-embed-v2", metric=Metric.DOTPRODUCT), "dense", "dotproduct", 1024),
        (with_model("llama-text-embed-v2", dimension=512), "dense", "cosine", 512),
        (with_model("llama-text-embed-v2", write_parameters={"dimension": 384}), "dense", "cosine", 384),
        (with_model("pinecone-sparse-english-v0"), "sparse", "dotproduct", None),
    ],
)
def test_a_model_decides_the_vectors(
    run: Run, made: IndexSettings, kind: str, metric: str, dimension: int | None
) -> None:
    async def work(it: Server) -> None:
        record = await it.service.create_index_for_model(made)
        assert (record.vector_type, record.metric, record.dimension) == (kind, metric, dimension)
        assert record.embed is not None
        assert made.embed is not None
        assert (record.embed.model, record.embed.metric, record.embed.dimension) == (
            made.embed.model,
            metric,
            dimension,
        )
        assert (await it.service.open_index("faq")).index.layout == Layout(dimension, Metric(metric))

    run(work)


def test_an_unknown_model(run: Run) -> None:
    async def work(it: Server) -> None:
        with pytest.raises(NotFound, match="Model 'nothing' not found"):
            await it.service.create_index_for_model(with_model("nothing"))

    run(work)


def test_a_plain_index_is_given_a_model(run: Run) -> None:
    async def work(it: Server) -> None:
        await it.service.create_index(settings(dimension=1024))
        embed = EmbedChange("e5", {"text": "body"}, {"input_type": "query"})
        record = await it.service.configure_index("notes", IndexChange(embed=embed))
        assert record.embed == Embed("e5", {"text": "body"}, Metric.COSINE, 1024, {"input_type": "query"})
        # From then on its model stays, and how it is used may change.
        record = await it.service.configure_index("notes", IndexChange(embed=EmbedChange(field_map={"text": "chunk"})))
        assert record.embed is not None
        assert (record.embed.field_map, record.embed.read_parameters) == ({"text": "chunk"}, {"input_type": "query"})
        write = EmbedChange("e5", write_parameters={"truncate": "NONE"}, of_field="chunk")
        record = await it.service.configure_index("notes", IndexChange(embed=write))
        assert record.embed is not None
        assert record.embed.write_parameters == {"truncate": "NONE"}
        for change, param in (
            (EmbedChange("all-minilm-l6-v2"), ("embed", "model")),
            (EmbedChange(of_field="body"), ("embed", "field_map")),
            (EmbedChange(field_map={"text": "$"}), ("embed", "field_map", "text")),
            (EmbedChange(read_parameters={"input_type": "x"}), ("embed", "read_parameters", "input_type")),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await it.service.configure_index("notes", IndexChange(embed=change))
            assert caught.value.param == param
        assert await it.service.describe_index("notes") == record

    run(work)


# --- changes ---------------------------------------------------------------------------------------------------------


def test_tags_are_merged(run: Run) -> None:
    async def work(it: Server) -> None:
        await it.service.create_index(settings(tags={"a": "1", "b": "2"}))
        record = await it.service.configure_index("notes", IndexChange(tags={"b": "", "c": "3"}))
        assert record.tags == {"a": "1", "c": "3"}
        with pytest.raises(InvalidRequest) as caught:
            many = {f"t{n}": "x" for n in range(19)}
            await it.service.configure_index("notes", IndexChange(tags=many))
        assert caught.value.param == ("tags",)
        with pytest.raises(NotFound):
            await it.service.configure_index("nothing", IndexChange())

    run(work)


def test_protection(run: Run) -> None:
    async def work(it: Server) -> None:
        await it.service.create_index(settings(deletion_protection=True))
        with pytest.raises(Protected):
            await it.service.delete_index("notes")
        await it.service.configure_index("notes", IndexChange(deletion_protection=False))
        await it.service.delete_index("notes")

    run(work)


def test_pods_and_read_capacity(run: Run) -> None:
    async def work(it: Server) -> None:
        await it.service.create_index(settings("pods", deployment=Pod("e")))
        record = await it.service.configure_index("pods", IndexChange(deployment=Pod, replicas=2, pod_type="p1.x2"))
        assert record.deployment == Pod("e", "p1.x2", 2)
        await it.service.create_index(settings("reads"))
        record = await it.service.configure_index("reads", IndexChange(deployment=Serverless, read_capacity=READS))
        assert record.read_capacity == READS
        record = await it.service.configure_index("reads", IndexChange(read_capacity=Dedicated(replicas=4)))
        assert record.read_capacity == replace(READS, replicas=4)
        record = await it.service.configure_index("reads", IndexChange(read_capacity=OnDemand()))
        assert record.read_capacity is None
        for name, change, param in (
            ("pods", IndexChange(deployment=Serverless), ("deployment",)),
            ("pods", IndexChange(replicas=0), ("deployment", "replicas")),
            ("pods", IndexChange(pod_type="p"), ("deployment", "pod_type")),
            ("pods", IndexChange(read_capacity=OnDemand()), ("read_capacity",)),
            ("reads", IndexChange(replicas=2), ("deployment",)),
            ("reads", IndexChange(read_capacity=Dedicated("t1")), ("read_capacity", "scaling")),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await it.service.configure_index(name, change)
            assert caught.value.param == param

    run(work)


# --- order -----------------------------------------------------------------------------------------------------------


def test_an_open_index_costs_no_sql(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(it: Server) -> None:
        await it.service.create_index(settings())
        other = IndexService(it.state, it.store, it.catalogue)
        opened = await other.open_index("notes")
        with monkeypatch.context() as patched:
            patched.delattr(State, "_read")
            patched.delattr(State, "_write")
            assert await other.open_index("notes") is opened
        record = await other.configure_index("notes", IndexChange(tags={"a": "b"}))
        assert (await other.open_index("notes")).record == record
        # A store may close an index that has failed.
        await opened.index.close()
        assert not (await other.open_index("notes")).index.closed

    run(work)


def test_data_that_is_not_here(run: Run) -> None:
    async def work(it: Server) -> None:
        record = await it.service.create_index(settings())
        await it.store.drop(record.id)
        with pytest.raises(Unavailable, match="data of index notes"):
            await it.service.open_index("notes")
        await it.service.delete_index("notes")

    run(work)


@pytest.mark.parametrize("status", [IndexStatus.INITIALIZING, IndexStatus.TERMINATING])
@pytest.mark.parametrize("has_data", [True, False])
def test_a_start_clears_up(run: Run, status: IndexStatus, has_data: bool) -> None:
    async def work(it: Server) -> None:
        kept = await it.service.create_index(settings("kept"))
        record = await it.state.create_index(settings("left", deletion_protection=True))
        if has_data:
            await it.store.create(record.id, Layout(8, Metric.COSINE))
        if status is IndexStatus.TERMINATING:
            await it.state.change_index("left", lambda record: replace(record, deletion_protection=False))
            await it.state.terminate_index("left")
        await IndexService(it.state, it.store, it.catalogue).start()
        assert await it.state.list_indexes() == [kept]
        assert await it.store.keys() == [kept.id]

    run(work)


def test_a_store_that_cannot_create_leaves_nothing(run: Run) -> None:
    async def work(it: Server) -> None:
        it.store.errors["create"] = Unavailable("The disk is full")
        with pytest.raises(Unavailable, match="full"):
            await it.service.create_index(settings())
        assert (await it.service.list_indexes(), await it.store.keys()) == ([], [])
        # Nor could it be cleared up: whoever comes next does that.
        it.store.errors["drop"] = Unavailable("The disk is broken")
        with pytest.raises(Unavailable, match="full"):
            await it.service.create_index(settings())
        assert [record.status for record in await it.service.list_indexes()] == [IndexStatus.INITIALIZING]
        with pytest.raises(NotFound):
            await it.service.open_index("notes")
        it.store.errors.clear()
        record = await it.service.create_index(settings())
        assert await it.store.keys() == [record.id]

    run(work)


def test_a_deletion_that_failed_is_finished_by_the_next(run: Run) -> None:
    async def work(it: Server) -> None:
        await it.service.create_index(settings())
        it.store.errors["drop"] = Unavailable("The disk is broken")
        with pytest.raises(Unavailable):
            await it.service.delete_index("notes")
        assert (await it.service.describe_index("notes")).status is IndexStatus.TERMINATING
        it.store.errors.clear()
        await it.service.delete_index("notes")
        assert (await it.service.list_indexes(), await it.store.keys()) == ([], [])

    run(work)


def test_of_many_creations_one_wins(run: Run) -> None:
    async def work(it: Server) -> None:
        done = await asyncio.gather(*(it.service.create_index(settings()) for _ in range(8)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in done) == ["AlreadyExists"] * 7 + ["IndexRecord"]
        gone = await asyncio.gather(*(it.service.delete_index("notes") for _ in range(8)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in gone) == ["NoneType"] + ["NotFound"] * 7
        assert await it.store.keys() == []

    run(work)


def test_a_creation_is_finished_when_its_client_goes_away(run: Run) -> None:
    async def work(it: Server) -> None:
        it.store.passing.clear()
        creating = asyncio.create_task(it.service.create_index(settings()))
        await it.store.began.wait()
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        # Whoever comes while it goes on waits for it.
        opening = asyncio.create_task(it.service.open_index("notes"))
        it.store.passing.set()
        opened = await opening
        assert opened.record.status is IndexStatus.READY

    run(work)


def test_closing_waits_for_what_has_begun(run: Run) -> None:
    async def work(it: Server) -> None:
        it.store.passing.clear()
        creating = asyncio.create_task(it.service.create_index(settings()))
        await it.store.began.wait()
        closing = asyncio.create_task(it.service.close())
        await asyncio.sleep(0)
        assert not closing.done()
        it.store.passing.set()
        await closing
        record: IndexRecord = await creating
        assert record.status is IndexStatus.READY

    run(work)


class Doors:
    """Addresses that are remembered; the port of the first is taken."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.open_at: dict[str, int | None] = {}

    async def open(self, record: IndexRecord) -> IndexRecord:
        if not self.open_at:
            record = await self.state.change_port(record)
        self.open_at[record.name] = record.port
        return record

    async def close(self, record: IndexRecord) -> None:
        self.open_at.pop(record.name, None)


def test_addresses_are_opened_before_an_index_is_ready(run: Run) -> None:
    async def work(it: Server) -> None:
        doors = Doors(it.state)
        service = IndexService(it.state, it.store, it.catalogue, doors)
        record = await service.create_index(settings())
        assert doors.open_at == {"notes": record.port}
        assert await service.describe_index("notes") == record
        again = Doors(it.state)
        await IndexService(it.state, it.store, it.catalogue, again).start()
        assert again.open_at.keys() == {"notes"}
        await service.delete_index("notes")
        assert doors.open_at == {}

    run(work)
