"""Pinecone's own Python SDK 10.x on the data plane of a live server. Other majors: test_pinecone_life.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pinecone
import pytest
from pinecone import Pinecone

from tests.dialects.pinecone.pinecone_data_server import RANKER, DataServer, data_server

NO_RETRIES = pinecone.RetryConfig(max_retries=0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DataServer]:
    with data_server(tmp_path, keys=("secret",)) as server:
        yield server


@pytest.fixture
def client(server: DataServer) -> Iterator[Pinecone]:
    with Pinecone(api_key="secret", host=server.url, retry_config=NO_RETRIES) as client:
        yield client


@pytest.fixture
def opened(client: Pinecone, server: DataServer) -> Iterator[Callable[[str], Any]]:
    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(client.Index(host=server.host(name)))


@pytest.fixture
def films(opened: Callable[[str], Any]) -> Any:
    index = opened("dense")
    answer = index.upsert(
        vectors=[
            {"id": "a", "values": [1.0, 0.0, 0.0], "metadata": {"genre": "drama", "year": 2019, "tags": ["x", "y"]}},
            {"id": "b", "values": [0.1, 0.9, 0.2], "metadata": {"genre": "comedy", "year": 2020, "good": True}},
            ("c", [0.0, 0.0, 1.0], {"genre": "drama", "year": 2021}),
            ("d", [0.5, 0.5, 0.5]),
        ],
        namespace="films",
    )
    assert answer.upserted_count == 4
    return index


def test_upsert_query_fetch(films: Any) -> None:
    index = films
    found = index.query(vector=[1.0, 0.0, 0.0], top_k=3, namespace="films")
    assert [match.id for match in found.matches] == ["a", "d", "b"]
    assert found.matches[0].score == pytest.approx(1.0)
    assert (found.namespace, found.usage.read_units) == ("films", 1)
    wanted = {"$and": [{"genre": {"$eq": "drama"}}, {"year": {"$gte": 2020}}]}
    found = index.query(
        vector=[1.0, 0.0, 0.1], top_k=3, namespace="films", filter=wanted, include_values=True, include_metadata=True
    )
    assert [match.id for match in found.matches] == ["c"]
    assert list(found.matches[0].values) == [0.0, 0.0, 1.0]
    assert dict(found.matches[0].metadata) == {"genre": "drama", "year": 2021}
    assert [match.id for match in index.query(id="c", top_k=1, namespace="films").matches] == ["c"]
    assert index.query(id="nothing", top_k=1, namespace="films").matches == []
    assert index.query(vector=[1.0, 0.0, 0.0], top_k=1, namespace="nowhere").matches == []
    fetched = index.fetch(ids=["b", "nothing"], namespace="films")
    assert list(fetched.vectors) == ["b"]
    assert np.array_equal(np.array(fetched.vectors["b"].values, np.float32), np.array([0.1, 0.9, 0.2], np.float32))
    assert dict(fetched.vectors["b"].metadata) == {"genre": "comedy", "year": 2020, "good": True}


def test_fetch_by_metadata_and_list(films: Any) -> None:
    index = films
    page = index.fetch_by_metadata(filter={"tags": "x"}, namespace="films")
    assert list(page.vectors) == ["a"]
    first = index.fetch_by_metadata(filter={"year": {"$exists": True}}, namespace="films", limit=2)
    assert list(first.vectors) == ["a", "b"]
    last = index.fetch_by_metadata(
        filter={"year": {"$exists": True}}, namespace="films", pagination_token=first.pagination.next
    )
    assert (list(last.vectors), last.pagination) == (["c"], None)
    index.upsert(vectors=[(f"n#{n:03}", [1.0, 0.0, n]) for n in range(250)])
    pages = [[item.id for item in page.vectors] for page in index.list(prefix="n#")]
    assert [len(page) for page in pages] == [100, 100, 50]
    assert [id for page in pages for id in page] == [f"n#{n:03}" for n in range(250)]
    page = index.list_paginated(prefix="n#", limit=3)
    assert [item.id for item in page.vectors] == ["n#000", "n#001", "n#002"]


def test_update_delete_stats(films: Any) -> None:
    index = films
    index.update(id="a", values=[0.0, 1.0, 0.0], set_metadata={"year": 1999}, namespace="films")
    record = index.fetch(ids=["a"], namespace="films").vectors["a"]
    assert list(record.values) == [0.0, 1.0, 0.0]
    assert dict(record.metadata) == {"genre": "drama", "year": 1999, "tags": ["x", "y"]}
    dry = index.update(filter={"genre": "drama"}, set_metadata={"seen": True}, namespace="films", dry_run=True)
    assert dry.matched_records == 2
    assert index.fetch_by_metadata(filter={"seen": True}, namespace="films").vectors == {}
    done = index.update(filter={"genre": "drama"}, set_metadata={"seen": True}, namespace="films")
    assert done.matched_records == 2
    assert list(index.fetch_by_metadata(filter={"seen": True}, namespace="films").vectors) == ["a", "c"]
    stats = index.describe_index_stats()
    assert (stats.dimension, stats.total_vector_count, stats.namespaces["films"].vector_count) == (3, 4, 4)
    assert (stats.metric, stats.vector_type) == ("cosine", "dense")
    index.delete(ids=["a", "nothing"], namespace="films")
    index.delete(filter={"genre": "comedy"}, namespace="films")
    assert index.describe_index_stats().total_vector_count == 2
    index.delete(delete_all=True, namespace="films")
    assert index.describe_index_stats().namespaces == {}
    with pytest.raises(pinecone.NotFoundError, match="Namespace not found"):
        index.delete(delete_all=True, namespace="films")


def test_namespaces(films: Any) -> None:
    index = films
    index.upsert(vectors=[("z", [1.0, 1.0, 1.0])])
    made = index.create_namespace(name="new one/2", schema={"fields": {"genre": {"filterable": True}}})
    assert made.name == "new one/2"
    assert [space.name for page in index.list_namespaces() for space in page.namespaces] == [
        "__default__", "films", "new one/2",
    ]  # fmt: skip
    assert int(index.describe_namespace(namespace="films").record_count) == 4
    assert int(index.describe_namespace(namespace="__default__").record_count) == 1
    index.delete_namespace(namespace="new one/2")
    with pytest.raises(pinecone.NotFoundError, match="Namespace not found"):
        index.describe_namespace(namespace="new one/2")
    with pytest.raises(pinecone.ConflictError, match="already exists"):
        index.create_namespace(name="films")


def test_hybrid_and_sparse(opened: Callable[[str], Any]) -> None:
    hybrid = opened("hybrid")
    sparse = {"indices": [7, 3], "values": [0.5, 2.0]}
    hybrid.upsert(vectors=[{"id": "h", "values": [1.0, 2.0, 3.0], "sparse_values": sparse}])
    found = hybrid.query(
        vector=[1.0, 1.0, 1.0], sparse_vector={"indices": [3], "values": [1.0]}, top_k=1, include_values=True
    ).matches[0]
    assert found.score == pytest.approx(8.0)
    assert list(found.sparse_values.indices) == [3, 7]
    assert list(found.sparse_values.values) == [2.0, 0.5]
    index = opened("sparse")
    index.upsert(vectors=[{"id": "s", "values": [], "sparse_values": sparse}])
    assert list(index.fetch(ids=["s"]).vectors["s"].sparse_values.indices) == [3, 7]
    assert index.query(sparse_vector={"indices": [7], "values": [2.0]}, top_k=5).matches[0].score == pytest.approx(1.0)
    assert index.describe_index_stats().dimension is None


def test_texts(opened: Callable[[str], Any], server: DataServer) -> None:
    index = opened("texts")
    bodies = {"1": "an apple a day", "2": "a tech company", "3": "the lazy dog"}
    index.upsert_records(
        namespace="docs",
        records=[{"_id": id, "body": body, "length": len(body)} for id, body in bodies.items()],
    )
    assert server.engine.calls[-1].input_type == "passage"
    found = index.search(namespace="docs", top_k=2, inputs={"text": "a tech company"}, fields=["body"])
    assert server.engine.calls[-1].input_type == "query"
    best = found.result.hits[0]
    assert (best.id, best.score, dict(best.fields)) == ("2", pytest.approx(1.0), {"body": "a tech company"})
    assert (found.usage.read_units, found.usage.embed_total_tokens) == (1, 3)
    found = index.search(namespace="docs", top_k=3, id="3", filter={"length": {"$lt": 14}})
    assert [hit.id for hit in found.result.hits] == ["3"]
    found = index.search(
        namespace="docs",
        top_k=3,
        inputs={"text": "something else"},
        rerank={"model": RANKER, "rank_fields": ["body"], "query": "an apple a day", "top_n": 1},
    )
    assert [hit.id for hit in found.result.hits] == ["1"]
    assert found.result.hits[0].score == pytest.approx(1.0)
    assert found.usage.rerank_units == 1


def test_errors(opened: Callable[[str], Any], server: DataServer) -> None:
    index = opened("dense")
    with pytest.raises(pinecone.ApiError, match=r"dimension 2 does not match the dimension of the index 3") as caught:
        index.upsert(vectors=[("a", [1.0, 2.0])])
    assert caught.value.status_code == 400
    with pytest.raises(pinecone.NotFoundError, match="Index nothing not found"):
        opened("nothing").describe_index_stats()
    with (
        Pinecone(api_key="wrong", host=server.url, retry_config=NO_RETRIES) as stranger,
        stranger.Index(host=server.host("dense")) as index,
        pytest.raises(pinecone.UnauthorizedError, match="Unauthorized"),
    ):
        index.describe_index_stats()
