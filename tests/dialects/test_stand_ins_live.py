"""`--stand-ins` on a real process: vendors' own models, asked for by their own clients, with none of their weights."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pinecone
import pytest
from perplexity import Perplexity

from tests.faults.test_process import Process

LOCAL = "all-minilm-l6-v2"
HEADER = "x-pinyon-stand-in"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    made = Process(
        tmp_path_factory.mktemp("data"),
        # An explicit one wins over the bundled one.
        stand_ins={"cohere-rerank-3.5": "all-minilm-l6-v2-rerank"},
        all_stand_ins=True,
        aliases={"mine": "llama-text-embed-v2"},
        preload=["llama-text-embed-v2"],
        index_hosts="path",
    )
    try:
        made.wait_ready()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def http(process: Process) -> Iterator[httpx.Client]:
    headers = {"Api-Key": "any", "Authorization": "Bearer any"}
    with httpx.Client(base_url=f"http://127.0.0.1:{process.port}", headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def client(http: httpx.Client) -> Iterator[Any]:
    retries = pinecone.RetryConfig(max_retries=0)
    with pinecone.Pinecone(api_key="any", host=str(http.base_url).rstrip("/"), retry_config=retries) as client:
        yield client


def test_the_log_says_what_stands_in(process: Process) -> None:
    assert f"model=text-embedding-3-small local={LOCAL}" in process.line("stand-in: .*text-embedding-3-small")
    assert "warning" in process.line("stand-in: .*pinecone-sparse-english-v0 local=bm25-english")
    # It is loaded once, and under its own name.
    assert f"model={LOCAL} " in process.line(" model ready ")


def embed_body(model: str, text: str = "a", **parameters: object) -> dict[str, object]:
    return {"model": model, "inputs": [{"text": text}], "parameters": {"input_type": "query", **parameters}}


@pytest.mark.parametrize(
    ("path", "body", "local"),
    [
        ("/embed", embed_body("llama-text-embed-v2"), LOCAL),
        ("/embed", embed_body("mine"), LOCAL),
        ("/embed", embed_body("pinecone-sparse-english-v0"), "bm25-english"),
        ("/rerank", {"model": "bge-reranker-v2-m3", "query": "a", "documents": [{"text": "b"}]}, LOCAL + "-rerank"),
        ("/rerank", {"model": "cohere-rerank-3.5", "query": "a", "documents": [{"text": "b"}]}, LOCAL + "-rerank"),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "a"}, LOCAL),
        ("/v1/embeddings", {"model": "pplx-embed-v1-4b", "input": "a"}, LOCAL),
        ("/perplexity/v1/embeddings", {"model": "pplx-embed-v1-0.6b", "input": "a"}, LOCAL),
        ("/v1/contextualizedembeddings", {"model": "pplx-embed-context-v1-4b", "input": [["a", "b"], ["c"]]}, LOCAL),
        ("/api/v3/inference/embeddings", {"model": "nugen-flash-embed", "input": "a"}, LOCAL),
        # What is here stands in for nobody.
        ("/embed", embed_body(LOCAL), None),
        ("/v1/embeddings", {"model": LOCAL, "input": "a"}, None),
        ("/rerank", {"model": LOCAL + "-rerank", "query": "a", "documents": [{"text": "b"}]}, None),
    ],
)
def test_every_answer_says_so(http: httpx.Client, path: str, body: dict[str, object], local: str | None) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers.get(HEADER) == local
    assert answer.json()["model"] == body["model"]


def test_errors_say_so_too(http: httpx.Client) -> None:
    answer = http.post("/embed", json=embed_body("llama-text-embed-v2", dimension=7))
    assert (answer.status_code, answer.headers[HEADER]) == (400, LOCAL)
    answer = http.post("/v1/embeddings", json={"model": "text-embedding-ada-002", "input": [[1, 2]]})
    assert (answer.status_code, answer.headers[HEADER]) == (400, LOCAL)
    assert "does not know the vendor's tokens" in answer.text
    assert HEADER not in http.get("/models").headers
    assert HEADER not in http.get("/nothing").headers


def test_pinecones_client(client: Any) -> None:
    info = client.inference.get_model(model="llama-text-embed-v2")
    assert f"Here {LOCAL} stands in for it" in info.short_description
    assert (info.default_dimension, info.max_sequence_length) == (1024, 2048)
    assert "stands in" not in client.inference.get_model(model=LOCAL).short_description
    texts = ["Pines are conifers.", "word " * 1500]
    wanted = {"input_type": "passage", "truncate": "NONE", "dimension": 2048}
    found = client.inference.embed("llama-text-embed-v2", texts, wanted)
    assert [len(embedding.values) for embedding in found.data] == [2048, 2048]
    assert np.linalg.norm(found.data[0].values) == pytest.approx(1, abs=1e-5)
    assert found.usage.total_tokens > 1500  # as the vendor would count, though fewer are read
    with pytest.raises(pinecone.errors.ApiError, match="more than the 2048"):  # type: ignore[attr-defined]
        client.inference.embed("llama-text-embed-v2", ["word " * 2500], wanted)


def test_an_index_with_a_vendors_models(client: Any, http: httpx.Client) -> None:
    """Embedded by one stand-in and reranked by another."""
    embed = {"model": "multilingual-e5-large", "field_map": {"text": "body"}}
    client.create_index_for_model(name="notes", cloud="aws", region="us-east-1", embed=embed)
    with contextlib.closing(client.Index(name="notes")) as index:
        bodies = {"a": "Pines are conifers.", "b": "Bread needs yeast."}
        index.upsert_records(namespace="n", records=[{"_id": id, "body": body} for id, body in bodies.items()])
        query = {"inputs": {"text": "Which trees bear cones?"}, "top_k": 2}
        rerank = {"model": "bge-reranker-v2-m3", "rank_fields": ["body"], "top_n": 1}
        found = index.search(namespace="n", query=query, rerank=rerank)
        assert [hit.id for hit in found.result.hits] == ["a"]
    path = "/i/notes/records/namespaces/n"
    answer = http.post(path + "/search", json={"query": query, "rerank": rerank})
    assert set(answer.headers[HEADER].split(", ")) == {LOCAL, LOCAL + "-rerank"}
    by_id = {"query": {"id": "a", "top_k": 2}, "rerank": {**rerank, "query": "bread"}}
    answer = http.post(path + "/search", json=by_id)
    assert (answer.status_code, answer.headers[HEADER]) == (200, LOCAL + "-rerank")
    answer = http.post(path + "/upsert", content=b'{"_id": "c", "body": "An oak drops acorns."}')
    assert (answer.status_code, answer.headers[HEADER]) == (201, LOCAL)
    assert HEADER not in http.get("/i/notes/describe_index_stats").headers


def test_openais_client(http: httpx.Client) -> None:
    client = openai.OpenAI(api_key="any", base_url=f"{http.base_url}/v1", max_retries=0)
    raw = client.embeddings.with_raw_response.create(model="text-embedding-3-large", input=["a cat", "a dog"])
    assert raw.headers[HEADER] == LOCAL
    data = raw.parse().data
    assert [len(item.embedding) for item in data] == [3072, 3072]
    near = client.embeddings.create(model="text-embedding-3-large", input="kitten", dimensions=256).data[0].embedding
    assert len(near) == 256
    scores = [np.dot(near, item.embedding[:256]) for item in data]
    assert scores[0] > scores[1]
    names = [model.id for model in client.models.list()]
    assert {"text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"} <= set(names)
    with pytest.raises(openai.BadRequestError, match="does not support specifying dimensions"):
        client.embeddings.create(model="text-embedding-ada-002", input="a", dimensions=8)
    client.close()


def test_perplexitys_client(http: httpx.Client) -> None:
    client = Perplexity(api_key="any", base_url=str(http.base_url), max_retries=0)
    answer = client.embeddings.create(model="pplx-embed-v1-0.6b", input=["a cat", "a dog"])
    assert answer.data is not None
    vectors = [np.frombuffer(base64.b64decode(item.embedding or ""), np.int8) for item in answer.data]
    assert [len(vector) for vector in vectors] == [1024, 1024]
    assert not vectors[0][384:].any() and vectors[0][:384].any()
    client.close()
