"""Golden pairs: Pinecone's JSON of /rerank, against core requests and results."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pinyon.catalog import Catalogue
from pinyon.dialects.pinecone.inference import convert
from pinyon.dialects.pinecone.inference.schema import DOCUMENT, RERANK_BODY, RerankBody
from pinyon.errors import InvalidRequest, Param
from pinyon.testing import fake_catalogue
from pinyon.types import RerankRequest, RerankResult, Truncate


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return fake_catalogue(tmp_path)


def rerank_request(catalogue: Catalogue, body: bytes) -> RerankRequest:
    call = RERANK_BODY.decode(body)
    return convert.rerank_request(call, [DOCUMENT.decode(raw) for raw in call.documents], catalogue.get(call.model))


# --- rerank: requests ----------------------------------------------------------------------------------------------

RERANK_REQUESTS: dict[str, tuple[str, RerankRequest]] = {
    "the vendor's curl example": (
        """{
            "model": "bge-reranker-v2-m3",
            "query": "The tech company Apple is known for its innovative products like the iPhone.",
            "return_documents": true,
            "top_n": 1,
            "documents": [
              {"id": "vec1", "text": "Apple is a popular fruit."},
              {"id": "vec2", "text": "Many people enjoy eating apples."}
            ],
            "parameters": {"truncate": "END"}
        }""",
        RerankRequest(
            model="bge-reranker-v2-m3",
            query="The tech company Apple is known for its innovative products like the iPhone.",
            documents=["Apple is a popular fruit.", "Many people enjoy eating apples."],
            top_n=1,
            truncate=Truncate.END,
        ),
    ),
    "defaults of the model": (
        '{"model":"bge-reranker-v2-m3","query":"q","documents":[{"text":"a"}]}',
        RerankRequest(model="bge-reranker-v2-m3", query="q", documents=["a"], truncate=Truncate.NONE),
    ),
    "nulls": (
        '{"model":"all-minilm-l6-v2-rerank","query":"q","documents":[{"text":"a"}],'
        '"top_n":null,"rank_fields":null,"return_documents":null,"parameters":null}',
        RerankRequest(model="all-minilm-l6-v2-rerank", query="q", documents=["a"]),
    ),
    "another field": (
        '{"model":"bge-reranker-v2-m3","query":"q","documents":[{"text":7,"body":"b"}],"rank_fields":["body"]}',
        RerankRequest(model="bge-reranker-v2-m3", query="q", documents=["b"], truncate=Truncate.NONE),
    ),
    "several fields, in the order asked for": (
        '{"model":"cohere-rerank-3.5","query":"q","rank_fields":["title","text"],'
        '"documents":[{"text":"x","title":"t"},{"text":"y","title":""},{"text":"","title":"only"}]}',
        RerankRequest(model="cohere-rerank-3.5", query="q", documents=["t\nx", "y", "only"]),
    ),
    "more than there are": (
        '{"model":"all-minilm-l6-v2-rerank","query":"q","documents":[{"text":"a"}],"top_n":9}',
        RerankRequest(model="all-minilm-l6-v2-rerank", query="q", documents=["a"], top_n=9),
    ),
}


@pytest.mark.parametrize(("body", "expected"), RERANK_REQUESTS.values(), ids=RERANK_REQUESTS)
def test_rerank_request(catalogue: Catalogue, body: str, expected: RerankRequest) -> None:
    assert rerank_request(catalogue, body.encode()) == expected


BAD_RERANKS: dict[str, tuple[dict[str, object], Param, str]] = {
    "a field is missing": (
        {"documents": [{"text": "a"}, {"text": "b"}, {"body": "c"}]},
        ("documents", 2, "text"),
        "is required: it is one of the rank_fields",
    ),
    "a field is a number": (
        {"documents": [{"text": "a"}, {"text": 5}]},
        ("documents", 1, "text"),
        "must be a string: it is one of the rank_fields",
    ),
    "a field is null": (
        {"documents": [{"title": None}], "rank_fields": ["title"]},
        ("documents", 0, "title"),
        "must be a string: it is one of the rank_fields",
    ),
    "empty text": ({"documents": [{"text": "a"}, {"text": ""}]}, ("documents", 1, "text"), "must not be empty"),
    "no fields": ({"rank_fields": []}, ("rank_fields",), "must hold at least one field"),
    "more fields than the model ranks by": (
        {"model": "bge-reranker-v2-m3", "rank_fields": ["text", "title"]},
        ("rank_fields",),
        "holds 2 fields, more than the 1 that the model ranks by",
    ),
    "too many documents": (
        {"documents": [{"text": "a"}] * 101},
        ("documents",),
        "holds 101 documents, more than the 100 that the model takes",
    ),
    "unknown parameter": (
        {"parameters": {"input_type": "query"}},
        ("parameters", "input_type"),
        "is not a parameter of model 'all-minilm-l6-v2-rerank', which takes: truncate",
    ),
    "unknown value": (
        {"model": "bge-reranker-v2-m3", "parameters": {"truncate": "START"}},
        ("parameters", "truncate"),
        "must be one of 'END', 'NONE'",
    ),
    "an embedding model": (
        {"model": "all-minilm-l6-v2"},
        ("model",),
        "'all-minilm-l6-v2' is an embedding model, not a reranking model",
    ),
}


@pytest.mark.parametrize(("changes", "param", "reason"), BAD_RERANKS.values(), ids=BAD_RERANKS)
def test_rerank_request_refuses(catalogue: Catalogue, changes: dict[str, object], param: Param, reason: str) -> None:
    body = {"model": "all-minilm-l6-v2-rerank", "query": "q", "documents": [{"text": "a"}]} | changes
    with pytest.raises(InvalidRequest) as caught:
        rerank_request(catalogue, json.dumps(body).encode())
    assert (caught.value.param, caught.value.reason) == (param, reason)


def test_a_document_of_several_empty_fields(catalogue: Catalogue) -> None:
    body = {
        "model": "cohere-rerank-3.5",
        "query": "q",
        "documents": [{"a": "", "b": ""}],
        "rank_fields": ["a", "b"],
    }
    with pytest.raises(InvalidRequest, match="must not be empty") as caught:
        rerank_request(catalogue, json.dumps(body).encode())
    assert caught.value.param == ("documents", 0, "a")


# --- rerank: responses ---------------------------------------------------------------------------------------------

# What a parser and a printer would change: a large integer, a long float, an escape, a repeated key, spaces.
ODD = rb'{"text": "a", "n":123456789012345678901234567890, "f": 0.1000000000000000001, "s":"\u00e9", "d":1, "d":[null]}'
PLAIN = b'{"text":"b","id":"1"}'


def call_and_result(extra: bytes = b"") -> tuple[RerankBody, RerankResult]:
    call = RERANK_BODY.decode(b'{"model":"m","query":"q","documents":[%b,%b]%b}' % (ODD, PLAIN, extra))
    indices, scores = np.array([1, 0]), np.array([0.9, 0.1], dtype=np.float32)
    return call, RerankResult("m", indices, scores, tokens=7)


def test_rerank_response() -> None:
    call, result = call_and_result()
    assert convert.rerank_response(result, call) == (
        b'{"model":"m","data":[{"index":1,"score":0.9,"document":%b},{"index":0,"score":0.1,"document":%b}],'
        b'"usage":{"rerank_units":1}}' % (PLAIN, ODD)
    )


def test_rerank_response_without_documents() -> None:
    call, result = call_and_result(b',"return_documents":false')
    assert convert.rerank_response(result, call) == (
        b'{"model":"m","data":[{"index":1,"score":0.9},{"index":0,"score":0.1}],"usage":{"rerank_units":1}}'
    )


@pytest.mark.parametrize(("documents", "units"), [(1, 1), (100, 1), (101, 2), (200, 2)])
def test_rerank_units(documents: int, units: int) -> None:
    call = RerankBody("m", "q", [msgspec.Raw(b'{"text":"a"}')] * documents)
    result = RerankResult("m", np.array([0]), np.array([0.5], dtype=np.float32), tokens=1)
    assert json.loads(convert.rerank_response(result, call))["usage"] == {"rerank_units": units}


@pytest.mark.parametrize(
    ("core", "fields", "wire"),
    [
        (("documents", 2), ("body",), ("documents", 2, "body")),
        (("documents", 2), ("title", "body"), ("documents", 2)),
        (("documents",), ("text",), ("documents",)),
        (("query",), ("text",), ("query",)),
        (("top_n",), ("text",), ("top_n",)),
        (("truncate",), ("text",), ("parameters", "truncate")),
    ],
)
def test_rerank_param(core: Param, fields: tuple[str, ...], wire: Param) -> None:
    assert convert.rerank_param(core, fields) == wire
