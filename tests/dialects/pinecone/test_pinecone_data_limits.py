"""The data plane over HTTP, at every version: what a request may hold, what namespaces declare, and paths that are
not its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dialects.pinecone.pinecone_data_server import VERSIONS, DataServer, data_server
from tests.dialects.pinecone.test_pinecone_data_bad import named, problem, refused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataServer]:
    with data_server(tmp_path_factory.mktemp("models"), max_body_bytes=16 << 20) as server:
        yield server


@pytest.mark.parametrize("version", VERSIONS)
def test_too_large_an_upsert(server: DataServer, version: str) -> None:
    vectors = [{"id": f"{n}", "values": [1, 2, 3], "metadata": {"x": "x" * 2100}} for n in range(1000)]
    answer = server.post("dense", "/vectors/upsert", {"vectors": vectors, "namespace": "large"}, version)
    reason = "Request size 3MB exceeds the maximum supported size of 2MB"
    assert refused(answer) == f"Invalid value for 'vectors': {reason}"
    assert server.get("dense", "/describe_index_stats").json()["namespaces"] == {}


def test_the_size_is_not_that_of_the_json(server: DataServer) -> None:
    """1,000 records of 384 values, which Python writes with 17 digits each: 8 MB of JSON, and 1.5 MB of vectors."""
    values = [n / 7 for n in range(1, 385)]
    vectors = [{"id": f"{n}", "values": values} for n in range(1000)]
    answer = server.post("texts", "/vectors/upsert", {"vectors": vectors, "namespace": "many"})
    assert answer.json() == {"upsertedCount": 1000}
    assert server.ask("DELETE", "texts", "/namespaces/many").json() == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_too_many_texts(server: DataServer, version: str) -> None:
    content = "\n".join(json.dumps({"_id": f"{n}", "body": "x"}) for n in range(97))
    answer = server.ask("POST", "texts", "/records/namespaces/n/upsert", version, content=content)
    message = problem(answer) if version == "2026-07" else refused(answer)
    assert message == "Invalid value for 'records': must hold 1 to 96 records, and holds 97"


@pytest.mark.parametrize("version", VERSIONS)
def test_metadata_that_grows_too_large_by_filter(server: DataServer, version: str) -> None:
    vectors = [{"id": "a", "values": [1, 2, 3], "metadata": {"x": "x" * 30_000, "n": 1}}]
    server.post("dense", "/vectors/upsert", {"vectors": vectors, "namespace": "grown"})
    change = {"filter": {"n": 1}, "setMetadata": {"y": "y" * 20_000}, "namespace": "grown"}
    message = refused(server.post("dense", "/vectors/update", change, version))
    assert named(message) == "setMetadata"
    assert message.endswith("Metadata size is 50023 bytes, which exceeds the limit of 40960 bytes per vector")
    assert server.ask("DELETE", "dense", "/namespaces/grown").json() == {}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scanFactor": 0.4}, "scanFactor"),
        ({"scanFactor": "1"}, "scanFactor"),
        ({"scanFactor": True}, "scanFactor"),
        ({"maxCandidates": 4, "topK": 5}, "maxCandidates"),
        ({"maxCandidates": 100_001}, "maxCandidates"),
        ({"maxCandidates": 5.5}, "maxCandidates"),
    ],
)
def test_hints_that_are_refused(server: DataServer, changes: dict[str, Any], field: str) -> None:
    body = {"vector": [1, 2, 3], "topK": 1, **changes}
    assert named(refused(server.post("dense", "/query", body))) == field


def test_hints_that_are_taken(server: DataServer) -> None:
    vectors = [{"id": "a", "values": [1, 2, 3]}]
    server.post("dense", "/vectors/upsert", {"vectors": vectors, "namespace": "hints"})
    plain = {"vector": [1, 2, 3], "topK": 5, "namespace": "hints"}
    without = server.post("dense", "/query", plain).json()
    for hints in ({"scanFactor": 0.5, "maxCandidates": 5}, {"scanFactor": 4, "maxCandidates": 100_000}):
        assert server.post("dense", "/query", plain | hints).json() == without
    assert server.ask("DELETE", "dense", "/namespaces/hints").json() == {}


@pytest.mark.parametrize("limit", ["+5", " 5", "1_0", "5.0", "", "५", "1" * 19])
def test_limits_that_are_no_numbers(server: DataServer, limit: str) -> None:
    for path in ("/vectors/list", "/namespaces"):
        assert named(refused(server.get("dense", path, limit=limit))) == "limit"


# --- what namespaces declare -----------------------------------------------------------------------------------------

SCHEMA = {"fields": {"genre": {"filterable": True}, "_year": {"filterable": True}}}


@pytest.mark.parametrize("version", VERSIONS)
def test_schema(server: DataServer, version: str) -> None:
    name = f"films-{version}"
    made = server.post("dense", "/namespaces", {"name": name, "schema": SCHEMA}, version).json()
    wanted: dict[str, Any] = {"name": name, "record_count": 0}
    if version == "2026-07":
        wanted |= {"record_count": "0", "size_bytes": "0"}
    if version > "2025-04":
        wanted |= {"schema": SCHEMA, "indexed_fields": {"fields": ["genre", "_year"]}}
    assert made == wanted
    assert server.get("dense", f"/namespaces/{name}", version).json() == wanted
    assert server.get("dense", "/namespaces", version, prefix=name).json()["namespaces"] == [wanted]
    assert server.post("dense", "/vectors/delete", {"deleteAll": True, "namespace": name}, version).json() == {}
    vectors = {"vectors": [{"id": "a", "values": [1, 2, 3]}], "namespace": name}
    server.post("dense", "/vectors/upsert", vectors, version)
    assert "schema" not in server.get("dense", f"/namespaces/{name}", version).json()
    assert server.ask("DELETE", "dense", f"/namespaces/{name}").json() == {}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ([], "schema"),
        ({}, "schema.fields"),
        ({"fields": []}, "schema.fields"),
        ({"fields": {"x": {"filterable": False}}}, "schema.fields.x.filterable"),
        ({"fields": {"$x": {"filterable": True}}}, "schema.fields.$x"),
        ({"fields": {f"f{n}": {"filterable": True} for n in range(51)}}, "schema.fields"),
    ],
)
def test_schemas_that_are_refused(server: DataServer, schema: object, field: str) -> None:
    for version in ("2025-10", "2026-07"):
        answer = server.post("dense", "/namespaces", {"name": "bad", "schema": schema}, version)
        assert named(refused(answer)) == field
        refused(server.get("dense", "/namespaces/bad", version), 404, 5)


def test_filterable_may_be_left_out_before_2026_07(server: DataServer) -> None:
    body = {"name": "short", "schema": {"fields": {"genre": {}}}}
    assert named(refused(server.post("dense", "/namespaces", body))) == "schema.fields.genre.filterable"
    made = server.post("dense", "/namespaces", body, "2026-04").json()
    assert made["schema"] == {"fields": {"genre": {"filterable": True}}}
    assert server.ask("DELETE", "dense", "/namespaces/short").json() == {}


# --- other paths and methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_method_is_said_in_the_planes_own_shape(server: DataServer, version: str) -> None:
    for method, path, allowed in (
        ("GET", "/query", "POST"),
        ("PUT", "/namespaces", "GET or POST"),
        ("OPTIONS", "/vectors/delete", "DELETE or POST"),
        ("PATCH", "/namespaces/a%2Fb", "DELETE or GET"),
    ):
        answer = server.ask(method, "dense", path, version)
        assert refused(answer, 405, 12) == f"Method {method} is not allowed here, use {allowed}"
        assert answer.headers["allow"] == allowed.replace(" or ", ", ")
    answer = server.ask("GET", "dense", "/records/namespaces/n/upsert", version)
    if version == "2026-07":
        problem(answer, 405, "INVALID_ARGUMENT")
    else:
        refused(answer, 405, 12)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_path_that_is_not_there_is_said_in_the_planes_own_shape(server: DataServer, version: str) -> None:
    for path in ("", "/", "/nothing", "/bulk/imports", "/query/", "/vectors"):
        assert "There is nothing at" in refused(server.get("dense", path, version), 404, 5)
    answer = server.get("dense", "/records/nothing", version)
    if version == "2026-07":
        problem(answer, 404, "NOT_FOUND")
    else:
        refused(answer, 404, 5)


@pytest.mark.parametrize("verb", ["upsert", "search", "fetch", "list", "update", "delete"])
def test_documents_name_the_right_api(server: DataServer, verb: str) -> None:
    """No index here holds documents, so Pinecone answers 400."""
    path = f"/namespaces/n/documents/{verb}"
    assert "/vectors/upsert and /query" in problem(server.post("dense", path, {}))
    assert "/records/namespaces" in problem(server.post("texts", path, {}))
    problem(server.post("none", path, {}), 404, "NOT_FOUND")
