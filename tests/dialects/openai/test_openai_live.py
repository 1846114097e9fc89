"""A live server spoken to as OpenAI's clients do: by plain HTTP, with every kind of bad input, and by the real SDK."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import openai
import orjson
import pytest

from pinyon.errors import Overloaded, Unavailable
from pinyon.testing import fake_vector

MODEL = "all-minilm-l6-v2"
HERE = f"'{MODEL}', '{MODEL}-rerank', 'bm25-english'"


def body(**fields: object) -> bytes:
    return orjson.dumps({"model": MODEL, "input": "a text"} | fields)


def invalid(
    param: str | None, message: str, status: int = 400, code: str | None = None, kind: str = "invalid_request_error"
) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}


UNICODE = "must be valid Unicode text: it holds a lone surrogate or bytes that are not UTF-8"
ONE_OF_ITS_TYPES = "expected an integer or a string or an array"
NOT_HERE = "Model 'llama-text-embed-v2' is known, but its weights are not on this machine. Get them with: "

# name -> body, and the answer in full
BAD_BODIES: dict[str, tuple[bytes, tuple[int, dict[str, Any]]]] = {
    "empty list": (body(input=[]), invalid("input", "Invalid 'input': must hold at least one input.")),
    "empty string": (body(input=""), invalid("input", "Invalid 'input': must not be empty.")),
    "empty string in a list": (body(input=["a", ""]), invalid("input[1]", "Invalid 'input[1]': must not be empty.")),
    "empty token list": (body(input=[[1], []]), invalid("input[1]", "Invalid 'input[1]': must not be empty.")),
    "input is a number": (
        body(input=3),
        invalid("input", "Invalid type for 'input': expected a string or an array, got an integer."),
    ),
    "input is null": (
        body(input=None),
        invalid("input", "Invalid type for 'input': expected a string or an array, got null."),
    ),
    "input is an object": (
        body(input={"text": "a"}),
        invalid("input", "Invalid type for 'input': expected a string or an array, got an object."),
    ),
    "null in a list": (
        body(input=["a", None]),
        invalid("input[1]", f"Invalid type for 'input[1]': {ONE_OF_ITS_TYPES}, got null."),
    ),
    "boolean token id": (
        body(input=[1, True]),
        invalid("input[1]", f"Invalid type for 'input[1]': {ONE_OF_ITS_TYPES}, got a boolean."),
    ),
    "text among token ids": (
        body(input=[[1], [2, "a"]]),
        invalid("input[1][1]", "Invalid type for 'input[1][1]': expected an integer, got a string."),
    ),
    "list too deep": (
        body(input=[[[1]]]),
        invalid("input[0][0]", "Invalid type for 'input[0][0]': expected an integer, got an array."),
    ),
    "mixed": (
        body(input=["a", [1]]),
        invalid("input[1]", "Invalid 'input[1]': must be of the same type as the first item of the array."),
    ),
    "negative token id": (
        body(input=[[-1]]),
        invalid("input[0][0]", "Invalid 'input[0][0]': expected an integer >= 0."),
    ),
    "dimensions of thousands of digits": (
        body(model="llama-text-embed-v2")[:-1] + b', "dimensions": ' + b"9" * 6000 + b"}",
        invalid("dimensions", "Invalid 'dimensions': Integer value out of range."),
    ),
    "no input": (orjson.dumps({"model": MODEL}), invalid("input", "Missing required parameter: 'input'.")),
    "no model": (orjson.dumps({"input": "a"}), invalid("model", "Missing required parameter: 'model'.")),
    "model is a number": (
        body(model=7),
        invalid("model", "Invalid type for 'model': expected a string, got an integer."),
    ),
    "user is a number": (body(user=7), invalid("user", "Invalid type for 'user': expected a string, got an integer.")),
    "unknown parameter": (
        body(truncate="END"),
        invalid("truncate", "Unrecognized request argument supplied: truncate"),
    ),
    # A core name that is no name on this wire.
    "the core's name of a parameter": (
        body(inputs=["a"]),
        invalid("inputs", "Unrecognized request argument supplied: inputs"),
    ),
    "unknown encoding_format": (
        body(encoding_format="base64_int8"),
        invalid("encoding_format", "Invalid 'encoding_format': must be 'float' or 'base64'."),
    ),
    "encoding_format is null": (
        body(encoding_format=None),
        invalid("encoding_format", "Invalid type for 'encoding_format': expected a string, got null."),
    ),
    "dimensions is zero": (
        body(dimensions=0),
        invalid("dimensions", "Invalid 'dimensions': expected an integer >= 1."),
    ),
    "dimensions is a string": (
        body(dimensions="384"),
        invalid("dimensions", "Invalid type for 'dimensions': expected an integer, got a string."),
    ),
    "dimensions is a float": (
        body(dimensions=384.5),
        invalid("dimensions", "Invalid type for 'dimensions': expected an integer, got a number."),
    ),
    "dimensions is a boolean": (
        body(dimensions=True),
        invalid("dimensions", "Invalid type for 'dimensions': expected an integer, got a boolean."),
    ),
    "dimensions of a model that cannot be cut": (
        body(dimensions=256),
        invalid("dimensions", "Invalid 'dimensions': this model does not support specifying dimensions."),
    ),
    "dimensions that a model does not have": (
        body(model="llama-text-embed-v2", dimensions=400),
        invalid(
            "dimensions",
            "Invalid 'dimensions': must be one of 384, 512, 768, 1024, 2048 for model 'llama-text-embed-v2'.",
        ),
    ),
    "unknown model": (
        body(model="nothing"),
        invalid("model", f"Model 'nothing' not found. Models on this machine: {HERE}", 404,
                "model_not_found"),
    ),
    "unknown model, with dimensions": (
        body(model="nothing", dimensions=3),
        invalid("model", f"Model 'nothing' not found. Models on this machine: {HERE}", 404,
                "model_not_found"),
    ),
    "model whose weights are not here": (
        body(model="llama-text-embed-v2"),
        invalid("model", NOT_HERE + "pinyon models pull llama-text-embed-v2", 404, "model_not_found"),
    ),
    "reranking model": (
        body(model=f"{MODEL}-rerank"),
        invalid("model", f"Invalid 'model': must be an embedding model; '{MODEL}-rerank' is a reranking model."),
    ),
    "too many inputs": (
        body(input=["a"] * 2049),
        invalid(
            "input",
            "Invalid 'input': array too long. Expected an array with maximum length 2048, "
            "but got an array with length 2049 instead.",
        ),
    ),
    "too long": (
        body(input=["a", "word " * 257]),
        invalid(
            "input[1]",
            "This model's maximum context length is 256 tokens, however you requested 257 tokens "
            "(257 in 'input[1]'; 0 for the completion). Please reduce your prompt; or completion length.",
            code="context_length_exceeded",
        ),
    ),
    "too many tokens together": (
        body(input=["word " * 250] * 1201),
        invalid("input", "Invalid 'input': must hold at most 300000 tokens together, and holds 300250."),
    ),
    "NUL": (
        body(input=["a", "b\0c"]),
        invalid("input[1]", "Invalid 'input[1]': must not contain the NUL character."),
    ),
    "lone surrogate": (
        b'{"model": "%s", "input": ["a", "\\ud800"]}' % MODEL.encode(),
        invalid("input[1]", f"Invalid 'input[1]': {UNICODE}."),
    ),
    "bytes that are not UTF-8": (
        b'{"model": "%s", "input": "\xff"}' % MODEL.encode(),
        invalid("input", f"Invalid 'input': {UNICODE}."),
    ),
    "lone surrogate in a name": (b'{"\\ud800": 1}', invalid(None, f"Invalid 'body': {UNICODE}.")),
    "body is a list": (b"[]", invalid(None, "Invalid type for 'body': expected an object, got an array.")),
    "no body": (b"", invalid(None, "The request body is not valid JSON: Input data was truncated")),
    "half a body": (b'{"model": "m"', invalid(None, "The request body is not valid JSON: Input data was truncated")),
    "not JSON": (
        b"input=a",
        invalid(None, "The request body is not valid JSON: JSON is malformed: invalid character (byte 0)"),
    ),
    "nested too deeply": (
        b'{"model": "m", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        invalid("input[0][0]", "Invalid type for 'input[0][0]': expected an integer, got an array."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "/openai"])
def test_bad_bodies(fake_server: Callable[..., Any], prefix: str) -> None:
    server = fake_server(max_body_bytes=1 << 22)
    with httpx.Client(base_url=server.url + prefix) as client:
        answers = {}
        for name, (content, _) in BAD_BODIES.items():
            response = client.post("/v1/embeddings", content=content)
            answers[name] = response.status_code, response.json()
            assert response.headers["x-request-id"]
        assert answers == {name: expected for name, (_, expected) in BAD_BODIES.items()}
        # Nothing else is disturbed.
        assert client.post("/v1/embeddings", content=body()).status_code == 200


def test_bad_requests_around_the_body(fake_server: Callable[..., Any]) -> None:
    server = fake_server(keys=("secret",), max_body_bytes=1000)
    with httpx.Client(base_url=server.url + "/openai", headers={"authorization": "Bearer secret"}) as client:
        response = client.post("/v1/embeddings", content=body(input="a" * 1000))
        assert (response.status_code, response.json()) == invalid(
            None, "The request body is larger than the limit of 1000 bytes", 413, "request_too_large"
        )
        response = client.get("/v1/embeddings")
        assert (response.status_code, response.json()) == invalid(
            None, "Method GET is not allowed here, use POST", 405, "method_not_supported"
        )
        assert response.headers["allow"] == "POST"
        response = client.post("/v1/embedding", content=body())
        assert (response.status_code, response.json()) == invalid(None, "Invalid URL (POST /openai/v1/embedding)", 404)
        response = client.get("/v1/models/org/name")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
        assert "'org/name'" in response.json()["error"]["message"]
        # Bytes of a path that are not UTF-8 come back in some form that JSON can hold.
        for path in ("/v1/models/%FF", "/%FF"):
            assert client.get(path).status_code == 404
            assert client.get(path).json()["error"]["type"] == "invalid_request_error"
        for headers, message in (
            ({}, "No API key was given"),
            ({"authorization": "secret"}, "No API key was given"),
            ({"authorization": "Bearer wrong"}, "Invalid API key"),
        ):
            bare = httpx.post(f"{server.url}/openai/v1/embeddings", content=body(), headers=headers)
            assert (bare.status_code, bare.json()) == invalid(None, message, 401, "invalid_api_key")
            assert bare.headers["www-authenticate"] == "Bearer"
        assert server.engine.calls == []
        assert client.post("/v1/embeddings", content=body()).status_code == 200


def test_paths_of_the_root_that_no_other_vendor_has(fake_server: Callable[..., Any]) -> None:
    server = fake_server()
    response = httpx.put(f"{server.url}/v1/embeddings", content=body())
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_supported"
    response = httpx.post(f"{server.url}/v1/chat/completions", content=b"{}")
    assert (response.status_code, response.json()) == invalid(None, "Invalid URL (POST /v1/chat/completions)", 404)


def test_trouble_of_the_server(fake_server: Callable[..., Any]) -> None:
    server = fake_server()
    url = f"{server.url}/v1/embeddings"
    server.engine.error = Overloaded("The queue is full, try again later", 1.5)
    response = httpx.post(url, content=body())
    assert (response.status_code, response.json()) == invalid(
        None, "The queue is full, try again later", 429, "rate_limit_exceeded", "requests"
    )
    assert response.headers["retry-after"] == "2"
    server.engine.error = Unavailable("The server is shutting down")
    response = httpx.post(url, content=body())
    assert (response.status_code, response.json()) == invalid(
        None, "The server is shutting down", 503, "service_unavailable", "server_error"
    )
    server.engine.error = RuntimeError("a secret of the engine")
    response = httpx.post(url, content=body())
    assert (response.status_code, response.json()) == invalid(
        None, "The server had an error while processing your request. Sorry about that!", 500, None, "server_error"
    )


def test_what_was_used_is_counted(fake_server: Callable[..., Any]) -> None:
    server = fake_server(aliases={"small": MODEL})
    assert httpx.post(f"{server.url}/v1/embeddings", content=body(model="small", input=["a b", "c"])).is_success
    numbers = server.metrics.render().decode()
    assert 'pinyon_tokens_total{dialect="openai",model="small",verb="embed"} 3.0' in numbers
    assert 'pinyon_inputs_total{dialect="openai",model="small",verb="embed"} 2.0' in numbers


def test_answer_on_the_wire(fake_server: Callable[..., Any]) -> None:
    server = fake_server()
    response = httpx.post(f"{server.url}/v1/embeddings", content=body(input=["a b", "c"], user="me", dimensions=384))
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    vectors = np.array([item.pop("embedding") for item in answer["data"]], dtype=np.float32)  # [2, 384]
    assert answer == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "model": MODEL,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    # Every float32 comes back exactly.
    np.testing.assert_array_equal(vectors, [fake_vector("a b", 384), fake_vector("c", 384)])
    answer = httpx.post(f"{server.url}/v1/embeddings", content=body(encoding_format="base64")).json()
    vector = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(vector, fake_vector("a text", 384))


def client_of(server: Any, path: str = "/v1", api_key: str = "secret") -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + path, api_key=api_key, max_retries=0)


@pytest.mark.parametrize("path", ["/v1", "/openai/v1"])
def test_sdk_embeds(fake_server: Callable[..., Any], path: str) -> None:
    server = fake_server(keys=("secret",))
    with client_of(server, path) as client:
        expected = [fake_vector("one text", 384), fake_vector("another", 384)]
        # The SDK asks for base64 unless told otherwise.
        packed = client.embeddings.create(model=MODEL, input=["one text", "another"])
        plain = client.embeddings.create(model=MODEL, input=["one text", "another"], encoding_format="float")
        for answer in (packed, plain):
            assert answer.object == "list"
            assert answer.model == MODEL
            assert [item.index for item in answer.data] == [0, 1]
            assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)
            np.testing.assert_array_equal(np.array([item.embedding for item in answer.data], np.float32), expected)
        one = client.embeddings.create(model=MODEL, input="one text", dimensions=384, user="me")
        np.testing.assert_array_equal(np.array(one.data[0].embedding, np.float32), expected[0])


def test_sdk_embeds_token_ids(fake_server: Callable[..., Any]) -> None:
    server = fake_server()
    with client_of(server) as client:
        one = client.embeddings.create(model=MODEL, input=[101, 7592, 102])
        two = client.embeddings.create(model=MODEL, input=[[101, 102], [7]])
    assert server.engine.calls[0].inputs == [[101, 7592, 102]]
    assert server.engine.calls[1].inputs == [[101, 102], [7]]
    assert (one.usage.total_tokens, two.usage.total_tokens) == (3, 3)
    assert (len(one.data), len(two.data)) == (1, 2)


def test_sdk_raises_its_own_errors(fake_server: Callable[..., Any]) -> None:
    server = fake_server(keys=("secret",))
    with client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            client.embeddings.create(model=MODEL, input="a", dimensions=256)
        assert (bad.value.param, bad.value.type) == ("dimensions", "invalid_request_error")
        with pytest.raises(openai.BadRequestError) as bad:
            client.embeddings.create(model=MODEL, input=["a", "word " * 300])
        assert (bad.value.param, bad.value.code) == ("input[1]", "context_length_exceeded")
        with pytest.raises(openai.NotFoundError) as absent:
            client.embeddings.create(model="text-embedding-3-small", input="a")
        assert absent.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("text-embedding-3-small")
        server.engine.error = Overloaded("The queue is full", 1.0)
        with pytest.raises(openai.RateLimitError) as busy:
            client.embeddings.create(model=MODEL, input="a")
        assert busy.value.response.headers["retry-after"] == "1"
        server.engine.error = RuntimeError("a bug")
        with pytest.raises(openai.InternalServerError):
            client.embeddings.create(model=MODEL, input="a")
    with client_of(server, api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as wrong:
        client.embeddings.create(model=MODEL, input="a")
    assert wrong.value.code == "invalid_api_key"


@pytest.mark.parametrize("path", ["/v1", "/openai/v1"])
def test_sdk_lists_models(fake_server: Callable[..., Any], path: str) -> None:
    server = fake_server(aliases={"text-embedding-3-small": MODEL, "a/b": MODEL, "absent": "llama-text-embed-v2"})
    with client_of(server, path) as client:
        models = list(client.models.list())
        assert [model.id for model in models] == [MODEL, "text-embedding-3-small", "a/b"]
        assert {(model.object, model.owned_by) for model in models} == {("model", "sentence-transformers")}
        for model in models:
            assert client.models.retrieve(model.id) == model
            assert client.embeddings.create(model=model.id, input="a").model == model.id
