"""A live server spoken to by plain HTTP, as Nugen's own examples do: right requests, and every kind of bad input."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from pinyon.errors import Overloaded, Unavailable
from pinyon.testing import fake_vector

MODEL = "all-minilm-l6-v2"
HERE = f"'{MODEL}', '{MODEL}-rerank', 'bm25-english'"
PATH = "/api/v3/inference/embeddings"


def body(**fields: object) -> bytes:
    return orjson.dumps({"model": MODEL, "input": "a text"} | fields)


def invalid(kind: str, message: str, *loc: str | int) -> tuple[int, dict[str, Any]]:
    return 422, {"detail": [{"loc": ["body", *loc], "msg": message, "type": kind}]}


def failed(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"detail": message}


TOO_SHORT = "String should have at least 1 character"

# name -> body, and the answer in full
BAD_BODIES: dict[str, tuple[bytes, tuple[int, dict[str, Any]]]] = {
    "empty list": (
        body(input=[]),
        invalid("too_short", "List should have at least 1 item after validation, not 0", "input"),
    ),
    "empty string": (body(input=""), invalid("string_too_short", TOO_SHORT, "input")),
    "empty string in a list": (body(input=["a", ""]), invalid("string_too_short", TOO_SHORT, "input", 1)),
    "input is an object": (
        body(input={"text": "a"}),
        invalid("string_type", "Input should be a valid string or a valid list", "input"),
    ),
    "number in a list": (body(input=["a", 1]), invalid("string_type", "Input should be a valid string", "input", 1)),
    "list in a list": (body(input=[["a"]]), invalid("string_type", "Input should be a valid string", "input", 0)),
    "no input": (orjson.dumps({"model": MODEL}), invalid("missing", "Field required", "input")),
    "no model": (orjson.dumps({"input": "a"}), invalid("missing", "Field required", "model")),
    "model is a list": (body(model=[MODEL]), invalid("string_type", "Input should be a valid string", "model")),
    "unknown parameter": (
        body(encoding_format="float"),
        invalid("extra_forbidden", "Extra inputs are not permitted", "encoding_format"),
    ),
    "dimensions is a string": (
        body(dimensions="384"),
        invalid("int_type", "Input should be a valid integer", "dimensions"),
    ),
    "dimensions is null": (
        body(dimensions=None),
        invalid("int_type", "Input should be a valid integer", "dimensions"),
    ),
    "dimensions is zero": (
        body(dimensions=0),
        invalid("greater_than_equal", "Input should be greater than or equal to 1", "dimensions"),
    ),
    "dimensions of a model that cannot be cut": (
        body(dimensions=128),
        invalid("value_error", f"Value error, must be one of 384 for model '{MODEL}'", "dimensions"),
    ),
    "unknown model": (
        body(model="nothing"),
        failed(404, f"Model 'nothing' not found. Models on this machine: {HERE}"),
    ),
    "model whose weights are not here": (
        body(model="multilingual-e5-large"),
        failed(
            404,
            "Model 'multilingual-e5-large' is known, but its weights are not on this machine. "
            "Get them with: pinyon models pull multilingual-e5-large",
        ),
    ),
    "reranking model": (
        body(model=f"{MODEL}-rerank"),
        invalid(
            "value_error",
            f"Value error, must be an embedding model; '{MODEL}-rerank' is a reranking model",
            "model",
        ),
    ),
    "too many inputs": (
        body(input=["a"] * 2049),
        invalid("too_long", "List should have at most 2048 items after validation", "input"),
    ),
    "too long": (
        body(input=["a", "word " * 257]),
        invalid("value_error", "Value error, has 257 tokens, more than the 256 that the model takes", "input", 1),
    ),
    "NUL": (
        body(input="b\0c"),
        invalid("value_error", "Value error, must not contain the NUL character", "input"),
    ),
    "lone surrogate": (
        b'{"model": "%s", "input": ["a", "\\udfff"]}' % MODEL.encode(),
        invalid("string_unicode", "Input should be a valid string, it is not valid Unicode", "input", 1),
    ),
    "bytes that are not UTF-8": (
        b'{"model": "%s", "input": "\xff"}' % MODEL.encode(),
        invalid("string_unicode", "Input should be a valid string, it is not valid Unicode", "input"),
    ),
    "body is a string": (
        b'"a"',
        invalid("model_attributes_type", "Input should be a valid dictionary or object to extract fields from"),
    ),
    "half a body": (
        body()[:-1],
        invalid("json_invalid", "The request body is not valid JSON: Input data was truncated"),
    ),
}


@pytest.mark.parametrize("prefix", ["", "/nugen"])
def test_bad_bodies(fake_server: Callable[..., Any], prefix: str) -> None:
    server = fake_server()
    with httpx.Client(base_url=server.url + prefix) as client:
        answers = {}
        for name, (content, _) in BAD_BODIES.items():
            response = client.post(PATH, content=content)
            answers[name] = response.status_code, response.json()
            assert response.headers["x-request-id"]
        assert answers == {name: expected for name, (_, expected) in BAD_BODIES.items()}
        # Nothing else is disturbed.
        assert client.post(PATH, content=body()).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/nugen"])
def test_bad_requests_around_the_body(fake_server: Callable[..., Any], prefix: str) -> None:
    server = fake_server(keys=("secret",), max_body_bytes=1000)
    with httpx.Client(base_url=server.url + prefix, headers={"authorization": "Bearer secret"}) as client:
        response = client.post(PATH, content=body(input="a" * 1000))
        assert (response.status_code, response.json()) == failed(
            413, "The request body is larger than the limit of 1000 bytes"
        )
        response = client.get(PATH)
        assert (response.status_code, response.json()) == failed(405, "Method GET is not allowed here, use POST")
        assert response.headers["allow"] == "POST"
        response = client.post("/api/v3/inference/completions", content=body())
        assert (response.status_code, response.json()) == failed(
            404, f"There is nothing at '{prefix}/api/v3/inference/completions'"
        )
        for headers, message in (
            ({}, "No API key was given"),
            ({"authorization": "Bearer wrong"}, "Invalid API key"),
        ):
            bare = httpx.post(server.url + prefix + PATH, content=body(), headers=headers)
            assert (bare.status_code, bare.json()) == failed(401, message)
        assert server.engine.calls == []
        assert client.post(PATH, content=body()).status_code == 200


def test_trouble_of_the_server(fake_server: Callable[..., Any]) -> None:
    server = fake_server()
    server.engine.error = Overloaded("The queue is full, try again later", 1.5)
    response = httpx.post(server.url + PATH, content=body())
    assert (response.status_code, response.json()) == failed(429, "The queue is full, try again later")
    assert response.headers["retry-after"] == "2"
    server.engine.error = Unavailable("The server is shutting down")
    response = httpx.post(server.url + PATH, content=body())
    assert (response.status_code, response.json()) == failed(503, "The server is shutting down")
    server.engine.error = RuntimeError("a secret of the engine")
    response = httpx.post(server.url + PATH, content=body())
    assert (response.status_code, response.json()) == failed(500, "Internal Server Error")


@pytest.mark.parametrize("prefix", ["", "/nugen"])
def test_answer_on_the_wire(fake_server: Callable[..., Any], prefix: str) -> None:
    server = fake_server(keys=("secret",))
    before = time.time()
    response = httpx.post(
        server.url + prefix + PATH,
        content=body(input=["a b", "c"], dimensions=384),
        headers={"authorization": "Bearer secret"},
    )
    answer = response.json()
    assert re.fullmatch(r"embed-[0-9a-f]{24}", answer.pop("id"))
    created = answer.pop("created")
    assert isinstance(created, float) and before <= created <= time.time()
    vectors = np.array([item.pop("embedding") for item in answer["data"]], dtype=np.float32)  # [2, 384]
    assert answer == {
        "object": "embedding",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "model": MODEL,
        "usage": {"total_tokens": 3},
    }
    np.testing.assert_array_equal(vectors, [fake_vector("a b", 384), fake_vector("c", 384)])
    numbers = server.metrics.render().decode()
    assert 'pinyon_tokens_total{dialect="nugen",model="all-minilm-l6-v2",verb="embed"} 3.0' in numbers


def test_one_text(fake_server: Callable[..., Any]) -> None:
    server = fake_server(aliases={"text-embedding-xyz": MODEL})
    answer = httpx.post(server.url + PATH, content=body(model="text-embedding-xyz")).json()
    assert answer["model"] == "text-embedding-xyz"
    assert [item["index"] for item in answer["data"]] == [0]
    assert server.engine.calls[0].inputs == ["a text"]
