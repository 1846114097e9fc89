"""Pinecone's inference plane over a live server: what is answered, and how bad input is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from pinyon.app import asgi, dialects
from pinyon.errors import Overloaded, Unavailable
from pinyon.http.metrics import Metrics
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue, fake_vector
from tests.conftest import FakeServer, running
from tests.dialects.pinecone.pinecone_bad_bodies import BAD_BODIES, EMBED, RERANK

StartServer = Callable[..., FakeServer]

VERSIONS = ("2025-04", "2025-10", "2026-04", "2026-07")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """One server for the whole file: what a bad request breaks in it, every later test would see."""
    aliases = {"mine": "all-minilm-l6-v2", "my/ranker": "all-minilm-l6-v2-rerank"}
    engine, metrics = FakeEngine(), Metrics()
    service = InferenceService(fake_catalogue(tmp_path_factory.mktemp("models"), **aliases), engine)
    app = asgi(dialects(service), keys=(), metrics=metrics, max_body_bytes=1 << 20, is_ready=lambda: True)
    with running(app) as url:
        yield FakeServer(url, engine, metrics)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture(autouse=True)
def calm(server: FakeServer) -> None:
    server.engine.calls.clear()
    server.engine.error = None


def refused(response: httpx.Response, status: int, code: str) -> str:
    """The message of an ErrorResponse, after checking that it is one, whole."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-pinecone-request-id"] == response.headers["x-request-id"]
    body = response.json()
    assert body.keys() == {"error", "status"}
    assert body["status"] == status
    assert body["error"].keys() == {"code", "message"}
    assert body["error"]["code"] == code
    message: str = body["error"]["message"]
    return message


def check_still_works(http: httpx.Client, server: FakeServer) -> None:
    response = http.post(server.url + "/embed", json=EMBED)
    assert response.status_code == 200
    assert response.json()["usage"] == {"total_tokens": 2}


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/pinecone"])
@pytest.mark.parametrize("version", [None, "2025-01", *VERSIONS])
def test_embed(http: httpx.Client, server: FakeServer, version: str | None, prefix: str) -> None:
    body = {
        "model": "all-minilm-l6-v2",
        "inputs": [{"text": "one"}, {"text": "two words"}],
        "parameters": {"input_type": "passage", "truncate": "END", "dimension": 384},
    }
    headers = {} if version is None else {"X-Pinecone-Api-Version": version}
    response = http.post(server.url + prefix + "/embed", json=body, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-pinecone-request-id"] == response.headers["x-request-id"]
    answer = response.json()
    values = [item.pop("values") for item in answer["data"]]
    assert answer == {
        "model": "all-minilm-l6-v2",
        "vector_type": "dense",
        "data": [{"vector_type": "dense"}, {"vector_type": "dense"}],
        "usage": {"total_tokens": 3},
    }
    expected = np.stack([fake_vector("one", 384), fake_vector("two words", 384)])
    assert np.array_equal(np.array(values, dtype=np.float32), expected)
    assert server.engine.calls[-1].input_type == "passage"


@pytest.mark.parametrize("version", VERSIONS)
def test_rerank(http: httpx.Client, server: FakeServer, version: str) -> None:
    documents = [{"text": f"document {n}", "id": n, "nested": {"deep": [1.5, None, "é"]}} for n in range(5)]
    body = {"model": "my/ranker", "query": "document 3", "documents": documents, "top_n": 2}
    response = http.post(server.url + "/rerank", json=body, headers={"X-Pinecone-Api-Version": version})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"model", "data", "usage"}
    assert answer["model"] == "my/ranker"
    assert answer["usage"] == {"rerank_units": 1}
    assert len(answer["data"]) == 2
    best = answer["data"][0]
    assert best == {"index": 3, "score": pytest.approx(1.0), "document": documents[3]}
    assert 0 <= answer["data"][1]["score"] <= best["score"] <= 1


def test_rerank_without_documents_and_with_a_large_top_n(http: httpx.Client, server: FakeServer) -> None:
    response = http.post(server.url + "/rerank", json=RERANK | {"return_documents": False, "top_n": 10**30})
    assert response.status_code == 200
    assert [item.keys() for item in response.json()["data"]] == [{"index", "score"}, {"index", "score"}]


@pytest.mark.parametrize("version", VERSIONS)
def test_models(http: httpx.Client, server: FakeServer, version: str) -> None:
    def names(query: str) -> set[str]:
        response = http.get(server.url + "/models" + query, headers={"X-Pinecone-Api-Version": version})
        assert response.status_code == 200
        return {info["model"] for info in response.json()["models"]}

    dense = {
        "all-minilm-l6-v2",
        "mine",
        "llama-text-embed-v2",
        "multilingual-e5-large",
        "pplx-embed-v1-0.6b",
        "pplx-embed-v1-4b",
        "pplx-embed-context-v1-0.6b",
        "pplx-embed-context-v1-4b",
        "nugen-flash-embed",
        "text-embedding-3-small",
        "text-embedding-3-large",
        "text-embedding-ada-002",
    }
    sparse = {"bm25-english", "pinecone-sparse-english-v0"}
    rerank = {"all-minilm-l6-v2-rerank", "my/ranker", "bge-reranker-v2-m3", "pinecone-rerank-v0", "cohere-rerank-3.5"}
    assert names("") == dense | sparse | rerank
    assert names("?type=embed") == dense | sparse
    assert names("?type=rerank") == rerank
    assert names("?vector_type=dense") == names("?type=embed&vector_type=dense") == dense
    assert names("?type=embed&vector_type=sparse") == sparse
    assert names("?type=rerank&vector_type=dense") == set()


def test_an_alias_hides_the_model_of_its_name(fake_server: StartServer, http: httpx.Client) -> None:
    server = fake_server(
        aliases={"bge-reranker-v2-m3": "all-minilm-l6-v2-rerank", "nugen-flash-embed": "pplx-embed-v1-4b"}
    )
    listed = {info["model"]: info for info in http.get(server.url + "/models").json()["models"]}
    for name, metrics in (("bge-reranker-v2-m3", None), ("nugen-flash-embed", ["cosine"])):
        assert http.get(f"{server.url}/models/{name}").json() == listed[name]
        assert listed[name].get("supported_metrics") == metrics
    assert listed["bge-reranker-v2-m3"]["max_sequence_length"] == 256
    assert "pinyon models pull pplx-embed-v1-4b" in listed["nugen-flash-embed"]["short_description"]


@pytest.mark.parametrize("path", ["/models/mine", "/models/m%69ne", "/pinecone/models/mine"])
def test_get_model_by_alias(http: httpx.Client, server: FakeServer, path: str) -> None:
    info = http.get(server.url + path).json()
    original = http.get(server.url + "/models/all-minilm-l6-v2").json()
    assert info == original | {"model": "mine"}


@pytest.mark.parametrize("path", ["/models/my/ranker", "/models/my%2Franker"])
def test_get_model_with_a_slash_in_its_name(http: httpx.Client, server: FakeServer, path: str) -> None:
    response = http.get(server.url + path)
    assert response.status_code == 200
    assert response.json()["model"] == "my/ranker"
    assert "vector_type" not in response.json()


def test_usage_is_recorded(http: httpx.Client, server: FakeServer) -> None:
    check_still_works(http, server)
    assert http.post(server.url + "/rerank", json=RERANK).status_code == 200
    numbers = server.metrics.render().decode()
    assert 'dialect="pinecone"' in numbers and 'verb="rerank"' in numbers


# --- bad bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "body", "message"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_body(http: httpx.Client, server: FakeServer, verb: str, body: bytes, message: str) -> None:
    response = http.post(f"{server.url}/{verb}", content=body)
    assert refused(response, 400, "INVALID_ARGUMENT").startswith(message)
    assert all(call.truncate == "NONE" for call in server.engine.calls)  # only too long a text reached the engine
    check_still_works(http, server)


def test_a_long_field_name_is_cut(http: httpx.Client, server: FakeServer) -> None:
    response = http.post(server.url + "/embed", json=EMBED | {"n" * 100_000: 1})
    assert len(refused(response, 400, "INVALID_ARGUMENT")) < 300


def test_body_past_the_limit(http: httpx.Client, fake_server: StartServer) -> None:
    server = fake_server(max_body_bytes=1000)
    response = http.post(server.url + "/embed", json=EMBED | {"inputs": [{"text": "a" * 1000}]})
    message = refused(response, 413, "INVALID_ARGUMENT")
    assert message == "The request body is larger than the limit of 1000 bytes"
    check_still_works(http, server)


def test_compressed_body(http: httpx.Client, server: FakeServer) -> None:
    body = zlib.compress(json.dumps(EMBED).encode())
    response = http.post(server.url + "/embed", content=body, headers={"Content-Encoding": "deflate"})
    assert "Content-Encoding" in refused(response, 400, "INVALID_ARGUMENT")
    check_still_works(http, server)


# --- models, paths, methods, versions, keys ------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["no-such-model", "", "a" * 1000, "é\n"])
@pytest.mark.parametrize(("verb", "body"), [("embed", EMBED), ("rerank", RERANK)])
def test_unknown_model(http: httpx.Client, server: FakeServer, verb: str, body: dict[str, Any], model: str) -> None:
    # Before anything else that is wrong with the request.
    response = http.post(f"{server.url}/{verb}", json=body | {"model": model, "parameters": {"x": 1}})
    assert refused(response, 404, "NOT_FOUND").startswith(f"Model {model!r} not found")
    check_still_works(http, server)


def test_unknown_model_described(http: httpx.Client, server: FakeServer) -> None:
    response = http.get(server.url + "/models/no-such-model")
    assert refused(response, 404, "NOT_FOUND").startswith("Model 'no-such-model' not found")


@pytest.mark.parametrize("model", ["llama-text-embed-v2", "multilingual-e5-large"])
def test_weights_that_are_not_here(http: httpx.Client, server: FakeServer, model: str) -> None:
    body = EMBED | {"model": model, "parameters": {"input_type": "query"}}
    message = refused(http.post(server.url + "/embed", json=body), 404, "NOT_FOUND")
    assert f"pinyon models pull {model}" in message
    check_still_works(http, server)


def test_rerank_weights_that_are_not_here(http: httpx.Client, server: FakeServer) -> None:
    response = http.post(server.url + "/rerank", json=RERANK | {"model": "bge-reranker-v2-m3"})
    assert "pinyon models pull bge-reranker-v2-m3" in refused(response, 404, "NOT_FOUND")


def test_weights_that_are_not_public(http: httpx.Client, server: FakeServer) -> None:
    body = EMBED | {"model": "pinecone-sparse-english-v0", "parameters": {"input_type": "query"}}
    assert "no public weights" in refused(http.post(server.url + "/embed", json=body), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?type=embedding", "Invalid value for 'type': must be 'embed' or 'rerank'"),
        ("?type=", "Invalid value for 'type': must be 'embed' or 'rerank'"),
        ("?vector_type=both", "Invalid value for 'vector_type': must be 'dense' or 'sparse'"),
        ("?type=embed&vectortype=dense", "Invalid value for 'vectortype': is not a known query parameter"),
    ],
)
def test_unknown_filter(http: httpx.Client, server: FakeServer, query: str, message: str) -> None:
    response = http.get(server.url + "/models" + query)
    assert refused(response, 400, "INVALID_ARGUMENT").startswith(message)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/embed", "POST"),
        ("PUT", "/embed", "POST"),
        ("DELETE", "/pinecone/rerank", "POST"),
        ("POST", "/models", "GET"),
        ("PATCH", "/models/all-minilm-l6-v2", "GET"),
    ],
)
def test_wrong_method(http: httpx.Client, server: FakeServer, method: str, path: str, allowed: str) -> None:
    response = http.request(method, server.url + path)
    assert refused(response, 405, "UNIMPLEMENTED") == f"Method {method} is not allowed here, use {allowed}"
    assert response.headers["allow"] == allowed
    check_still_works(http, server)


@pytest.mark.parametrize("path", ["/", "/embeds", "/embed/", "/embed/x", "/pinecone", "/pinecone/nothing", "/indexes"])
def test_wrong_path(http: httpx.Client, server: FakeServer, path: str) -> None:
    assert path in refused(http.post(server.url + path, json=EMBED), 404, "NOT_FOUND")
    check_still_works(http, server)


@pytest.mark.parametrize(("method", "path"), [("POST", "/embed"), ("POST", "/rerank"), ("GET", "/models")])
def test_a_version_that_is_none(http: httpx.Client, server: FakeServer, method: str, path: str) -> None:
    response = http.request(method, server.url + path, json=EMBED, headers={"X-Pinecone-Api-Version": "latest"})
    message = refused(response, 400, "INVALID_ARGUMENT")
    assert message == "Invalid value for 'X-Pinecone-Api-Version': must be a version such as 2026-07"


@pytest.mark.parametrize(
    "headers", [{}, {"Api-Key": "wrong"}, {"Api-Key": ""}, {"Api-Key": "secretx"}, {"Authorization": "Bearer secret"}]
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/embed"), ("GET", "/models"), ("GET", "/nowhere")])
def test_key(http: httpx.Client, fake_server: StartServer, headers: dict[str, str], method: str, path: str) -> None:
    server = fake_server(keys=("secret",))
    response = http.request(method, server.url + path, headers=headers)
    assert refused(response, 401, "UNAUTHENTICATED").startswith("Invalid API key")
    good = http.post(server.url + "/embed", json=EMBED, headers={"api-key": "secret"})
    assert good.status_code == 200


# --- trouble behind the wire ---------------------------------------------------------------------------------------


def test_overloaded(http: httpx.Client, server: FakeServer) -> None:
    server.engine.error = Overloaded("The queue is full", retry_after=2.1)
    response = http.post(server.url + "/embed", json=EMBED)
    assert refused(response, 429, "RESOURCE_EXHAUSTED") == "The queue is full"
    assert response.headers["retry-after"] == "3"


def test_unavailable(http: httpx.Client, server: FakeServer) -> None:
    server.engine.error = Unavailable("The server is shutting down")
    response = http.post(server.url + "/rerank", json=RERANK)
    assert refused(response, 503, "UNAVAILABLE") == "The server is shutting down"


def test_a_bug_shows_nothing(http: httpx.Client, server: FakeServer) -> None:
    server.engine.error = RuntimeError("a secret of the inside")
    response = http.post(server.url + "/embed", json=EMBED)
    assert refused(response, 500, "UNKNOWN") == "Internal server error"
    server.engine.error = None
    check_still_works(http, server)
