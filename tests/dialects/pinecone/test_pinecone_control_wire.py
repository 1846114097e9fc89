"""Pinecone's control plane over a live server: every version's life of an index, and how bad input is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.dialects.pinecone.control_server import ControlServer, control_server
from tests.dialects.pinecone.pinecone_index_bodies import (
    BAD,
    BAD_FOR_MODEL,
    BAD_V27,
    DENSE,
    MODEL_BODY,
    SERVERLESS,
    Body,
    dense_body,
    reads,
    sparse_body,
)
from tests.grounds import GROUNDS

VERSIONS = ("2025-04", "2025-10", "2026-04", "2026-07")
OLDER = VERSIONS[:-1]


@pytest.fixture(scope="module", params=GROUNDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlServer]:
    """One server for the whole file: what a bad request breaks in it, every later test would see."""
    with control_server(tmp_path_factory.mktemp("control"), on=request.param) as made:
        yield made


class Api:
    """Requests at one version."""

    def __init__(self, client: httpx.Client, version: str) -> None:
        self._client = client
        self.version = version

    def __call__(self, method: str, path: str, body: object = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"X-Pinecone-Api-Version": self.version}
        return self._client.request(method, path, content=content, headers=headers)

    def at(self, version: str) -> Api:
        return Api(self._client, version)

    def describe(self, name: str) -> dict[str, Any]:
        response = self("GET", f"/indexes/{name}")
        assert response.status_code == 200, response.text
        model: dict[str, Any] = response.json()
        return model


@pytest.fixture
def api(server: ControlServer) -> Iterator[Api]:
    with httpx.Client(base_url=server.url) as client:
        yield Api(client, "2026-07")
        for model in client.get("/indexes").json()["indexes"]:
            client.patch(f"/indexes/{model['name']}", json={"deletion_protection": "disabled"})
            assert client.delete(f"/indexes/{model['name']}").status_code == 202


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


@pytest.mark.parametrize("version", VERSIONS)
def test_life(api: Api, version: str) -> None:
    api = api.at(version)
    made = api("POST", "/indexes", dense_body(version, tags={"a": "1", "b": "2"}, deletion_protection="enabled"))
    assert made.status_code == 201, made.text
    model = made.json()
    assert model["status"] == {"ready": True, "state": "Ready"}
    assert model["host"].startswith("http://localhost:")
    assert api.describe("notes") == model
    assert api("GET", "/indexes").json() == {"indexes": [model]}
    assert "exists" in refused(api("POST", "/indexes", dense_body(version)), 409, "ALREADY_EXISTS")

    changed = api("PATCH", "/indexes/notes", {"tags": {"b": "", "c": "3"}})
    assert changed.status_code == (200 if version == "2026-07" else 202)
    assert changed.json() == model | {"tags": {"a": "1", "c": "3"}}

    assert "protection" in refused(api("DELETE", "/indexes/notes"), 403, "FORBIDDEN")
    api("PATCH", "/indexes/notes", {"deletion_protection": "disabled"})
    gone = api("DELETE", "/indexes/notes")
    assert (gone.status_code, gone.content) == (202, b"")
    assert refused(api("GET", "/indexes/notes"), 404, "NOT_FOUND") == "Index notes not found"
    assert refused(api("DELETE", "/indexes/notes"), 404, "NOT_FOUND")
    assert refused(api("PATCH", "/indexes/notes", {}), 404, "NOT_FOUND")
    assert api("GET", "/indexes").json() == {"indexes": []}


def test_an_index_is_the_same_whichever_version_made_it(api: Api) -> None:
    """Every pair of versions, for a dense, a sparse and an integrated index."""
    described: dict[str, list[Any]] = {version: [] for version in VERSIONS}
    for maker in VERSIONS:
        for path, body in (
            ("/indexes", dense_body(maker)),
            ("/indexes", sparse_body(maker)),
            ("/indexes/create-for-model", MODEL_BODY),
        ):
            response = api.at(maker)("POST", path, body)
            assert response.status_code == 201, response.text
            assert response.json() == api.at(maker).describe(response.json()["name"])
        for reader in VERSIONS:
            models = api.at(reader)("GET", "/indexes").json()["indexes"]
            described[reader].append([{key: model[key] for key in model if key != "host"} for model in models])
        for name in ("notes", "terms", "faq"):
            api("DELETE", f"/indexes/{name}")
    for reader in VERSIONS:
        assert described[reader] == [described[reader][0]] * 4
    ready = {"status": {"ready": True, "state": "Ready"}, "deletion_protection": "disabled"}
    embed = {
        "model": "all-minilm-l6-v2",
        "metric": "cosine",
        "dimension": 384,
        "vector_type": "dense",
        "field_map": {"text": "body"},
        "read_parameters": {"input_type": "query"},
    }
    assert described["2025-04"][0] == [
        {"name": "faq", "dimension": 384, "metric": "cosine", "vector_type": "dense", "embed": embed}
        | ready
        | {"spec": SERVERLESS},
        {"name": "notes", "dimension": 8, "metric": "cosine", "vector_type": "dense", "spec": SERVERLESS} | ready,
        {"name": "terms", "metric": "dotproduct", "vector_type": "sparse", "spec": SERVERLESS} | ready,
    ]


def test_an_index_of_pods_at_every_version(api: Api) -> None:
    spec = {"environment": "us-east1-gcp", "pod_type": "p1.x1", "replicas": 1, "shards": 1, "pods": 1}
    body = {"name": "pods", "dimension": 8, "spec": {"pod": spec | {"metadata_config": {"indexed": ["genre"]}}}}
    assert api.at("2025-10")("POST", "/indexes", body).status_code == 201
    for replicas in (0, 2**31, 2**64):
        body = {"deployment": {"replicas": replicas}}
        assert "'deployment.replicas'" in refused(api("PATCH", "/indexes/pods", body), 400, "INVALID_ARGUMENT")
    changed = api("PATCH", "/indexes/pods", {"deployment": {"replicas": 3}})
    assert changed.status_code == 200, changed.text
    assert changed.json()["deployment"]["replicas"] == 3
    assert "read_capacity" not in changed.json()
    for version in OLDER:
        changed = api.at(version)("PATCH", "/indexes/pods", {"spec": {"pod": {"pod_type": "p1.x2"}}})
        assert changed.json()["spec"]["pod"]["pods"] == 3
        assert changed.json()["spec"]["pod"]["pod_type"] == "p1.x2"
        message = refused(
            api.at(version)("PATCH", "/indexes/pods", {"spec": {"serverless": {}}}), 400, "INVALID_ARGUMENT"
        )
        assert "'spec.serverless'" in message


def test_a_name_is_made_up_at_2026_07(api: Api) -> None:
    names = [api("POST", "/indexes", {"schema": {"fields": {"_values": DENSE}}}).json()["name"] for _ in range(2)]
    assert len({*names}) == 2
    assert [model["name"] for model in api("GET", "/indexes").json()["indexes"]] == sorted(names)


def test_a_plain_index_is_given_a_model(api: Api) -> None:
    api("POST", "/indexes", dense_body("2026-07") | {"schema": {"fields": {"_values": DENSE | {"dimension": 384}}}})
    embed = {"model": "all-minilm-l6-v2", "field_map": {"text": "body"}}
    older = api.at("2025-04")("PATCH", "/indexes/notes", {"embed": embed})
    assert older.status_code == 202, older.text
    assert older.json()["embed"]["field_map"] == {"text": "body"}
    assert list(api.describe("notes")["schema"]["fields"]) == ["body"]
    patch = {"schema": {"fields": {"body": {"type": "semantic_text", "read_parameters": {"input_type": "query"}}}}}
    assert api("PATCH", "/indexes/notes", patch).status_code == 200
    assert api.at("2026-04").describe("notes")["embed"]["read_parameters"] == {"input_type": "query"}
    patch["schema"]["fields"]["body"]["read_parameters"] = {"input_type": "x"}
    message = refused(api("PATCH", "/indexes/notes", patch), 400, "INVALID_ARGUMENT")
    assert "'schema.fields.body.read_parameters.input_type'" in message
    patch = {"schema": {"fields": {"other": {"type": "semantic_text"}}}}
    assert "'schema.fields.other'" in refused(api("PATCH", "/indexes/notes", patch), 400, "INVALID_ARGUMENT")


def test_an_index_named_as_the_verb(api: Api) -> None:
    assert api("POST", "/indexes", dense_body("2026-07", "create-for-model")).status_code == 201
    assert api.describe("create-for-model")["name"] == "create-for-model"
    assert api("PATCH", "/indexes/create-for-model", {"tags": {"a": "b"}}).json()["tags"] == {"a": "b"}
    assert api("DELETE", "/indexes/create-for-model").status_code == 202


@pytest.mark.parametrize("name", ["a%2Fb", "%00", "%C3%A9", "a%0A", "x" * 2000, "..%2f"])
def test_names_that_no_index_has(api: Api, name: str) -> None:
    for method in ("GET", "DELETE"):
        response = api(method, f"/indexes/{name}")
        assert response.status_code == 404, response.text


# --- bad input -------------------------------------------------------------------------------------------------------

CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 422: "UNPROCESSABLE_ENTITY"}


@pytest.mark.parametrize(("path", "body", "status", "names"), BAD + BAD_FOR_MODEL)
def test_bad_bodies(api: Api, path: str, body: object, status: int, names: str) -> None:
    for version in ("2025-04", "2026-04"):
        assert names in refused(api.at(version)("POST", path, body), status, CODES[status])
    assert api("GET", "/indexes").json() == {"indexes": []}


@pytest.mark.parametrize(("path", "body", "status", "names"), BAD_V27 + BAD_FOR_MODEL)
def test_bad_bodies_at_2026_07(api: Api, path: str, body: object, status: int, names: str) -> None:
    # 2026-07 has no UNIMPLEMENTED any more.
    assert names in refused(api("POST", path, body), status, CODES.get(status, "INVALID_ARGUMENT"))
    assert api("GET", "/indexes").json() == {"indexes": []}


@pytest.mark.parametrize(
    ("version", "body", "status", "names"),
    [
        ("2025-04", {"spec": {}}, 422, "'spec'"),
        ("2025-10", {"spec": {"pod": {"replicas": 2}}}, 400, "'spec.pod'"),
        ("2025-10", {"spec": {"serverless": {"read_capacity": reads(node_type=None)}}}, 400, "node_type"),
        ("2026-04", {"embed": {"model": "all-minilm-l6-v2", "field_map": {"text": "t"}}}, 400, "'embed.model'"),
        ("2026-04", {"embed": {"model": "nothing", "field_map": {"text": "t"}}}, 404, "Model 'nothing'"),
        ("2026-04", {"embed": {"field_map": {"text": "t"}}}, 400, "'embed.model'"),
        ("2026-04", {"tags": {"a": None}}, 422, "'tags'"),
        ("2026-04", {"deletion_protection": "x"}, 400, "'deletion_protection'"),
        ("2026-07", {"deletion_protection": "x"}, 400, "'deletion_protection'"),
        ("2026-07", {"embed": {}}, 422, "'embed'"),
        ("2026-07", {"spec": SERVERLESS}, 422, "'spec'"),
        ("2026-07", {"deployment": {"replicas": 2}}, 400, "'deployment'"),
        ("2026-07", {"deployment": {"deployment_type": "pod"}}, 422, "'deployment.deployment_type'"),
        ("2026-07", {"schema": {"fields": {}}}, 400, "'schema.fields'"),
        ("2026-07", {"schema": {"fields": {"b": {"type": "semantic_text"}}}}, 400, "'schema.fields.b'"),
        (
            "2026-07",
            {"read_capacity": {"mode": "Dedicated", "dedicated": {"scaling": "Manual"}}},
            400,
            "'read_capacity.dedicated'",
        ),
        ("2026-07", {"read_capacity": reads(node_type=None)}, 400, "'read_capacity.dedicated.node_type'"),
        (
            "2026-07",
            {"read_capacity": reads(manual={"replicas": 2**70, "shards": 1})},
            400,
            "'read_capacity.dedicated.manual.replicas'",
        ),
    ],
)
def test_bad_changes(api: Api, version: str, body: Body, status: int, names: str) -> None:
    before = api("POST", "/indexes", dense_body("2026-07")).json()
    assert names in refused(api.at(version)("PATCH", "/indexes/notes", body), status, CODES[status])
    assert api.describe("notes") == before


def test_a_body_over_the_limit(api: Api) -> None:
    body = dense_body("2026-07", tags={"a": "b" * (1 << 16)})
    refused(api("POST", "/indexes", body), 413, "PAYLOAD_TOO_LARGE")
    refused(api.at("2026-04")("POST", "/indexes", body), 413, "INVALID_ARGUMENT")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_method_or_path(api: Api, version: str) -> None:
    api = api.at(version)
    code = "INVALID_ARGUMENT" if version == "2026-07" else "UNIMPLEMENTED"
    for method, path, allowed in (("PUT", "/indexes", "GET or POST"), ("POST", "/indexes/a", "DELETE or GET or PATCH")):
        message = refused(api(method, path), 405, code)
        assert message == f"Method {method} is not allowed here, use {allowed}"
    for path in ("/indexes/", "/indexes/a/b"):
        assert refused(api("GET", path), 404, "NOT_FOUND") == f"There is nothing at '{path}'"


def test_a_version_that_is_none(api: Api) -> None:
    assert "X-Pinecone-Api-Version" in refused(api.at("latest")("GET", "/indexes"), 400, "INVALID_ARGUMENT")


def test_a_wrong_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        control_server(tmp_path_factory.mktemp("keys"), keys=("secret",)) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        newest = Api(client, "2026-07")("GET", "/indexes")
        assert (newest.status_code, newest.text) == (401, "Invalid API key")
        assert newest.headers["content-type"].startswith("text/plain")
        assert newest.headers["x-pinecone-request-id"]
        for version in OLDER:
            refused(Api(client, version)("GET", "/indexes"), 401, "UNAUTHENTICATED")
        # Inference has JSON at every version.
        refused(Api(client, "2026-07")("GET", "/models"), 401, "UNAUTHENTICATED")
