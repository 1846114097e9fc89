"""Nugen's bodies to core requests and back: golden pairs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import orjson
import pytest

from pinyon.dialects.base import decode
from pinyon.dialects.nugen import convert
from pinyon.dialects.nugen.schema import EmbeddingsRequest
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
    result = embed_result(case["result"])
    answer = convert.embed_response(result, unique=case["unique"], created=case["created"])
    assert answer == orjson.dumps(case["response"])


@pytest.mark.parametrize(
    ("value", "core", "wire"),
    [
        ("a", ("inputs", 0), ("input",)),
        (["a"], ("inputs", 0), ("input", 0)),
        ("a", ("dimension",), ("dimensions",)),
        ("a", ("model",), ("model",)),
        ("a", (), ()),
    ],
)
def test_wire_param(value: Any, core: Param, wire: Param) -> None:
    assert convert.wire_param(core, EmbeddingsRequest(model="m", input=value)) == wire


def test_errors() -> None:
    def answer(error: Any) -> tuple[int, Any, dict[str, str]]:
        status, body, headers = convert.error_response(error)
        return status, json.loads(body), headers

    assert answer(NotFound("gone", kind="model", name="m")) == (404, {"detail": "gone"}, {})
    assert answer(PayloadTooLarge(10))[0] == 413
    assert answer(Unauthenticated("Invalid API key")) == (
        401,
        {"detail": "Invalid API key"},
        {"www-authenticate": "Bearer"},
    )
    assert answer(Overloaded("full", 7)) == (429, {"detail": "full"}, {"retry-after": "7"})
    assert answer(WrongMethod("GET", ("POST",)))[::2] == (405, {"allow": "POST"})
    assert answer(InvalidRequest("is odd", ("input", 3)))[:2] == (
        422,
        {"detail": [{"loc": ["body", "input", 3], "msg": "Value error, is odd", "type": "value_error"}]},
    )
