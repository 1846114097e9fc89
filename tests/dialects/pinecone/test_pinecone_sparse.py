"""bm25-english end to end: a real process, and Pinecone's own Python SDK 10.x."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pinecone
import pytest
from pinecone import Pinecone
from pinecone.errors import ApiError

from tests.faults.test_process import Process

MODEL = "bm25-english"
TREES = {
    "pine": "Pines are conifers: their cones and needles are known to everybody in the forest.",
    "yeast": "Bread needs yeast, flour and water; the baker needs patience.",
    "oak": "Oaks are not conifers. An oak drops acorns in autumn.",
    "ship": "The ship's mast was made of one pine tree.",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = Process(tmp_path_factory.mktemp("data"), preload=[], index_hosts="path")
    try:
        yield f"http://127.0.0.1:{process.port}"
    finally:
        process.end()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with Pinecone(api_key="any", host=url, retry_config=pinecone.RetryConfig(max_retries=0)) as client:
        yield client


def test_embed(client: Any) -> None:
    texts = list(TREES.values())
    found = client.inference.embed(MODEL, texts, {"input_type": "passage", "return_tokens": True})
    assert (found.model, str(found.vector_type)) == (MODEL, "sparse")
    assert found.usage.total_tokens == sum(len(text.replace(":", "").split()) for text in texts)
    for embedding in found.data:
        assert len(embedding.sparse_values) == len(embedding.sparse_indices) == len(embedding.sparse_tokens) > 3
        assert list(embedding.sparse_indices) == sorted(set(embedding.sparse_indices))
    assert "conif" in found.data[0].sparse_tokens and "the" not in found.data[0].sparse_tokens
    asked = client.inference.embed(MODEL, ["Which conifers?"], {"input_type": "query"}).data[0]
    assert asked.sparse_tokens is None
    at = list(found.data[0].sparse_tokens).index("conif")
    assert list(asked.sparse_indices) == [found.data[0].sparse_indices[at]]


def test_limits_and_errors(client: Any, url: str) -> None:
    cut = {"input_type": "passage", "max_tokens_per_sequence": 2, "return_tokens": True}
    found = client.inference.embed(MODEL, ["one two three four"], cut)
    assert (sorted(found.data[0].sparse_tokens), found.usage.total_tokens) == (["one", "two"], 2)
    long = " ".join(f"word{n}" for n in range(600))
    assert len(client.inference.embed(MODEL, [long], {"input_type": "passage"}).data[0].sparse_values) == 512
    most = {"input_type": "passage", "max_tokens_per_sequence": 2048}
    assert len(client.inference.embed(MODEL, [long], most).data[0].sparse_values) == 600
    (empty,) = client.inference.embed(MODEL, ["!!!"], {"input_type": "passage"}).data
    assert (list(empty.sparse_values), list(empty.sparse_indices)) == ([], [])

    def refused(inputs: list[str], **parameters: object) -> str:
        with pytest.raises(ApiError) as caught:
            client.inference.embed(MODEL, inputs, parameters)
        assert caught.value.status_code == 400
        return str(caught.value)

    assert "has 513 tokens, more than the 512" in refused(["a", long], input_type="query", truncate="NONE")
    assert "is required by model" in refused(["a"])
    assert "parameters.max_tokens_per_sequence" in refused(["a"], input_type="query", max_tokens_per_sequence=2049)
    assert "parameters.dimension" in refused(["a"], input_type="query", dimension=384)


def test_an_index_that_embeds_and_searches_by_text(client: Any, url: str) -> None:
    client.create_index_for_model(
        name="words", cloud="aws", region="us-east-1", embed={"model": MODEL, "field_map": {"text": "body"}}
    )
    described = httpx.get(
        url + "/indexes/words", headers={"Api-Key": "any", "X-Pinecone-Api-Version": "2025-10"}
    ).json()
    assert (described["vector_type"], described["metric"], described["embed"]["model"]) == (
        "sparse",
        "dotproduct",
        MODEL,
    )
    assert "dimension" not in described
    with contextlib.closing(client.Index(name="words")) as index:
        records = [{"_id": id, "body": body, "size": len(body)} for id, body in TREES.items()]
        index.upsert_records(namespace="trees", records=records)

        def found(text: str, **more: object) -> list[str]:
            answer = index.search(namespace="trees", query={"inputs": {"text": text}, "top_k": 10, **more})
            assert all(hit.score > 0 for hit in answer.result.hits)
            return [hit.id for hit in answer.result.hits]

        # Shorter, and so first.
        assert found("conifer") == ["oak", "pine"]
        assert found("the needles of a PINE") == ["pine", "ship"]
        assert found("bakers of bread") == ["yeast"]
        assert found("pine", filter={"size": {"$lt": 60}}) == ["ship"]
        assert found("nothing about zyzzyvas") == []
        assert found("of the and !!!") == []
        # By hand, what the index does itself: the dot product of the two embeddings is the score.
        asked = client.inference.embed(MODEL, ["conifer acorns"], {"input_type": "query"}).data[0]
        score = np.dot(asked.sparse_values, weights(client, asked.sparse_indices))
        answer = index.search(namespace="trees", query={"inputs": {"text": "conifer acorns"}, "top_k": 1})
        (hit,) = answer.result.hits
        assert hit.id == "oak"
        assert hit.score == pytest.approx(score, rel=1e-5)
        with pytest.raises(ApiError, match="holds no word that can be searched for"):
            index.upsert_records(namespace="trees", records=[{"_id": "x", "body": "... of the ..."}])
        assert index.describe_index_stats().total_vector_count == len(TREES)


def test_hybrid_search_in_one_index(client: Any) -> None:
    """Dense and sparse vectors of the bundled models together: the score is the sum of both dot products."""
    client.create_index(
        name="both",
        dimension=384,
        metric="dotproduct",
        spec=pinecone.ServerlessSpec(cloud="aws", region="us-east-1"),
    )
    texts = list(TREES.values())

    def embedded(texts: list[str], kind: str) -> list[tuple[list[float], Any]]:
        dense = client.inference.embed("all-minilm-l6-v2", texts, {"input_type": kind}).data
        sparse = client.inference.embed(MODEL, texts, {"input_type": kind}).data
        return [
            (list(d.values), {"indices": list(s.sparse_indices), "values": list(s.sparse_values)})
            for d, s in zip(dense, sparse, strict=True)
        ]

    with contextlib.closing(client.Index(name="both")) as index:
        made = zip(TREES, embedded(texts, "passage"), strict=True)
        index.upsert(vectors=[{"id": id, "values": values, "sparse_values": sparse} for id, (values, sparse) in made])
        ((values, sparse),) = embedded(["acorns of an oak"], "query")
        found = index.query(vector=values, sparse_vector=sparse, top_k=4)
        assert found.matches[0].id == "oak"
        dense_only = index.query(vector=values, top_k=4)
        gained = {m.id: m.score for m in found.matches}["oak"] - {m.id: m.score for m in dense_only.matches}["oak"]
        assert gained == pytest.approx(np.dot(sparse["values"], weights(client, sparse["indices"])), rel=1e-4)


def weights(client: Any, indices: list[int]) -> list[float]:
    """What the passage "oak" has at these indices."""
    (passage,) = client.inference.embed(MODEL, [TREES["oak"]], {"input_type": "passage"}).data
    theirs = dict(zip(passage.sparse_indices, passage.sparse_values, strict=True))
    return [theirs.get(index, 0.0) for index in indices]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/openai/v1/embeddings", 400, {"input": "a"}),
        ("/v1/embeddings", 400, {"input": "a"}),
        ("/perplexity/v1/embeddings", 422, {"input": "a"}),
        ("/api/v3/inference/embeddings", 422, {"input": "a"}),
    ],
)
def test_vendors_of_dense_vectors_refuse_it(url: str, path: str, status: int, body: dict[str, str]) -> None:
    answer = httpx.post(url + path, json={"model": MODEL, **body}, headers={"Authorization": "Bearer any"})
    assert answer.status_code == status
    assert "must be a model of dense vectors; 'bm25-english' gives sparse vectors" in answer.text


def test_listings(client: Any, url: str) -> None:
    assert MODEL in client.inference.list_models(vector_type="sparse").names()
    info = client.inference.get_model(model=MODEL)
    assert (info.vector_type, info.max_sequence_length, info.default_dimension) == ("sparse", 512, None)
    assert "not on this machine" not in info.short_description
    dense = httpx.get(url + "/v1/models", headers={"Authorization": "Bearer any"}).json()["data"]
    assert MODEL not in [model["id"] for model in dense]
