"""What the data plane refuses, over HTTP: the exact status, the vendor's shape, and the name of the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pinyon.errors import Overloaded
from tests.dialects.pinecone.pinecone_data_server import RANKER, VERSIONS, DataServer, data_server

VECTOR = {"id": "a", "values": [1, 2, 3]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataServer]:
    with data_server(tmp_path_factory.mktemp("models"), max_body_bytes=200_000) as server:
        yield server


def refused(answer: httpx.Response, status: int = 400, code: int = 3) -> str:
    """The message of an rpcStatus."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["code", "message", "details"]
    assert (body["code"], body["details"]) == (code, [])
    message = body["message"]
    assert isinstance(message, str)
    return message


def named(message: str) -> str:
    """The field that a message names."""
    assert message.startswith("Invalid value for '"), message
    return message.split("'")[1]


def one(**changes: Any) -> dict[str, Any]:
    return {"vectors": [{"id": "fine", "values": [1, 1, 1]}, {**VECTOR, **changes}]}


def sparse(indices: list[int], values: list[float]) -> dict[str, Any]:
    return one(values=[], sparseValues={"indices": indices, "values": values})


UPSERTS: list[tuple[str, object, str]] = [
    ("dense", one(values=[1, 2]), "vectors[1].values"),
    ("dense", one(values=[1, 2, 3, 4]), "vectors[1].values"),
    ("dense", one(values=[]), "vectors[1].values"),
    ("dense", one(values=None), "vectors[1].values"),
    ("dense", one(values=[0, 0, 0]), "vectors[1].values"),
    ("dense", one(values=[0, 1e-12, -1e-9]), "vectors[1].values"),
    ("dense", one(values=[1, 1e39, 0]), "vectors[1].values[1]"),
    ("dense", one(values=[1, True, 0]), "vectors[1].values[1]"),
    ("dense", one(values=[1, "2", 0]), "vectors[1].values[1]"),
    ("dense", one(values=[1, None, 0]), "vectors[1].values[1]"),
    ("dense", one(values="abc"), "vectors[1].values"),
    ("dense", one(sparseValues={"indices": [1], "values": [1]}), "vectors[1].sparseValues"),
    ("far", one(sparseValues={"indices": [1], "values": [1]}), "vectors[1].sparseValues"),
    ("sparse", {"vectors": [VECTOR]}, "vectors[0].values"),
    ("sparse", {"vectors": [{"id": "a"}]}, "vectors[0].sparseValues"),
    ("hybrid", sparse([1, 2, 1], [1, 2, 3]), "vectors[1].sparseValues.indices[2]"),
    ("hybrid", sparse([1, 2], [1]), "vectors[1].sparseValues.values"),
    ("hybrid", sparse([], []), "vectors[1].sparseValues.indices"),
    ("hybrid", sparse([-1], [1]), "vectors[1].sparseValues.indices[0]"),
    ("hybrid", sparse([2**32], [1]), "vectors[1].sparseValues.indices[0]"),
    ("hybrid", sparse([1, 2], [1, 1e39]), "vectors[1].sparseValues.values[1]"),
    ("hybrid", sparse(list(range(2049)), [1.0] * 2049), "vectors[1].sparseValues.indices"),
    ("hybrid", one(sparseValues={"indices": [1]}), "vectors[1].sparseValues.values"),
    ("dense", one(id=""), "vectors[1].id"),
    ("dense", one(id="a" * 513), "vectors[1].id"),
    ("dense", one(id="é"), "vectors[1].id"),
    ("dense", one(id="a\0b"), "vectors[1].id"),
    ("dense", one(id=5), "vectors[1].id"),
    ("dense", {"vectors": [{"values": [1, 2, 3]}]}, "vectors[0].id"),
    ("dense", one(metadata={"x": None}), "vectors[1].metadata.x"),
    ("dense", one(metadata={"x": {"y": 1}}), "vectors[1].metadata.x"),
    ("dense", one(metadata={"x": [1, 2]}), "vectors[1].metadata.x[0]"),
    ("dense", one(metadata={"x": ["a", 2]}), "vectors[1].metadata.x[1]"),
    ("dense", one(metadata={"x": ["a", None]}), "vectors[1].metadata.x[1]"),
    ("dense", one(metadata={"x": [["a"]]}), "vectors[1].metadata.x[0]"),
    ("dense", one(metadata={"$x": 1}), "vectors[1].metadata.$x"),
    ("dense", one(metadata={"x": 10**400}), "vectors[1].metadata.x"),
    ("dense", one(metadata={"x": "y" * 41_000}), "vectors[1].metadata"),
    ("dense", one(metadata=["x"]), "vectors[1].metadata"),
    ("dense", one(vals=[1]), "vectors[1].vals"),
    ("dense", {"vectors": []}, "vectors"),
    ("dense", {"vectors": [VECTOR] * 1001}, "vectors"),
    ("dense", {"vectors": None}, "vectors"),
    ("dense", {}, "vectors"),
    ("dense", {"vectors": [VECTOR], "name_space": "x"}, "name_space"),
    ("dense", {"vectors": [VECTOR], "namespace": "n" * 513}, "namespace"),
    ("dense", {"vectors": [VECTOR], "namespace": 5}, "namespace"),
]


@pytest.mark.parametrize(("index", "body", "field"), UPSERTS)
def test_upsert(server: DataServer, index: str, body: object, field: str) -> None:
    for version in ("2025-04", "2026-07"):
        assert named(refused(server.post(index, "/vectors/upsert", body, version))) == field
    stats = server.get(index, "/describe_index_stats").json()
    assert stats["totalVectorCount"] == 0, "a batch with one bad record changes nothing"


def test_not_a_number(server: DataServer) -> None:
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = json.dumps({"vectors": [{"id": "a", "values": [1, "?", 3], "metadata": {}}]}).replace('"?"', word)
        answer = server.ask("POST", "dense", "/vectors/upsert", content=text)
        assert named(refused(answer)) == "vectors[0].values[1]"


def test_not_json(server: DataServer) -> None:
    for text in ("", "{", "[]", '"x"', '{"vectors": [' * 5000):
        for path in ("/vectors/upsert", "/query", "/vectors/update", "/namespaces"):
            refused(server.ask("POST", "dense", path, content=text))


QUERIES: list[tuple[str, dict[str, Any], str]] = [
    ("dense", {"vector": [1, 2]}, "vector"),
    ("dense", {"vector": []}, "vector"),
    ("dense", {"vector": [0, 0, 0]}, "vector"),
    ("dense", {"vector": [1, 1e300, 3]}, "vector[1]"),
    ("dense", {"vector": [1, 2, 3], "topK": 0}, "topK"),
    ("dense", {"vector": [1, 2, 3], "topK": -1}, "topK"),
    ("dense", {"vector": [1, 2, 3], "topK": 10_001}, "topK"),
    ("dense", {"vector": [1, 2, 3], "topK": 1_001, "includeValues": True}, "topK"),
    ("dense", {"vector": [1, 2, 3], "topK": 1_001, "includeMetadata": True}, "topK"),
    ("dense", {"vector": [1, 2, 3], "topK": 1.5}, "topK"),
    ("dense", {"vector": [1, 2, 3], "topK": None}, "topK"),
    ("dense", {"vector": [1, 2, 3], "id": "a"}, "id"),
    ("dense", {"id": ""}, "id"),
    ("dense", {"id": "a" * 513}, "id"),
    ("dense", {}, "vector"),
    ("dense", {"sparseVector": {"indices": [1], "values": [1]}}, "sparseVector"),
    ("dense", {"vector": [1, 2, 3], "sparseVector": {"indices": [1], "values": [1]}}, "sparseVector"),
    ("hybrid", {"sparseVector": {"indices": [5, 5], "values": [1, 1]}}, "sparseVector.indices[1]"),
    ("hybrid", {"id": "a", "sparseVector": {"indices": [5], "values": [1]}}, "id"),
    ("sparse", {"vector": [1, 2, 3]}, "vector"),
    ("dense", {"vector": [1, 2, 3], "filter": {"a": {"$near": 1}}}, "filter.a.$near"),
    ("dense", {"vector": [1, 2, 3], "filter": {"a": {"$gt": "x"}}}, "filter.a.$gt"),
    ("dense", {"vector": [1, 2, 3], "filter": {"a": {"$in": []}}}, "filter.a.$in"),
    ("dense", {"vector": [1, 2, 3], "filter": {"$or": {}}}, "filter.$or"),
    ("dense", {"vector": [1, 2, 3], "filter": {"a": None}}, "filter.a"),
    ("dense", {"vector": [1, 2, 3], "filter": []}, "filter"),
    ("dense", {"vector": [1, 2, 3], "scanFactor": 9}, "scanFactor"),
    ("dense", {"vector": [1, 2, 3], "maxCandidates": 0}, "maxCandidates"),
    ("dense", {"vector": [1, 2, 3], "includeValues": "yes"}, "includeValues"),
    ("dense", {"vector": [1, 2, 3], "top_k": 5}, "top_k"),
]


@pytest.mark.parametrize(("index", "body", "field"), QUERIES)
def test_query(server: DataServer, index: str, body: dict[str, Any], field: str) -> None:
    body = {"topK": 10, **body}
    for version in ("2025-10", "2026-07"):
        assert named(refused(server.post(index, "/query", body, version))) == field


def test_query_without_top_k(server: DataServer) -> None:
    assert named(refused(server.post("dense", "/query", {"vector": [1, 2, 3]}))) == "topK"


POSTS: list[tuple[str, dict[str, Any], str]] = [
    ("/vectors/update", {}, "id"),
    ("/vectors/update", {"id": ""}, "id"),
    ("/vectors/update", {"id": "a", "values": [1]}, "values"),
    ("/vectors/update", {"id": "a", "values": [0, 0, 0]}, "values"),
    ("/vectors/update", {"id": "a", "sparseValues": {"indices": [1], "values": [1]}}, "sparseValues"),
    ("/vectors/update", {"id": "a", "setMetadata": {"x": None}}, "setMetadata.x"),
    ("/vectors/update", {"id": "a", "dryRun": True}, "dryRun"),
    ("/vectors/update", {"id": "a", "filter": {"x": 1}, "setMetadata": {"y": 1}}, "id"),
    ("/vectors/update", {"filter": {"x": 1}, "values": [1, 2, 3]}, "values"),
    ("/vectors/update", {"filter": {"x": 1}}, "setMetadata"),
    ("/vectors/update", {"filter": {}, "setMetadata": {"y": 1}}, "filter"),
    ("/vectors/update", {"filter": {"x": 1}, "setMetadata": {"y": [1]}}, "setMetadata.y[0]"),
    ("/vectors/update", {"id": "a", "set_metadata": {"x": 1}}, "set_metadata"),
    ("/vectors/delete", {}, "ids"),
    ("/vectors/delete", {"ids": []}, "ids"),
    ("/vectors/delete", {"ids": ["a"] * 1001}, "ids"),
    ("/vectors/delete", {"ids": ["a", ""]}, "ids[1]"),
    ("/vectors/delete", {"ids": ["a"], "deleteAll": True}, "deleteAll"),
    ("/vectors/delete", {"ids": ["a"], "filter": {"x": 1}}, "filter"),
    ("/vectors/delete", {"filter": {"x": 1}, "deleteAll": True}, "deleteAll"),
    ("/vectors/delete", {"filter": {}}, "filter"),
    ("/vectors/delete", {"filter": {"x": {"$no": 1}}}, "filter.x.$no"),
    ("/vectors/fetch_by_metadata", {}, "filter"),
    ("/vectors/fetch_by_metadata", {"filter": {}}, "filter"),
    ("/vectors/fetch_by_metadata", {"filter": {"x": 1}, "limit": 0}, "limit"),
    ("/vectors/fetch_by_metadata", {"filter": {"x": 1}, "limit": 10_001}, "limit"),
    ("/vectors/fetch_by_metadata", {"filter": {"x": 1}, "paginationToken": "x"}, "paginationToken"),
    ("/describe_index_stats", {"filter": {"x": 1}}, "filter"),
    ("/namespaces", {}, "name"),
    ("/namespaces", {"name": ""}, "name"),
    ("/namespaces", {"name": "é"}, "name"),
    ("/namespaces", {"name": "a" * 513}, "name"),
    ("/namespaces", {"name": "__default__"}, "name"),
    ("/namespaces", {"name": "a", "schema": {"fields": {"x": {"filterable": False}}}}, "schema.fields.x.filterable"),
    ("/namespaces", {"name": "a", "schema": {}}, "schema.fields"),
]


@pytest.mark.parametrize(("path", "body", "field"), POSTS)
def test_other_bodies(server: DataServer, path: str, body: dict[str, Any], field: str) -> None:
    assert named(refused(server.post("dense", path, body))) == field


GETS: list[tuple[str, dict[str, Any], str]] = [
    ("/vectors/fetch", {}, "ids"),
    ("/vectors/fetch", {"ids": ["a", ""]}, "ids[1]"),
    ("/vectors/fetch", {"ids": ["a" * 513]}, "ids[0]"),
    ("/vectors/fetch", {"ids": ["a"] * 1001}, "ids"),
    ("/vectors/fetch", {"id": "a"}, "id"),
    ("/vectors/list", {"limit": 0}, "limit"),
    ("/vectors/list", {"limit": 101}, "limit"),
    ("/vectors/list", {"limit": "ten"}, "limit"),
    ("/vectors/list", {"limit": "1" * 30}, "limit"),
    ("/vectors/list", {"prefix": "a" * 513}, "prefix"),
    ("/vectors/list", {"paginationToken": "!"}, "paginationToken"),
    ("/vectors/list", {"paginationToken": "é"}, "paginationToken"),
    ("/vectors/list", {"paginationToken": "WyJhIiwxMDAwMF0="}, "paginationToken"),  # ["a", 10000]
    ("/vectors/list", {"top": 1}, "top"),
    ("/namespaces", {"limit": 0}, "limit"),
    ("/namespaces", {"paginationToken": "abc"}, "paginationToken"),
    ("/namespaces/" + "n" * 513, {}, "namespace"),
    ("/namespaces/", {}, "namespace"),
]


@pytest.mark.parametrize(("path", "params", "field"), GETS)
def test_query_strings(server: DataServer, path: str, params: dict[str, Any], field: str) -> None:
    assert named(refused(server.get("dense", path, **params))) == field


def test_metadata_that_grows_too_large(server: DataServer) -> None:
    whole = {"vectors": [{**VECTOR, "metadata": {"x": "x" * 30_000}}], "namespace": "grown"}
    assert server.post("dense", "/vectors/upsert", whole).status_code == 200
    change = {"id": "a", "setMetadata": {"y": "y" * 30_000}, "namespace": "grown"}
    assert named(refused(server.post("dense", "/vectors/update", change))) == "setMetadata"
    assert server.ask("DELETE", "dense", "/namespaces/grown").status_code == 200


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_index_and_namespace(server: DataServer, version: str) -> None:
    assert refused(server.get("none", "/describe_index_stats", version), 404, 5) == "Index none not found"
    assert refused(server.post("none", "/vectors/upsert", {"vectors": [VECTOR]}, version), 404, 5)
    for method in ("GET", "DELETE"):
        assert refused(server.ask(method, "dense", "/namespaces/none", version), 404, 5) == "Namespace not found"
    assert refused(server.post("dense", "/vectors/delete", {"deleteAll": True, "namespace": "none"}, version), 404, 5)
    assert server.post("dense", "/vectors/delete", {"ids": ["a"], "namespace": "none"}, version).json() == {}


def test_existing_namespace(server: DataServer) -> None:
    assert server.post("pods", "/namespaces", {"name": "twice"}).status_code == 200
    refused(server.post("pods", "/namespaces", {"name": "twice"}), 409, 6)


def test_wrong_version(server: DataServer) -> None:
    assert "X-Pinecone-Api-Version" in refused(server.get("dense", "/describe_index_stats", "next"))


def test_too_large(server: DataServer) -> None:
    refused(server.ask("POST", "dense", "/vectors/upsert", content=b" " * 200_001), 413, 11)


# --- records of text -------------------------------------------------------------------------------------------------


def problem(answer: httpx.Response, status: int = 400, code: str = "INVALID_ARGUMENT") -> str:
    """The message of an ErrorResponse."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["status"], body["error"]["code"]) == (status, code)
    return str(body["error"]["message"])


LINES: list[tuple[list[object], str]] = [
    ([{"body": "x"}], "records[0]._id"),
    ([{"_id": "a", "body": "x"}, {"_id": "a", "id": "a", "body": "x"}], "records[1].id"),
    ([{"_id": "", "body": "x"}], "records[0]._id"),
    ([{"_id": 5, "body": "x"}], "records[0]._id"),
    ([{"_id": "a"}], "records[0].body"),
    ([{"_id": "a", "body": 5}], "records[0].body"),
    ([{"_id": "a", "body": "fine"}, {"_id": "a", "body": ""}], "records[1].body"),
    ([{"_id": "a", "body": "x", "y": None}], "records[0].y"),
    ([{"_id": "a", "body": "x", "y": {"z": 1}}], "records[0].y"),
    ([{"_id": "a", "body": "x"}, [1]], "records[1]"),
    ([], "records"),
    ([{"_id": "a", "body": "x"}] * 1001, "records"),
]


@pytest.mark.parametrize(("lines", "field"), LINES)
def test_upsert_records(server: DataServer, lines: list[object], field: str) -> None:
    content = "\n".join(json.dumps(line) for line in lines)
    path = "/records/namespaces/docs/upsert"
    assert named(problem(server.ask("POST", "texts", path, content=content))) == field
    assert named(refused(server.ask("POST", "texts", path, "2026-04", content=content))) == field
    assert server.get("texts", "/describe_index_stats").json()["totalVectorCount"] == 0


VECTOR_384 = [1.0] * 384
SEARCHES: list[tuple[dict[str, Any], str]] = [
    ({"query": {"top_k": 1}}, "query"),
    ({"query": {"inputs": {"text": "x"}}}, "query.top_k"),
    ({"query": {"top_k": 0, "inputs": {"text": "x"}}}, "query.top_k"),
    ({"query": {"top_k": 10_001, "inputs": {"text": "x"}}}, "query.top_k"),
    ({"query": {"top_k": 1, "inputs": {"text": ""}}}, "query.inputs.text"),
    ({"query": {"top_k": 1, "inputs": {"body": "x"}}}, "query.inputs.body"),
    ({"query": {"top_k": 1, "inputs": {"text": "x"}, "id": "a"}}, "query.id"),
    ({"query": {"top_k": 1, "inputs": {"text": "x"}, "vector": {"values": VECTOR_384}}}, "query.vector.values"),
    ({"query": {"top_k": 1, "vector": {"values": [1]}}}, "query.vector.values"),
    ({"query": {"top_k": 1, "vector": {"sparse_values": [1]}}}, "query.vector.sparse_indices"),
    ({"query": {"top_k": 1, "id": "a", "filter": {"x": {"$no": 1}}}}, "query.filter.x.$no"),
    ({"query": {"top_k": 1, "id": "a", "match_terms": {"terms": ["x"]}}}, "query.match_terms"),
    (
        {"query": {"top_k": 1, "id": "a", "match_terms": {"terms": ["x"], "strategy": "any"}}},
        "query.match_terms.strategy",
    ),
    ({"query": {"top_k": 1, "id": "a"}, "rerank": {"model": RANKER, "rank_fields": ["body"]}}, "rerank.query"),
    (
        {"query": {"top_k": 1, "inputs": {"text": "x"}}, "rerank": {"model": RANKER, "rank_fields": []}},
        "rerank.rank_fields",
    ),
    (
        {"query": {"top_k": 1, "inputs": {"text": "x"}}, "rerank": {"model": "all-minilm-l6-v2", "rank_fields": ["a"]}},
        "rerank.model",
    ),
    (
        {
            "query": {"top_k": 1, "inputs": {"text": "x"}},
            "rerank": {"model": RANKER, "rank_fields": ["body"], "parameters": {"no": 1}},
        },
        "rerank.parameters.no",
    ),
    ({"query": {"top_k": 1, "inputs": {"text": "x"}}, "field": []}, "field"),
]


@pytest.mark.parametrize(("body", "field"), SEARCHES)
def test_search(server: DataServer, body: dict[str, Any], field: str) -> None:
    path = "/records/namespaces/docs/search"
    assert named(problem(server.post("texts", path, body))) == field
    assert named(refused(server.post("texts", path, body, "2025-10"))) == field


def test_texts_without_a_model(server: DataServer) -> None:
    message = problem(server.ask("POST", "dense", "/records/namespaces/x/upsert", content='{"_id": "a", "body": "x"}'))
    assert message == "Integrated inference is not configured for this index"
    body = {"query": {"top_k": 1, "inputs": {"text": "x"}}}
    message = problem(server.post("dense", "/records/namespaces/x/search", body))
    assert named(message) == "query.inputs.text"
    problem(server.post("none", "/records/namespaces/x/search", body), 404, "NOT_FOUND")
    problem(server.post("words", "/records/namespaces/x/search", body), 404, "NOT_FOUND")


def test_overload(server: DataServer) -> None:
    server.engine.error = Overloaded("The queue is full", retry_after=3)
    try:
        body = {"query": {"top_k": 1, "inputs": {"text": "x"}}}
        answer = server.post("texts", "/records/namespaces/x/search", body)
        problem(answer, 429, "RESOURCE_EXHAUSTED")
        assert answer.headers["retry-after"] == "3"
        refused(server.post("texts", "/records/namespaces/x/search", body, "2026-04"), 429, 8)
    finally:
        server.engine.error = None


def test_bug(server: DataServer) -> None:
    server.engine.error = RuntimeError("secret")
    try:
        body = {"query": {"top_k": 1, "inputs": {"text": "x"}}}
        assert problem(server.post("texts", "/records/namespaces/x/search", body), 500, "UNKNOWN")
        assert refused(server.post("texts", "/records/namespaces/x/search", body, "2026-04"), 500, 13)
    finally:
        server.engine.error = None


def test_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    with data_server(tmp_path_factory.mktemp("models"), keys=("secret",)) as server:
        server.client.headers["Api-Key"] = "wrong"
        for path in ("/describe_index_stats", "/namespaces"):
            answer = server.get("dense", path)
            assert (answer.status_code, answer.text) == (401, "Unauthorized")
            assert answer.headers["content-type"].startswith("text/plain")
            assert "Invalid API key" in refused(server.get("dense", path, "2026-04"), 401, 16)
        answer = server.post("texts", "/records/namespaces/x/search", {})
        assert (answer.status_code, answer.text) == (401, "Unauthorized")
