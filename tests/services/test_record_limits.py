"""What a request may hold at most, and what namespaces declare: over each store and a real state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.config import Limits
from pinyon.errors import AlreadyExists, InvalidRequest, NotFound
from pinyon.filters import And, parse
from pinyon.services.indexes import IndexService
from pinyon.services.inference import InferenceService
from pinyon.services.record_checks import MAX_METADATA, Draft
from pinyon.services.record_texts import Search, TextDraft
from pinyon.services.records import RecordsService, VectorQuery
from pinyon.state import State
from pinyon.stores.base import SparseVector
from pinyon.testing import FakeEngine, fake_catalogue
from pinyon.types import Metric
from tests.grounds import GROUNDS, ground
from tests.services.index_settings import settings, with_model
from tests.services.one_loop import run

GENRE = {"genre": {"filterable": True}}


Served = Callable[..., contextlib.AbstractAsyncContextManager[tuple[RecordsService, IndexService]]]


@pytest.fixture(params=GROUNDS)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """`served(max_upsert_bytes=9)`: services on each ground. A second one sees what the first left."""
    with ground(request.param, tmp_path) as (store, url):

        @contextlib.asynccontextmanager
        async def served(**limits: int) -> AsyncIterator[tuple[RecordsService, IndexService]]:
            state, catalogue = await State.open(url), fake_catalogue(tmp_path)
            indexes = IndexService(state, store, catalogue)
            inference = InferenceService(catalogue, FakeEngine())
            try:
                yield RecordsService(indexes, inference, state, Limits(**limits)), indexes
            finally:
                await indexes.close()
                await state.close()

        yield served
        run(store.close())


def draft(id: str, dimension: int = 8, **metadata: object) -> Draft:
    return Draft(id, np.ones(dimension, dtype=np.float32), None, metadata)


async def refused(work: Awaitable[object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await work
    return caught.value


# --- bytes and records of an upsert ----------------------------------------------------------------------------------


def test_an_upsert_of_two_megabytes(served: Served) -> None:
    """Values count 4 bytes each, whatever their JSON is: 245 records of 1,536 values and 2,000 bytes, as Pinecone says,
    are not too much."""

    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings("notes", dimension=1536))
            await indexes.create_index(settings("small", dimension=384))
            await records.upsert("notes", "", [draft(str(n), 1536, text="x" * 1990) for n in range(245)])
            await records.upsert("small", "", [draft(str(n), 384) for n in range(1000)])
            error = await refused(records.upsert("notes", "n", [draft(str(n), 1536) for n in range(342)]))
            assert error.param == ("records",)
            assert error.reason == "Request size 3MB exceeds the maximum supported size of 2MB"
            await records.upsert("notes", "n", [draft(str(n), 1536) for n in range(341)])
            assert (await records.stats("notes")).namespaces == {"": 245, "n": 341}

    run(use())


def test_what_counts_and_what_the_limit_is(served: Served) -> None:
    hybrid = Draft(
        "ab",  # 2
        np.ones(8, dtype=np.float32),  # 32
        SparseVector(np.arange(5, dtype=np.uint32), np.ones(5, dtype=np.float32)),  # 40
        {"n": 1},  # {"n":1.0} is 9
    )

    async def use(limit: int) -> None:
        async with served(max_upsert_bytes=limit) as (records, indexes):
            name = f"limit-{limit}"
            await indexes.create_index(settings(name, metric=Metric.DOTPRODUCT))
            if limit < 83:
                await refused(records.upsert(name, "", [hybrid]))
            else:
                assert (await records.upsert(name, "", [hybrid])).count == 1

    for limit in (82, 83):
        run(use(limit))


def test_an_upsert_of_texts(served: Served) -> None:
    def texts(count: int) -> list[TextDraft]:
        return [TextDraft(str(n), {"body": f"text {n}"}) for n in range(count)]

    async def use(most: int, **limits: int) -> None:
        async with served(**limits) as (records, indexes):
            made = await indexes.create_index_for_model(with_model())
            assert (await records.upsert_texts(made.name, "", texts(most))).count == most
            error = await refused(records.upsert_texts(made.name, "n", texts(most + 1)))
            assert (error.param, error.reason) == (("records",), f"must hold 1 to {most} records, and holds {most + 1}")
            await indexes.delete_index(made.name)

    run(use(96))
    run(use(120, max_upsert_texts=120))
    run(use(1000, max_upsert_texts=5000))


# --- bytes of what is found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [5, 250, 251, 290])  # above 250 they are read in pieces
def test_what_a_query_may_find(served: Served, top_k: int) -> None:
    """35 bytes for values and id of each, and 9 for its metadata; ids alone are never too much."""

    async def use(limit: int, bytes_each: int, **asked: Any) -> None:
        async with served(max_result_bytes=limit) as (records, _):
            query = VectorQuery(top_k, values=np.ones(8, dtype=np.float32), **asked)
            if limit < top_k * bytes_each:
                error = await refused(records.query("found", "", query))
                assert error.param == ("top_k",)
                assert error.reason.startswith("asks for more than ")
            else:
                found = (await records.query("found", "", query)).matches
                assert [match.record.id for match in found] == [f"{n:03}" for n in range(top_k)]
                for match in found:
                    assert match.score == 1
                    assert (match.record.values is not None) == ("with_values" in asked)
                    assert match.record.metadata == ({"n": 1.0} if "with_metadata" in asked else {})

    async def fill() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings("found", metric=Metric.EUCLIDEAN))
            vectors = [draft(f"{n:03}", n=1) for n in range(300)]
            vectors = [replace(vector, values=np.array([0, *[1] * 7], np.float32)) for vector in vectors]
            await records.upsert("found", "", vectors)

    run(fill())
    for limit in (44 * top_k, 44 * top_k - 1):
        run(use(limit, 44, with_values=True, with_metadata=True))
    for limit in (35 * top_k, 35 * top_k - 1):
        run(use(limit, 35, with_values=True))
    run(use(12 * top_k - 1, 12, with_metadata=True))
    run(use(3 * top_k, 3))


def test_a_page_of_a_filter_ends_where_it_is_large_enough(served: Served) -> None:
    """With one record at least."""

    async def use(limit: int, max_bytes: int, wanted: int) -> None:
        async with served(max_result_bytes=max_bytes) as (records, _):
            pages: list[list[str]] = []
            token = None
            while not pages or token is not None:
                fetched = await records.fetch_where("paged", "", parse({"n": {"$gte": 5}}), token=token, limit=limit)
                pages.append([record.id for record in fetched.records])
                token = fetched.next
            assert [len(page) for page in pages[:-1]] == [wanted] * (len(pages) - 1)
            assert 0 < len(pages[-1]) <= wanted
            assert [id for page in pages for id in page] == [f"{n:03}" for n in range(5, 600)]

    async def fill() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings("paged"))
            await records.upsert("paged", "", [draft(f"{n:03}", n=n, t="x" * (3 - len(str(n)))) for n in range(600)])

    size = 3 + 32 + len('{"n":100.0,"t":""}')
    run(fill())
    run(use(1000, 1 << 20, 1000))
    run(use(595, 1 << 20, 595))
    run(use(594, 1 << 20, 594))
    run(use(250, 1 << 20, 250))
    run(use(1000, 280 * size, 280))
    run(use(1000, 281 * size - 1, 280))
    run(use(100, 1, 1))


def test_what_a_search_may_find(served: Served) -> None:
    """What it shows counts, and not the fields that nobody asks for."""

    async def use() -> None:
        async with served(max_result_bytes=20_000) as (records, indexes):
            made = await indexes.create_index_for_model(with_model())
            texts = [TextDraft(f"{n:03}", {"body": f"text {n}", "more": "x" * 1000, "n": n}) for n in range(120)]
            for at in range(0, 120, 60):
                await records.upsert_texts(made.name, "", texts[at : at + 60])
            for top_k in (20, 120):
                error = await refused(records.search(made.name, "", Search(top_k, text="text 7")))
                assert error.param == ("top_k",)
                found = await records.search(made.name, "", Search(top_k, text="text 7", fields=["n"]))
                assert len(found.hits) == top_k
                assert all(hit.fields == {"n": float(hit.id)} for hit in found.hits)

    run(use())


def test_what_a_search_by_words_may_find(served: Served) -> None:
    """All are looked at, and what has the words counts."""
    one = SparseVector(np.array([1], np.uint32), np.ones(1, np.float32))

    async def use() -> None:
        async with served(max_result_bytes=20_000) as (records, indexes):
            made = await indexes.create_index_for_model(with_model("pinecone-sparse-english-v0"))
            texts = [Draft(f"{n:03}", None, one, {"body": f"number {n} " + "x" * 1000}) for n in range(250)]
            await records.upsert(made.name, "", texts)
            (hit,) = (await records.search(made.name, "", Search(10, sparse=one, terms=["213"]))).hits
            assert hit.id == "213"
            assert len((await records.search(made.name, "", Search(19, sparse=one, terms=["number"]))).hits) == 19
            await refused(records.search(made.name, "", Search(20, sparse=one, terms=["number"])))

    run(use())


# --- metadata that grows ---------------------------------------------------------------------------------------------


def test_an_update_by_filter_lets_no_record_grow_too_large(served: Served) -> None:
    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings())
            full: dict[str, Any] = {"text": "x" * (MAX_METADATA - 30), "full": True}
            await records.upsert("notes", "", [draft(str(n), n=n) for n in range(6)])
            await records.upsert("notes", "", [draft("6", **full)])
            change: dict[str, object] = {"more": "y" * 100}
            error = await refused(records.update_where("notes", "", And(()), change, dry_run=False))
            assert error.param == ("metadata",)
            assert error.reason == "Metadata size is 41063 bytes, which exceeds the limit of 40960 bytes per vector"
            found = (await records.fetch("notes", "", [str(n) for n in range(7)])).records
            assert not any("more" in record.metadata for record in found), "all of them or none"
            # What is only counted, what does not match, and what replaces the long text: all fine.
            assert (await records.update_where("notes", "", And(()), change, dry_run=True)).count == 7
            few = parse({"n": {"$gte": 0}})
            assert (await records.update_where("notes", "", few, change, dry_run=False)).count == 6
            shorter = change | {"text": ""}
            assert (await records.update_where("notes", "", parse({"full": True}), shorter, dry_run=False)).count == 1

    run(use())


def test_a_query_by_id_beside_an_empty_vector(served: Served) -> None:
    """An empty list is no vector, as in protobuf, whose clients cannot leave a list out."""

    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings())
            await records.upsert("notes", "", [draft("a")])
            nothing = np.empty(0, dtype=np.float32)
            found = await records.query("notes", "", VectorQuery(1, id="a", values=nothing))
            assert [match.record.id for match in found.matches] == ["a"]

    run(use())


# --- what namespaces declare -----------------------------------------------------------------------------------------


async def declared(records: RecordsService, index: str, name: str) -> Any:
    described = await records.describe_namespace(index, name)
    listed = await records.list_namespaces(index, prefix=name, token=None, limit=1)
    assert listed.namespaces[0].schema == described.schema
    return described.schema


def test_a_schema_is_kept_until_its_namespace_goes(served: Served) -> None:
    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings())
            assert (await records.create_namespace("notes", "n", GENRE)).schema == GENRE
            await records.create_namespace("notes", "plain")
            await records.upsert("notes", "n", [draft("a")])
            assert await declared(records, "notes", "n") == GENRE
            assert await declared(records, "notes", "plain") == {}
            await records.delete_namespace("notes", "n")
            await records.upsert("notes", "n", [draft("a")])
            assert await declared(records, "notes", "n") == {}
            await records.create_namespace("notes", "m", GENRE)
            await indexes.delete_index("notes")
            await indexes.create_index(settings())
            await records.create_namespace("notes", "m")
            assert await declared(records, "notes", "m") == {}

    run(use())


def test_a_namespace_without_a_schema_has_its_indexs(served: Served) -> None:
    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings(schema={"year": {"filterable": True}}))
            await records.upsert("notes", "", [draft("a")])
            await records.create_namespace("notes", "own", GENRE)
            await records.create_namespace("notes", "none")
            assert (await records.describe_namespace("notes", "")).schema == {"year": {"filterable": True}}
            assert await declared(records, "notes", "none") == {"year": {"filterable": True}}
            assert await declared(records, "notes", "own") == GENRE

    run(use())


def test_of_many_that_make_one_namespace_one_does(served: Served) -> None:
    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings())
            for verb, error in ((records.create_namespace, AlreadyExists), (records.delete_namespace, NotFound)):
                calls = [verb("notes", "n") for _ in range(8)]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                assert sum(isinstance(outcome, error) for outcome in outcomes) == 7, outcomes

    run(use())


def test_schemas_that_are_refused(served: Served) -> None:
    async def use() -> None:
        async with served() as (records, indexes):
            await indexes.create_index(settings())
            many = {f"f{n}": {"filterable": True} for n in range(51)}
            assert (await refused(records.create_namespace("notes", "n", many))).param == ("schema",)
            odd = {"$genre": {"filterable": True}}
            assert (await refused(records.create_namespace("notes", "n", odd))).param == ("schema", "$genre")
            assert (await records.stats("notes")).namespaces == {}
            del many["f50"]
            assert (await records.create_namespace("notes", "n", many)).schema == many

    run(use())
