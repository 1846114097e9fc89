"""A live server spoken to as Perplexity's clients do: by plain HTTP, with every kind of bad input, and by the SDK."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import perplexity
import pytest

from pinyon.errors import Overloaded, Unavailable
from pinyon.testing import fake_vector

# Any: the SDK's types know Perplexity's own two names only.
MODEL: Any = "all-minilm-l6-v2"
HERE = f"'{MODEL}', '{MODEL}-rerank', 'bm25-english'"
PPLX: Any = "pplx-embed-v1-0.6b"


def body(**fields: object) -> bytes:
    return orjson.dumps({"model": MODEL, "input": "a text"} | fields)


def invalid(kind: str, message: str, *loc: str | int) -> tuple[int, dict[str, Any]]:
    return 422, {"detail": [{"loc": ["body", *loc], "msg": message, "type": kind}]}


def failed(status: int, kind: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": kind, "code": status}}


TOO_SHORT = "String should have at least 1 character"
NOT_JSON = "The request body is not valid JSON: "

# name -> body, and the answer in full
BAD_BODIES: dict[str, tuple[bytes, tuple[int, dict[str, Any]]]] = {
    "empty list": (
        body(input=[]),
        invalid("too_short", "List should have at least 1 item after validation, not 0", "input"),
    ),
    "empty string": (body(input=""), invalid("string_too_short", TOO_SHORT, "input")),
    "empty string in a list": (body(input=["a", ""]), invalid("string_too_short", TOO_SHORT, "input", 1)),
    "input is a number": (
        body(input=3),
        invalid("string_type", "Input should be a valid string or a valid list", "input"),
    ),
    "input is null": (
        body(input=None),
        invalid("string_type", "Input should be a valid string or a valid list", "input"),
    ),
    "null in a list": (body(input=["a", None]), invalid("string_type", "Input should be a valid string", "input", 1)),
    "token ids": (body(input=[1, 2]), invalid("string_type", "Input should be a valid string", "input", 0)),
    "list in a list": (body(input=[["a"]]), invalid("string_type", "Input should be a valid string", "input", 0)),
    "no input": (orjson.dumps({"model": MODEL}), invalid("missing", "Field required", "input")),
    "no model": (orjson.dumps({"input": "a"}), invalid("missing", "Field required", "model")),
    "model is null": (body(model=None), invalid("string_type", "Input should be a valid string", "model")),
    "unknown parameter": (
        body(user="me"),
        invalid("extra_forbidden", "Extra inputs are not permitted", "user"),
    ),
    "the core's name of a parameter": (
        body(inputs=["a"]),
        invalid("extra_forbidden", "Extra inputs are not permitted", "inputs"),
    ),
    "unknown encoding_format": (
        body(encoding_format="float"),
        invalid("enum", "Input should be 'base64_int8' or 'base64_binary'", "encoding_format"),
    ),
    "encoding_format is a list": (
        body(encoding_format=["base64_int8"]),
        invalid("string_type", "Input should be a valid string", "encoding_format"),
    ),
    "dimensions is a string": (
        body(dimensions="384"),
        invalid("int_type", "Input should be a valid integer", "dimensions"),
    ),
    "dimensions is a boolean": (
        body(dimensions=True),
        invalid("int_type", "Input should be a valid integer", "dimensions"),
    ),
    "dimensions below Perplexity's": (
        body(model=PPLX, dimensions=127),
        invalid("greater_than_equal", "Input should be greater than or equal to 128", "dimensions"),
    ),
    "dimensions above Perplexity's": (
        body(model=PPLX, dimensions=2561),
        invalid("less_than_equal", "Input should be less than or equal to 2560", "dimensions"),
    ),
    "dimensions above the model's": (
        body(model=PPLX, dimensions=1025),
        invalid("value_error", f"Value error, must be between 128 and 1024 for model '{PPLX}'", "dimensions"),
    ),
    "dimensions of another vendor's model": (
        body(dimensions=128),
        invalid("value_error", f"Value error, must be one of 384 for model '{MODEL}'", "dimensions"),
    ),
    "bits that do not fill bytes": (
        body(model=PPLX, dimensions=132, encoding_format="base64_binary"),
        invalid(
            "value_error",
            "Value error, must be a multiple of 8 for base64_binary, which packs 8 to a byte",
            "dimensions",
        ),
    ),
    "unknown model": (
        body(model="pplx-nothing"),
        invalid("enum", f"Model 'pplx-nothing' not found. Models on this machine: {HERE}", "model"),
    ),
    "model whose weights are not here": (
        body(model=PPLX),
        failed(
            404,
            "not_found",
            f"Model '{PPLX}' is known, but its weights are not on this machine. "
            f"Get them with: pinyon models pull {PPLX}",
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
        body(input=["a"] * 513),
        invalid("too_long", "List should have at most 512 items after validation", "input"),
    ),
    "too long": (
        body(input=["a", "word " * 257]),
        invalid("value_error", "Value error, has 257 tokens, more than the 256 that the model takes", "input", 1),
    ),
    "too long, alone": (
        body(input="word " * 257),
        invalid("value_error", "Value error, has 257 tokens, more than the 256 that the model takes", "input"),
    ),
    "too many tokens together": (
        body(input=["word " * 250] * 481),
        invalid("value_error", "Value error, must hold at most 120000 tokens together, and holds 120250", "input"),
    ),
    "NUL": (
        body(input=["a", "b\0c"]),
        invalid("value_error", "Value error, must not contain the NUL character", "input", 1),
    ),
    "lone surrogate": (
        b'{"model": "%s", "input": ["a", "\\ud800"]}' % MODEL.encode(),
        invalid("string_unicode", "Input should be a valid string, it is not valid Unicode", "input", 1),
    ),
    "bytes that are not UTF-8": (
        b'{"model": "%s", "input": "\xff"}' % MODEL.encode(),
        invalid("string_unicode", "Input should be a valid string, it is not valid Unicode", "input"),
    ),
    "body is a list": (
        b"[]",
        invalid("model_attributes_type", "Input should be a valid dictionary or object to extract fields from"),
    ),
    "no body": (b"", invalid("json_invalid", NOT_JSON + "Input data was truncated")),
    "not JSON": (
        b"{input}",
        invalid("json_invalid", NOT_JSON + "JSON is malformed: object keys must be strings (byte 1)"),
    ),
}


def test_bad_bodies(fake_server: Callable[..., Any]) -> None:
    server = fake_server(max_body_bytes=1 << 22)
    with httpx.Client(base_url=server.url + "/perplexity") as client:
        answers = {}
        for name, (content, _) in BAD_BODIES.items():
            response = client.post("/v1/embeddings", content=content)
            answers[name] = response.status_code, response.json()
            assert response.headers["x-request-id"]
        assert answers == {name: expected for name, (_, expected) in BAD_BODIES.items()}
        # Nothing else is disturbed.
        assert client.post("/v1/embeddings", content=body()).status_code == 200


def test_at_the_root_a_perplexity_model_is_perplexitys(fake_server: Callable[..., Any]) -> None:
    server = fake_server(keys=("secret",))
    headers = {"authorization": "Bearer secret"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        for name in ("unknown model", "model whose weights are not here", "dimensions below Perplexity's"):
            content, expected = BAD_BODIES[name]
            response = client.post("/v1/embeddings", content=content)
            assert (response.status_code, response.json()) == expected
        response = client.post("/v1/embeddings", content=body(model=PPLX), headers={"authorization": "Bearer wrong"})
        assert (response.status_code, response.json()) == failed(401, "invalid_api_key", "Invalid API key")
        # Any other model there is OpenAI's.
        assert "detail" not in client.post("/v1/embeddings", content=body(model="nothing")).json()


def test_bad_requests_around_the_body(fake_server: Callable[..., Any]) -> None:
    server = fake_server(keys=("secret",), max_body_bytes=1000)
    with httpx.Client(base_url=server.url + "/perplexity", headers={"authorization": "Bearer secret"}) as client:
        response = client.post("/v1/embeddings", content=body(input="a" * 1000))
        assert (response.status_code, response.json()) == failed(
            413, "request_too_large", "The request body is larger than the limit of 1000 bytes"
        )
        response = client.get("/v1/embeddings")
        assert (response.status_code, response.json()) == failed(
            405, "method_not_allowed", "Method GET is not allowed here, use POST"
        )
        assert response.headers["allow"] == "POST"
        response = client.post("/v1/embedding", content=body())
        assert (response.status_code, response.json()) == failed(
            404, "not_found", "There is nothing at '/perplexity/v1/embedding'"
        )
        for headers, message in (
            ({}, "No API key was given"),
            ({"authorization": "Bearer wrong"}, "Invalid API key"),
        ):
            bare = httpx.post(f"{server.url}/perplexity/v1/embeddings", content=body(), headers=headers)
            assert (bare.status_code, bare.json()) == failed(401, "invalid_api_key", message)
        assert server.engine.calls == []
        assert client.post("/v1/embeddings", content=body()).status_code == 200


def test_trouble_of_the_server(fake_server: Callable[..., Any]) -> None:
    server = fake_server()
    url = f"{server.url}/perplexity/v1/embeddings"
    server.engine.error = Overloaded("The queue is full, try again later", 1.5)
    response = httpx.post(url, content=body())
    assert (response.status_code, response.json()) == failed(
        429, "rate_limit_exceeded", "The queue is full, try again later"
    )
    assert response.headers["retry-after"] == "2"
    server.engine.error = Unavailable("The server is shutting down")
    response = httpx.post(url, content=body())
    assert (response.status_code, response.json()) == failed(503, "service_unavailable", "The server is shutting down")
    server.engine.error = RuntimeError("a secret of the engine")
    response = httpx.post(url, content=body())
    assert (response.status_code, response.json()) == failed(500, "internal_server_error", "Internal server error")


def test_answer_on_the_wire(fake_server: Callable[..., Any]) -> None:
    server = fake_server(prices={MODEL: 4.0})
    answer = httpx.post(f"{server.url}/perplexity/v1/embeddings", content=body(input=["a b", "c"])).json()
    rows = [np.frombuffer(base64.b64decode(item.pop("embedding")), np.int8) for item in answer["data"]]
    assert answer == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "model": MODEL,
        "usage": {
            "prompt_tokens": 3,
            "total_tokens": 3,
            "cost": {"input_cost": 1.2e-05, "total_cost": 1.2e-05, "currency": "USD"},
        },
    }
    for row, text in zip(rows, ("a b", "c"), strict=True):
        np.testing.assert_array_equal(row, np.rint(fake_vector(text, 384) * 127).astype(np.int8))
    numbers = server.metrics.render().decode()
    assert 'pinyon_tokens_total{dialect="perplexity",model="all-minilm-l6-v2",verb="embed"} 3.0' in numbers


def client_of(server: Any, path: str = "", api_key: str = "secret") -> perplexity.Perplexity:
    return perplexity.Perplexity(base_url=server.url + path, api_key=api_key, max_retries=0)


# NOTE: perplexityai 0.46 refuses any model but Perplexity's two before it sends a request. Another model is reached by
# an alias of the operator's, or by putting its name over the other one in `extra_body`.
@pytest.mark.parametrize(
    ("path", "aliases", "options", "served_as"),
    [
        ("", {PPLX: MODEL}, {}, PPLX),
        ("/perplexity", {PPLX: MODEL}, {}, PPLX),
        ("/perplexity", {}, {"extra_body": {"model": MODEL}}, MODEL),
    ],
)
def test_sdk_embeds(
    fake_server: Callable[..., Any], path: str, aliases: dict[str, str], options: dict[str, Any], served_as: str
) -> None:
    server = fake_server(keys=("secret",), prices={MODEL: 4.0}, aliases=aliases)
    with client_of(server, path) as client:
        answer = client.embeddings.create(model=PPLX, input=["one text", "another"], **options)
        assert (answer.object, answer.model) == ("list", served_as)
        assert answer.usage is not None and answer.usage.cost is not None
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)
        assert (answer.usage.cost.input_cost, answer.usage.cost.currency) == (1.2e-05, "USD")
        for index, (item, text) in enumerate(zip(answer.data or [], ("one text", "another"), strict=True)):
            assert (item.object, item.index) == ("embedding", index)
            numbers = np.frombuffer(base64.b64decode(item.embedding or ""), np.int8)
            np.testing.assert_array_equal(numbers, np.rint(fake_vector(text, 384) * 127).astype(np.int8))
        answer = client.embeddings.create(
            model=PPLX, input="one text", dimensions=384, encoding_format="base64_binary", **options
        )
        (item,) = answer.data or []
        bits = np.unpackbits(np.frombuffer(base64.b64decode(item.embedding or ""), np.uint8), bitorder="little")
        np.testing.assert_array_equal(bits, fake_vector("one text", 384) >= 0)


def test_sdk_raises_its_own_errors(fake_server: Callable[..., Any]) -> None:
    server = fake_server(keys=("secret",), aliases={PPLX: MODEL})
    with client_of(server) as client:
        with pytest.raises(perplexity.UnprocessableEntityError) as invalid_list:
            client.embeddings.create(model=PPLX, input=[])
        assert isinstance(invalid_list.value.body, dict)
        assert invalid_list.value.body["detail"][0]["loc"] == ["body", "input"]
        with pytest.raises(perplexity.NotFoundError, match="pinyon models pull pplx-embed-v1-4b"):
            client.embeddings.create(model="pplx-embed-v1-4b", input="a")
        server.engine.error = Overloaded("The queue is full", 1.0)
        with pytest.raises(perplexity.RateLimitError):
            client.embeddings.create(model=PPLX, input="a")
        server.engine.error = RuntimeError("a bug")
        with pytest.raises(perplexity.InternalServerError):
            client.embeddings.create(model=PPLX, input="a")
    with client_of(server, api_key="wrong") as client, pytest.raises(perplexity.AuthenticationError):
        client.embeddings.create(model=PPLX, input="a")


# --- contextualized embeddings

CONTEXT: Any = "pplx-embed-context-v1-0.6b"


def documents_body(**fields: object) -> bytes:
    return orjson.dumps({"model": MODEL, "input": [["a chunk", "another"], ["alone"]]} | fields)


def wrong(message: str, *loc: str | int) -> tuple[int, dict[str, Any]]:
    return invalid("value_error", f"Value error, {message}", *loc)


BAD_DOCUMENTS: dict[str, tuple[bytes, tuple[int, dict[str, Any]]]] = {
    "no document": (
        documents_body(input=[]),
        invalid("too_short", "List should have at least 1 item after validation, not 0", "input"),
    ),
    "a document without chunks": (
        documents_body(input=[["a"], []]),
        invalid("too_short", "List should have at least 1 item after validation, not 0", "input", 1),
    ),
    "513 documents": (
        documents_body(input=[["a"]] * 513),
        invalid("too_long", "List should have at most 512 items after validation", "input"),
    ),
    "16,001 chunks": (
        documents_body(input=[["a"] * 16_000, ["b"]]),
        wrong("must hold at most 16000 chunks together, and holds 16001", "input"),
    ),
    "an empty chunk": (
        documents_body(input=[["a"], ["b", ""]]), invalid("string_too_short", TOO_SHORT, "input", 1, 1)
    ),
    "NUL": (
        documents_body(input=[["a"], ["b", "c\0"]]),
        wrong("must not contain the NUL character", "input", 1, 1),
    ),
    "texts, not documents": (
        documents_body(input=["a"]), invalid("list_type", "Input should be a valid list", "input", 0)
    ),
    "too many tokens": (
        documents_body(input=[["a " * 70_000], ["b " * 70_000]]),
        wrong("must hold at most 120000 tokens together, and holds 140000", "input"),
    ),
    "unknown model": (
        documents_body(model="none"),
        invalid("enum", f"Model 'none' not found. Models on this machine: {HERE}", "model"),
    ),
    "unknown parameter": (
        documents_body(user="me"), invalid("extra_forbidden", "Extra inputs are not permitted", "user")
    ),
    "a dimension that the model lacks": (
        documents_body(dimensions=256), wrong(f"must be one of 384 for model '{MODEL}'", "dimensions")
    ),
    "a model of another kind": (
        documents_body(model="bm25-english"),
        wrong("must be a model of dense vectors; 'bm25-english' gives sparse vectors", "model"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_bad_documents(fake_server: Callable[..., Any], name: str) -> None:
    sent, expected = BAD_DOCUMENTS[name]
    server = fake_server()
    response = httpx.post(f"{server.url}/perplexity/v1/contextualizedembeddings", content=sent)
    assert (response.status_code, response.json()) == expected


def test_documents_on_the_wire(fake_server: Callable[..., Any]) -> None:
    server = fake_server(prices={MODEL: 4.0})
    response = httpx.post(f"{server.url}/v1/contextualizedembeddings", content=documents_body())
    answer = response.json()
    rows = [
        [np.frombuffer(base64.b64decode(item.pop("embedding")), np.int8) for item in document["data"]]
        for document in answer["data"]
    ]
    items = [{"object": "embedding", "index": index} for index in range(2)]
    assert answer == {
        "object": "list",
        "data": [{"object": "list", "index": 0, "data": items}, {"object": "list", "index": 1, "data": items[:1]}],
        "model": MODEL,
        "usage": {
            "prompt_tokens": 4,
            "total_tokens": 4,
            "cost": {"input_cost": 1.6e-05, "total_cost": 1.6e-05, "currency": "USD"},
        },
    }
    texts = [["a chunk another a chunk", "a chunk another another"], ["alone alone"]]
    for document, chunks in zip(rows, texts, strict=True):
        for row, text in zip(document, chunks, strict=True):
            np.testing.assert_array_equal(row, np.rint(fake_vector(text, 384) * 127).astype(np.int8))


def test_sdk_embeds_documents(fake_server: Callable[..., Any]) -> None:
    server = fake_server(keys=("secret",), aliases={CONTEXT: MODEL})
    with client_of(server) as client:
        answer = client.contextualized_embeddings.create(model=CONTEXT, input=[["one", "two"], ["three"]])
        assert (answer.object, answer.model) == ("list", CONTEXT)
        assert [document.index for document in answer.data or []] == [0, 1]
        assert [len(document.data or []) for document in answer.data or []] == [2, 1]
        answer = client.contextualized_embeddings.create(
            model=CONTEXT, input=[["one"]], dimensions=384, encoding_format="base64_binary"
        )
        ((item,),) = (document.data or [] for document in answer.data or [])
        assert len(base64.b64decode(item.embedding or "")) == 48
        with pytest.raises(perplexity.UnprocessableEntityError):
            client.contextualized_embeddings.create(model=CONTEXT, input=[[]])
        with pytest.raises(perplexity.NotFoundError, match="pinyon models pull pplx-embed-context-v1-4b"):
            client.contextualized_embeddings.create(model="pplx-embed-context-v1-4b", input=[["a"]])
