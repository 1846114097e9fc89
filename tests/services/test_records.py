"""RecordsService over each store: what it lets through, what it refuses, and what it makes of an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.errors import AlreadyExists, InputTooLong, InvalidRequest, NotFound, Param
from pinyon.filters import Exists, Gte, parse
from pinyon.services import paging
from pinyon.services.indexes import OpenIndex
from pinyon.services.inference import InferenceService
from pinyon.services.record_checks import Draft, check_dense
from pinyon.services.record_texts import Rerank, Search, TextDraft, has_terms
from pinyon.services.records import RecordsService, VectorQuery
from pinyon.state.records import Embed, IndexRecord, IndexStatus, Serverless, VectorType
from pinyon.stores.base import Layout, Record, SparseVector, Store
from pinyon.testing import FakeEngine, fake_catalogue, fake_vector
from pinyon.types import Metric, Truncate
from tests.grounds import STORES, make_store
from tests.services.one_loop import run

RANKER = "all-minilm-l6-v2-rerank"


class OneIndex:
    """The control plane's stand-in: the index "i", whatever its record says."""

    def __init__(self, record: IndexRecord, store: Store) -> None:
        self.record = record
        self.store = store

    async def open_index(self, name: str) -> OpenIndex:
        if name != "i":
            raise NotFound("No such index", "index", name)
        if "i" not in await self.store.keys():
            await self.store.create("i", Layout(self.record.dimension, self.record.metric))
        return OpenIndex(self.record, await self.store.open("i"))


Make = Callable[..., RecordsService]


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """`make(metric=Metric.DOTPRODUCT)`: a service whose index "i" has 2 dimensions, unless it is said otherwise."""
    stores: list[Store] = []

    def made(engine: FakeEngine | None = None, **changes: Any) -> RecordsService:
        record = IndexRecord(
            name="i",
            vector_type=VectorType.DENSE,
            metric=Metric.COSINE,
            dimension=2,
            deployment=Serverless("aws", "us-east-1"),
            id="i",
            status=IndexStatus.READY,
            port=None,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            version=1,
        )
        inference = InferenceService(fake_catalogue(tmp_path), engine or FakeEngine())
        stores.append(make_store(request.param, tmp_path / str(len(stores))))
        return RecordsService(OneIndex(replace(record, **changes), stores[-1]), inference)

    yield made
    for store in stores:
        run(store.close())


def floats(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def sparse(indices: list[int], values: list[float]) -> SparseVector:
    return SparseVector(np.array(indices, dtype=np.uint32), floats(*values))


def refused(work: Awaitable[object]) -> Param:
    async def wait() -> None:
        await work

    with pytest.raises(InvalidRequest) as caught:
        run(wait())
    return caught.value.param


def drafts(*ids: str) -> list[Draft]:
    return [Draft(id, floats(1, n), None, {"n": n}) for n, id in enumerate(ids)]


# --- writes ----------------------------------------------------------------------------------------------------------


def test_one_bad_record_changes_nothing(make: Make) -> None:
    service = make()
    bad = [*drafts("a", "b"), Draft("c", floats(1, np.nan))]
    assert refused(service.upsert("i", "", bad)) == ("records", 2, "values", 1)

    async def after() -> None:
        assert (await service.stats("i")).namespaces == {}
        assert (await service.stats("i")).sequence == 0

    run(after())


def test_of_two_faults_the_field_is_right() -> None:
    """Dense values are checked all at once: the row that is named is the first that is wrong."""
    record: Any = type("R", (), {"dimension": 2})
    rows: list[tuple[Param, Any]] = [
        (("records", n, "values"), floats(*row)) for n, row in enumerate([(1, 1), (1, np.inf), (np.nan, 1)])
    ]
    with pytest.raises(InvalidRequest) as caught:
        check_dense(rows, record)
    assert caught.value.param == ("records", 1, "values", 1)
    check_dense([(("values",), floats(0, 0))], record, allow_zeros=True)


def test_sparse_indices_are_sorted_with_their_values(make: Make) -> None:
    async def use() -> None:
        service = make(metric=Metric.DOTPRODUCT)
        await service.upsert("i", "", [Draft("a", floats(1, 2), sparse([9, 3, 4_000_000_000], [0.9, 0.3, 0.5]))])
        stored = (await service.fetch("i", "", ["a"])).records[0].sparse
        assert stored is not None
        assert stored.indices.tolist() == [3, 9, 4_000_000_000]
        assert stored.values.tolist() == floats(0.3, 0.9, 0.5).tolist()

    run(use())


def test_the_duplicate_that_is_named_is_the_later_one(make: Make) -> None:
    service = make(metric=Metric.DOTPRODUCT)
    draft = Draft("a", floats(1, 2), sparse([7, 5, 9, 7], [1, 1, 1, 1]))
    assert refused(service.upsert("i", "", [draft])) == ("records", 0, "sparse", "indices", 3)


def test_numbers_become_floats(make: Make) -> None:
    async def use() -> None:
        service = make()
        await service.upsert("i", "", [Draft("a", floats(1, 2), None, {"n": 2, "b": True, "l": []})])
        metadata = (await service.fetch("i", "", ["a"])).records[0].metadata
        assert {name: (type(value), value) for name, value in metadata.items()} == {
            "n": (float, 2.0), "b": (bool, True), "l": (list, []),
        }  # fmt: skip

    run(use())


def test_metadata_of_40_kilobytes_is_the_most(make: Make) -> None:
    service = make()
    room = 40 * 1024 - len('{"x":""}')
    run(service.upsert("i", "", [Draft("a", floats(1, 2), None, {"x": "y" * room})]))
    over = service.upsert("i", "", [Draft("a", floats(1, 2), None, {"x": "y" * (room + 1)})])
    assert refused(over) == ("records", 0, "metadata")
    # Bytes, not characters.
    over = service.upsert("i", "", [Draft("a", floats(1, 2), None, {"x": "é" * (room // 2 + 1)})])
    assert refused(over) == ("records", 0, "metadata")


def test_update(make: Make) -> None:
    async def use() -> None:
        service = make()
        await service.upsert("i", "", drafts("a", "b"))
        await service.update("i", "", Draft("a", floats(3, 4), None, {"m": "x"}))
        await service.update("i", "", Draft("nobody", None, None, {"m": "x"}))
        a = (await service.fetch("i", "", ["a"])).records[0]
        assert a.values is not None
        assert (a.values.tolist(), a.metadata) == ([3.0, 4.0], {"n": 0.0, "m": "x"})
        everything = Exists("n", True)
        dry = await service.update_where("i", "", everything, {"m": "z"}, dry_run=True)
        assert (dry.count, dry.sequence) == (2, 3)
        done = await service.update_where("i", "", everything, {"m": "z"}, dry_run=False)
        assert (done.count, done.sequence) == (2, 4)
        assert (await service.delete_where("i", "", parse({"m": "z", "n": 0}))).sequence == 5
        assert list((await service.list_ids("i", "", prefix="", token=None, limit=None)).ids) == ["b"]

    run(use())


# --- reads -----------------------------------------------------------------------------------------------------------


def test_query_by_id_takes_both_of_its_vectors(make: Make) -> None:
    async def use() -> None:
        service = make(metric=Metric.DOTPRODUCT)
        await service.upsert("i", "", [Draft("a", floats(1, 2), sparse([3], [2])), Draft("b", floats(1, 0))])
        found = await service.query("i", "", VectorQuery(5, id="a"))
        assert [(match.record.id, match.score) for match in found.matches] == [("a", 9.0), ("b", 1.0)]
        assert (await service.query("i", "", VectorQuery(5, id="c"))).matches == []

    run(use())


def test_zeros_may_be_asked_for_where_they_mean_something(make: Make) -> None:
    zeros = VectorQuery(5, values=floats(0, 0))
    assert refused(make().query("i", "", zeros)) == ("values",)
    for metric in (Metric.DOTPRODUCT, Metric.EUCLIDEAN):
        assert run(make(metric=metric).query("i", "", zeros)).matches == []


def test_read_units(make: Make) -> None:
    async def use() -> None:
        service = make()
        await service.upsert("i", "", drafts(*(f"{n:02}" for n in range(25))))
        plain = await service.query("i", "", VectorQuery(25, values=floats(1, 1)))
        whole = await service.query("i", "", VectorQuery(25, values=floats(1, 1), with_metadata=True))
        assert (plain.read_units, whole.read_units) == (1, 3)
        fetched = await service.fetch("i", "", [f"{n:02}" for n in range(11)])
        assert (len(fetched.records), fetched.read_units) == (11, 2)
        assert (await service.fetch("i", "", ["none"])).read_units == 1

    run(use())


def test_pages_of_records(make: Make) -> None:
    async def use() -> None:
        service = make()
        await service.upsert("i", "", drafts("a", "b", "c", "d", "e"))
        pages, token, limit = [], None, 2
        while True:
            page = await service.fetch_where("i", "", Gte("n", 1.0), token=token, limit=limit)
            pages.append([record.id for record in page.records])
            token, limit = page.next, None  # type: ignore[assignment]
            if token is None:
                break
        assert pages == [["b", "c"], ["d", "e"]]

    run(use())


@pytest.mark.parametrize(
    "token", ["x", "é", "====", paging.make_token("a", 0), paging.make_token("a", 101), "WzEsMl0=", "W10="]
)
def test_tokens_that_are_not_ours(token: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        paging.read_token(token, None, default=100, highest=100)
    assert caught.value.param == ("pagination_token",)


def test_tokens() -> None:
    token = paging.make_token('naïve/"id"', 7)
    assert token.isascii()
    assert paging.read_token(token, None, default=100, highest=100) == ('naïve/"id"', 7)
    assert paging.read_token(token, 9, default=100, highest=100) == ('naïve/"id"', 9)
    assert paging.read_token(None, None, default=100, highest=100) == (None, 100)
    assert paging.read_token("", 3, default=100, highest=100) == (None, 3)


# --- namespaces ------------------------------------------------------------------------------------------------------


def test_namespaces(make: Make) -> None:
    async def use() -> None:
        service = make()
        assert (await service.describe_namespace("i", "")).records == 0
        with pytest.raises(NotFound):
            await service.describe_namespace("i", "n")
        with pytest.raises(NotFound):
            await service.delete_namespace("i", "n")
        made = await service.create_namespace("i", "n")
        assert (made.name, made.records, made.sequence) == ("n", 0, 1)
        with pytest.raises(AlreadyExists):
            await service.create_namespace("i", "n")
        await service.upsert("i", "n", drafts("a", "b"))
        await service.upsert("i", "", drafts("a"))
        page = await service.list_namespaces("i", prefix="", token=None, limit=1, default_name="zero")
        assert ([(item.name, item.records, item.size_bytes) for item in page.namespaces], page.total) == (
            [("n", 2, 16)], 2,
        )  # fmt: skip
        rest = await service.list_namespaces("i", prefix="", token=page.next, limit=None, default_name="zero")
        assert ([item.name for item in rest.namespaces], rest.next) == (["zero"], None)
        await service.delete_namespace("i", "n")
        assert (await service.stats("i")).namespaces == {"": 1}
        with pytest.raises(NotFound):
            await service.stats("other")

    run(use())


# --- texts -----------------------------------------------------------------------------------------------------------

MODEL = "all-minilm-l6-v2"
TEXTS: dict[str, Any] = {
    "dimension": 384,
    "embed": Embed(MODEL, {"text": "body"}, Metric.COSINE, 384, {"truncate": "NONE"}, {"truncate": "START"}),
}


def documents(**bodies: str) -> list[TextDraft]:
    return [TextDraft(id, {"body": body, "id length": len(id)}) for id, body in bodies.items()]


def test_texts(make: Make) -> None:
    async def use() -> None:
        engine = FakeEngine()
        service = make(engine, **TEXTS)
        done = await service.upsert_texts("i", "n", documents(a="one", b="two words"))
        assert (done.count, done.tokens, done.model) == (2, 3, MODEL)
        asked = engine.calls[-1]
        assert (asked.input_type, asked.truncate, asked.dimension) == ("passage", Truncate.START, 384)
        record = (await service.fetch("i", "n", ["b"])).records[0]
        assert np.array_equal(np.asarray(record.values), fake_vector("two words", 384))
        assert record.metadata == {"body": "two words", "id length": 1.0}
        found = await service.search("i", "n", Search(1, text="two words"))
        asked = engine.calls[-1]
        assert (asked.input_type, asked.truncate) == ("query", Truncate.NONE)
        assert [(hit.id, hit.fields["body"]) for hit in found.hits] == [("b", "two words")]
        assert (found.embed_tokens, found.model, found.read_units) == (2, MODEL, 1)
        by_id = await service.search("i", "n", Search(2, id="a"))
        assert (by_id.hits[0].id, by_id.embed_tokens) == ("a", None)
        with pytest.raises(InputTooLong) as caught:
            await service.search("i", "n", Search(1, text="a " * 300))
        assert caught.value.param == ("text",)

    run(use())


def test_what_can_be_refused_is_refused_before_the_model_works(make: Make) -> None:
    async def use() -> None:
        engine = FakeEngine()
        service = make(engine, **TEXTS)
        for wrong, param in (
            (TextDraft("\u00e5", {"body": "x"}), ("records", 1, "id")),
            (TextDraft("b", {"body": "x", "nothing": None}), ("records", 1, "metadata", "nothing")),
            (TextDraft("b", {"body": "x" * 41_000}), ("records", 1, "metadata")),
            (TextDraft("b", {"other": "x"}), ("records", 1, "body")),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await service.upsert_texts("i", "", [*documents(a="one"), wrong])
            assert caught.value.param == param
        assert engine.calls == []

    run(use())


def test_texts_as_sparse_vectors(make: Make) -> None:
    async def use() -> None:
        engine = FakeEngine()
        embed = Embed("bm25-english", {"text": "body"}, write_parameters={"max_tokens_per_sequence": 7})
        service = make(engine, vector_type=VectorType.SPARSE, metric=Metric.DOTPRODUCT, dimension=None, embed=embed)
        done = await service.upsert_texts("i", "", documents(a="red cat", b="blue cat", c="dog"))
        assert (done.count, done.tokens, done.model) == (3, 5, "bm25-english")
        asked = engine.calls[-1]
        assert (asked.input_type, asked.dimension, asked.max_tokens) == ("passage", None, 7)
        found = await service.search("i", "", Search(3, text="blue cat"))
        assert [(hit.id, hit.score) for hit in found.hits] == [("b", 2.0), ("a", 1.0)]
        assert (found.embed_tokens, engine.calls[-1].input_type) == (2, "query")
        assert [hit.id for hit in (await service.search("i", "", Search(3, text="cat", terms=["RED"]))).hits] == ["a"]
        # The fake's terms are words of letters alone.
        nothing = await service.search("i", "", Search(3, text="123 456"))
        assert (nothing.hits, nothing.embed_tokens) == ([], 2)
        with pytest.raises(InvalidRequest, match="no word") as caught:
            await service.upsert_texts("i", "", documents(d="fine", e="123"))
        assert caught.value.param == ("records", 1, "body")
        assert (await service.stats("i")).namespaces == {"": 3}

    run(use())


def test_reranking(make: Make) -> None:
    async def use() -> None:
        service = make(**TEXTS)
        await service.upsert_texts("i", "", documents(a="one", b="two", c="three"))
        rerank = Rerank(RANKER, ["body"], top_n=2)
        found = await service.search("i", "", Search(3, id="a", rerank=replace(rerank, query="three")))
        assert (found.hits[0].id, len(found.hits), found.reranked) == ("c", 2, 3)
        assert found.hits[0].score == pytest.approx(1.0)
        found = await service.search("i", "", Search(3, text="two", rerank=rerank))
        assert found.hits[0].id == "b"
        nothing = await service.search("i", "nowhere", Search(3, text="two", rerank=rerank))
        assert (nothing.hits, nothing.reranked) == ([], 0)
        for search, param in (
            (Search(3, text="x", rerank=Rerank(RANKER, ["nothing"])), ("rerank", "fields", 0)),
            (Search(3, text="x", rerank=Rerank(RANKER, ["id length"])), ("rerank", "fields", 0)),
            (Search(3, text="x", rerank=Rerank(RANKER, ["body"], top_n=0)), ("rerank", "top_n")),
            (Search(3, text="x", rerank=Rerank(RANKER, ["body"], query="")), ("rerank", "query")),
            (Search(3, text="x", rerank=Rerank(MODEL, ["body"])), ("rerank", "model")),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await service.search("i", "", search)
            assert caught.value.param == param
        with pytest.raises(NotFound):
            await service.search("i", "", Search(3, text="x", rerank=Rerank("nothing", ["body"])))
        many = [TextDraft(f"{n}", {"body": f"text {n}"}) for n in range(101)]
        for part in (many[:96], many[96:]):
            await service.upsert_texts("i", "", part)
        with pytest.raises(InvalidRequest) as caught:
            await service.search("i", "", Search(101, text="x", rerank=rerank))
        assert caught.value.param == ("top_k",)

    run(use())


def test_terms(make: Make) -> None:
    """The vendor's own example."""
    terms = ["animal", "CHARACTER", "donald Duck"]
    assert has_terms(Record("a", metadata={"t": "Donald F. Duck is a funny animal character"}), "t", terms)
    assert not has_terms(Record("a", metadata={"t": "A duck is a funny animal"}), "t", terms)
    assert not has_terms(Record("a", metadata={"t": 1.0}), "t", terms)

    async def use() -> None:
        embed = Embed("pinecone-sparse-english-v0", {"text": "body"})
        service = make(vector_type=VectorType.SPARSE, metric=Metric.DOTPRODUCT, dimension=None, embed=embed)
        bodies = ("a red cat", "a blue cat", "a red dog")
        await service.upsert(
            "i", "", [Draft(f"{n}", None, sparse([1], [3 - n]), {"body": body}) for n, body in enumerate(bodies)]
        )
        search = Search(1, sparse=sparse([1], [1]), terms=["DOG", "red"])
        assert [hit.id for hit in (await service.search("i", "", search)).hits] == ["2"]
        with pytest.raises(NotFound, match="no public weights"):
            await service.search("i", "", Search(1, text="x"))

    run(use())
