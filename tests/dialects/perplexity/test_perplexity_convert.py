"""Perplexity's bodies to core requests and back: golden pairs, and what is refused before the service sees it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import orjson
import pytest

from pinyon.dialects.base import decode
from pinyon.dialects.perplexity import convert
from pinyon.dialects.perplexity.schema import EmbeddingsRequest
from pinyon.errors import InvalidRequest, NotFound, Overloaded, Param, PayloadTooLarge, Unauthenticated, WrongMethod
from pinyon.types import EmbedRequest
from tests.dialects.golden import embed_result, golden

DECODER = msgspec.json.Decoder(EmbeddingsRequest)


@pytest.mark.parametrize("case", golden(__file__, "embed_requests.json"))
def test_request(case: dict[str, Any]) -> None:
    wanted = decode(DECODER, orjson.dumps(case["request"]))
    assert convert.embed_request(wanted) == msgspec.convert(case["core"], EmbedRequest)


@pytest.mark.parametrize("case", golden(__file__, "embed_responses.json"))
def test_response(case: dict[str, Any]) -> None:
    result = embed_result(case["result"], case["result"]["dtype"])
    assert convert.embed_response(result) == orjson.dumps(case["response"])


@pytest.mark.parametrize(
    ("model", "dimensions", "encoding_format", "reason"),
    [
        ("pplx-embed-v1-0.6b", 127, "base64_int8", "Expected `int` >= 128"),
        ("pplx-embed-v1-4b", 2561, "base64_int8", "Expected `int` <= 2560"),
        ("pplx-embed-v1-4b", 129, "base64_int8", None),
        ("pplx-embed-v1-4b", 129, "base64_binary", "must be a multiple of 8"),
        ("m", 12, "base64_binary", "must be a multiple of 8"),
        ("m", -5, "base64_int8", None),  # the service knows which dimensions it has
    ],
)
def test_dimensions(model: str, dimensions: int, encoding_format: str, reason: str | None) -> None:
    wanted = EmbeddingsRequest(input="a", model=model, dimensions=dimensions, encoding_format=encoding_format)
    if reason is None:
        assert convert.embed_request(wanted).dimension == dimensions
        return
    with pytest.raises(InvalidRequest, match=reason) as caught:
        convert.embed_request(wanted)
    assert caught.value.param == ("dimensions",)


@pytest.mark.parametrize(
    ("value", "core", "wire"),
    [
        ("a", ("inputs", 0), ("input",)),
        (["a"], ("inputs", 0), ("input", 0)),
        (["a"], ("inputs",), ("input",)),
        ("a", ("dimension",), ("dimensions",)),
        ("a", ("model",), ("model",)),
        ("a", (), ()),
    ],
)
def test_wire_param(value: Any, core: Param, wire: Param) -> None:
    assert convert.wire_param(core, EmbeddingsRequest(model="m", input=value)) == wire


def test_which_models_are_perplexitys() -> None:
    assert convert.is_perplexity_model("pplx-embed-v1-4b")
    assert not convert.is_perplexity_model("all-minilm-l6-v2")
    assert not convert.is_perplexity_model("my-pplx-")


def test_errors() -> None:
    def answer(error: Any) -> tuple[int, Any, dict[str, str]]:
        status, body, headers = convert.error_response(error)
        return status, json.loads(body), headers

    assert answer(NotFound("gone", kind="model", name="m")) == (
        404,
        {"error": {"message": "gone", "type": "not_found", "code": 404}},
        {},
    )
    assert answer(PayloadTooLarge(10))[:2] == (
        413,
        {
            "error": {
                "message": "The request body is larger than the limit of 10 bytes",
                "type": "request_too_large",
                "code": 413,
            }
        },
    )
    assert answer(Unauthenticated("Invalid API key")) == (
        401,
        {"error": {"message": "Invalid API key", "type": "invalid_api_key", "code": 401}},
        {"www-authenticate": "Bearer"},
    )
    assert answer(Overloaded("full", 0.2))[::2] == (429, {"retry-after": "1"})
    assert answer(WrongMethod("GET", ("POST",)))[::2] == (405, {"allow": "POST"})
    assert answer(InvalidRequest("is odd", ("input", 3)))[:2] == (
        422,
        {"detail": [{"loc": ["body", "input", 3], "msg": "Value error, is odd", "type": "value_error"}]},
    )
