"""OpenAI's bodies to core requests and back: golden pairs, and what is refused before the service sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from pinyon.dialects.base import decode
from pinyon.dialects.openai import convert
from pinyon.dialects.openai.schema import EmbeddingsRequest
from pinyon.errors import InputTooLong, InvalidRequest, NotFound, Overloaded, Param, WrongMethod
from pinyon.testing import fake_catalogue
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
    assert convert.embed_response(result, case["encoding_format"]) == orjson.dumps(case["response"])


def refusal(body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        convert.embed_request(decode(DECODER, orjson.dumps(body)))
    return caught.value


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (["a", 1], ("input", 1)),
        ([1, "a"], ("input", 1)),
        ([1, 2, [3]], ("input", 2)),
        ([[1], "a"], ("input", 1)),
        ([[1], [True]], ("input", 1, 0)),
        ([1, 2.0], ("input", 1)),
        ([-1], ("input", 0)),
        ([[0], [2**31]], ("input", 1, 0)),
        (["a", None], ("input", 1)),
        ([["a"]], ("input", 0, 0)),
        ([[[1]]], ("input", 0, 0)),
        ({"text": "a"}, ("input",)),
        (True, ("input",)),
        (["a"] * 2049, ("input",)),
    ],
)
def test_input_of_a_wrong_kind(value: object, param: Param) -> None:
    assert refusal({"model": "m", "input": value}).param == param


def test_as_many_inputs_as_openai_takes() -> None:
    wanted = DECODER.decode(orjson.dumps({"model": "m", "input": ["a"] * 2048}))
    assert len(convert.embed_request(wanted).inputs) == 2048
    # One text of many tokens is one input.
    wanted = DECODER.decode(orjson.dumps({"model": "m", "input": [7] * 3000}))
    assert [len(tokens) for tokens in convert.embed_request(wanted).inputs] == [3000]


@pytest.mark.parametrize(
    ("value", "core", "wire"),
    [
        ("a", ("inputs", 0), ("input",)),
        ([1, 2], ("inputs", 0), ("input",)),
        (["a", "b"], ("inputs", 1), ("input", 1)),
        ([[1], [2]], ("inputs", 1), ("input", 1)),
        ([[1], [2]], ("inputs", 1, 3), ("input", 1, 3)),
        ([], ("inputs",), ("input",)),
        ("a", ("dimension",), ("dimensions",)),
        ("a", ("model",), ("model",)),
        ("a", (), ()),
    ],
)
def test_wire_param(value: Any, core: Param, wire: Param) -> None:
    assert convert.wire_param(core, EmbeddingsRequest(model="m", input=value)) == wire


@pytest.mark.parametrize(
    ("model", "dimensions", "refused"),
    [
        ("all-minilm-l6-v2", 384, False),  # its own dimension is no change
        ("all-minilm-l6-v2", 256, True),
        ("nugen-flash-embed", 384, True),
        ("llama-text-embed-v2", 512, False),
        ("llama-text-embed-v2", 513, False),  # the service knows which dimensions it has
        ("pplx-embed-v1-4b", 200, False),
    ],
)
def test_dimensions_of_a_model_that_cannot_be_cut(tmp_path: Path, model: str, dimensions: int, refused: bool) -> None:
    spec = fake_catalogue(tmp_path).get(model)
    if not refused:
        convert.check_dimensions(dimensions, spec)
        return
    with pytest.raises(InvalidRequest, match="does not support specifying dimensions") as caught:
        convert.check_dimensions(dimensions, spec)
    assert caught.value.param == ("dimensions",)


def test_models_response(tmp_path: Path) -> None:
    catalogue = fake_catalogue(
        tmp_path,
        **{
            "text-embedding-3-small": "all-minilm-l6-v2",
            "ranker": "all-minilm-l6-v2-rerank",
            "absent": "llama-text-embed-v2",
        },
    )
    model = {"object": "model", "created": 0, "owned_by": "sentence-transformers"}
    assert json.loads(convert.models_response(catalogue)) == {
        "object": "list",
        "data": [{"id": "all-minilm-l6-v2", **model}, {"id": "text-embedding-3-small", **model}],
    }
    assert json.loads(convert.model_response(catalogue, "text-embedding-3-small")) == {
        "id": "text-embedding-3-small",
        **model,
    }
    for name, reason in {
        "all-minilm-l6-v2-rerank": "is not a dense embedding model",
        "llama-text-embed-v2": "pinyon models pull llama-text-embed-v2",
        "nothing": "not found",
    }.items():
        with pytest.raises(NotFound, match=reason):
            convert.model_response(catalogue, name)


def test_errors_that_carry_more_than_a_reason() -> None:
    status, body, headers = convert.error_response(InputTooLong(300, 256, ("input", 3)))
    assert (status, headers) == (400, {})
    assert json.loads(body) == {
        "error": {
            "message": "This model's maximum context length is 256 tokens, however you requested 300 tokens "
            "(300 in 'input[3]'; 0 for the completion). Please reduce your prompt; or completion length.",
            "type": "invalid_request_error",
            "param": "input[3]",
            "code": "context_length_exceeded",
        }
    }
    status, body, headers = convert.error_response(Overloaded("The queue is full", 2.1))
    assert (status, headers) == (429, {"retry-after": "3"})
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"
    assert convert.error_response(Overloaded("The queue is full", 0.0))[2] == {"retry-after": "1"}
    status, body, headers = convert.error_response(WrongMethod("PUT", ("GET", "POST")))
    assert (status, headers) == (405, {"allow": "GET, POST"})


def test_an_error_that_is_not_in_the_table_is_answered_as_its_base() -> None:
    class Vanished(NotFound):
        pass

    assert convert.error_response(Vanished("gone", kind="index", name="i"))[0] == 404
