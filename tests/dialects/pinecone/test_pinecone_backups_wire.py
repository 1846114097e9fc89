"""Backups, restore jobs and collections over a live server, at every version, and how bad input is refused."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dialects.pinecone.backup_server import backup_server
from tests.dialects.pinecone.pinecone_index_bodies import dense_body

VERSIONS = ("2025-04", "2025-10", "2026-04", "2026-07")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
POD = {"name": "pods", "dimension": 3, "metric": "euclidean", "spec": {"pod": {"environment": "us-east1-gcp"}}}
VECTORS = [{"id": f"v{n}", "values": [1.0, n / 7, 0.5], "metadata": {"n": n}} for n in range(9)]
DEADLINE = 60.0


class Api:
    """Requests at one version."""

    def __init__(self, client: httpx.Client, version: str) -> None:
        self._client = client
        self.version = version

    def __call__(self, method: str, path: str, body: object = None, **query: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"X-Pinecone-Api-Version": self.version}
        return self._client.request(method, path, content=content, headers=headers, params=query)

    def at(self, version: str) -> Api:
        return Api(self._client, version)

    def json(self, method: str, path: str, body: object = None, status: int = 200, **query: Any) -> Any:
        response = self(method, path, body, **query)
        assert response.status_code == status, response.text
        return response.json()

    def until(self, path: str, is_done: Callable[[Any], bool]) -> Any:
        until = time.monotonic() + DEADLINE
        while not is_done(found := self.json("GET", path)):
            assert time.monotonic() < until, found
            threading.Event().wait(0.005)
        return found

    def backed_up(self, index: str, **body: Any) -> Any:
        made = self.json("POST", f"/indexes/{index}/backups", body, 200 if self.version == "2026-07" else 201)
        return self.until(f"/backups/{made['backup_id']}", lambda found: found["status"] != "Initializing")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with backup_server(tmp_path_factory.mktemp("backups")) as made:
        yield made


@pytest.fixture
def api(url: str) -> Iterator[Api]:
    with httpx.Client(base_url=url) as client:
        yield (api := Api(client, "2026-07"))
        for kind, key in (("indexes", "name"), ("collections", "name")):
            for model in api.json("GET", f"/{kind}")[kind]:
                assert api("DELETE", f"/{kind}/{model[key]}").status_code == 202
        for model in api.json("GET", "/backups")["data"]:
            assert api("DELETE", f"/backups/{model['backup_id']}").status_code == 202


@pytest.fixture
def notes(api: Api) -> None:
    """An index of 9 records in two namespaces."""
    api.json("POST", "/indexes", dense_body("2026-07", tags={"team": "a"}) | {"schema": {"fields": {"_values": {
        "type": "dense_vector", "dimension": 3, "metric": "cosine"}}}}, 201)  # fmt: skip
    fill(api, "notes")


def fill(api: Api, index: str) -> None:
    for namespace, vectors in (("", VECTORS[:5]), ("other", VECTORS[5:])):
        api.json("POST", f"/i/{index}/vectors/upsert", {"vectors": vectors, "namespace": namespace})


def values(api: Api, index: str) -> dict[str, Any]:
    ids = [vector["id"] for vector in VECTORS]
    return {
        namespace: api.json("GET", f"/i/{index}/vectors/fetch", ids=ids, namespace=namespace)["vectors"]
        for namespace in ("", "other")
    }


def refused(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error", "status"}
    assert body["status"] == status
    assert body["error"].keys() == {"code", "message"}
    assert body["error"]["code"] == code
    message: str = body["error"]["message"]
    return message


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("notes")
def test_the_life_of_a_backup(api: Api, version: str) -> None:
    api, newest = api.at(version), version == "2026-07"
    source = values(api, "notes")
    body = {"name": "nightly", "description": "of today"}
    made = api.json("POST", "/indexes/notes/backups", body, 200 if newest else 201)
    assert made["status"] in ("Initializing", "Ready")
    id = made["backup_id"]
    found = api.until(f"/backups/{id}", lambda found: found["status"] == "Ready")
    assert UUID.fullmatch(id) and MOMENT.fullmatch(found["created_at"])
    assert found["size_bytes"] > 9 * 3 * 4
    shape = {
        "2025-04": {"dimension": 3, "metric": "cosine"},
        "2025-10": {"dimension": 3, "metric": "cosine"},
        "2026-04": {"dimension": 3, "metric": "cosine"},
        "2026-07": {"schema": api.at("2026-07").json("GET", "/indexes/notes")["schema"]},
    }
    own = {name: made[name] for name in ("backup_id", "source_index_id", "created_at")}
    assert found == own | body | shape[version] | {
        "source_index_name": "notes", "status": "Ready", "cloud": "aws", "region": "us-east-1",
        "record_count": 9, "namespace_count": 2, "size_bytes": found["size_bytes"], "tags": {"team": "a"},
    }  # fmt: skip
    for path in ("/backups", "/indexes/notes/backups"):
        assert api.json("GET", path) == {"data": [found], "pagination": None}

    wanted = {"name": "again", "tags": {"b": "c"}, "deletion_protection": "enabled"}
    answer = api.json("POST", f"/backups/{id}/create-index", wanted, 202)
    assert answer.keys() == {"restore_job_id", "index_id"}
    # It is there at once.
    assert api.json("GET", "/indexes/again")["status"]["state"] in ("Initializing", "Ready")
    job = api.until(f"/restore-jobs/{answer['restore_job_id']}", lambda job: job["status"] != "Pending")
    assert job == {
        "restore_job_id": answer["restore_job_id"], "backup_id": id, "target_index_name": "again",
        "target_index_id": answer["index_id"], "status": "Completed", "percent_complete": 100,
        "created_at": job["created_at"], "completed_at": job["completed_at"],
    }  # fmt: skip
    assert MOMENT.fullmatch(job["created_at"]) and MOMENT.fullmatch(job["completed_at"])
    assert api.json("GET", "/restore-jobs", limit=1)["data"] == [job]
    again = api.json("GET", "/indexes/again")
    assert again["status"] == {"ready": True, "state": "Ready"}
    assert (again["tags"], again["deletion_protection"]) == ({"b": "c"}, "enabled")
    assert again.get("source_backup_id") == (id if newest else None)
    assert values(api, "again") == source
    if newest:
        assert api("PATCH", "/indexes/again", {"deletion_protection": "disabled"}).status_code == 200
    else:
        assert api("PATCH", "/indexes/again", {"deletion_protection": "disabled"}).status_code == 202

    # It outlives its index.
    assert api("DELETE", "/indexes/notes").status_code == 202
    found = api.json("GET", f"/backups/{id}")
    assert ("source_index_deleted_at" in found) == newest
    assert refused(api("GET", "/indexes/notes/backups"), 404, "NOT_FOUND") == "Index notes not found"
    assert api.json("GET", "/backups")["data"] == [found]
    deleted = api("GET", "/indexes/notes/backups", include_deleted="true")
    assert deleted.json()["data"] == [found]
    gone = api("DELETE", f"/backups/{id}")
    assert (gone.status_code, gone.content) == (202, b"")
    for method, path, more in (("GET", "", None), ("DELETE", "", None), ("POST", "/create-index", {"name": "x"})):
        response = api(method, f"/backups/{id}{path}", more)
        assert refused(response, 404, "NOT_FOUND") == f"Backup {id} not found"
    assert api.json("GET", "/backups") == {"data": [], "pagination": None}


@pytest.mark.usefixtures("notes")
def test_pages(api: Api) -> None:
    ids = [api.backed_up("notes")["backup_id"] for _ in range(11)][::-1]
    for path in ("/backups", "/indexes/notes/backups"):
        for version in VERSIONS:
            whole = 100 if version == "2026-07" else 10
            first = api.at(version).json("GET", path)
            assert [backup["backup_id"] for backup in first["data"]] == ids[:whole]
            assert (first["pagination"] is None) == (version == "2026-07")
            seen: list[list[str]] = []
            query: dict[str, Any] | None = {"limit": 4}
            while query is not None:
                page = api.at(version).json("GET", path, **query)
                seen.append([backup["backup_id"] for backup in page["data"]])
                query = page["pagination"] and {"paginationToken": page["pagination"]["next"]}
            assert seen == [ids[:4], ids[4:8], ids[8:]]
            for wrong, names in (
                ({"limit": 0}, "'limit'"),
                ({"limit": "x"}, "'limit'"),
                ({"limit": 1001}, "'limit'"),
                ({"paginationToken": "x"}, "'paginationToken'"),
                ({"paginationToken": "WyJhIiwxMF0="}, "'paginationToken'"),
            ):
                for listing in (path, "/restore-jobs"):
                    message = refused(api.at(version)("GET", listing, **wrong), 400, "INVALID_ARGUMENT")
                    assert names in message
    assert refused(api.at("2026-04")("GET", "/backups", limit=101), 400, "INVALID_ARGUMENT")


@pytest.mark.usefixtures("notes")
def test_bad_input(api: Api) -> None:
    id = api.backed_up("notes")["backup_id"]
    api.at("2025-10").json("POST", "/indexes", POD, 201)
    backups, create, collections = "/indexes/notes/backups", f"/backups/{id}/create-index", "/collections"
    for version in VERSIONS:
        cases: list[tuple[str, object, int, str]] = [
            (backups, b"", 400, "JSON"),
            (backups, [], 422, "object"),
            (backups, {"name": 1}, 422, "'name'"),
            ("/indexes/nothing/backups", {}, 404, "Index nothing"),
            ("/indexes/pods/backups", {}, 400, "collection"),
            (create, {}, 422, "'name'"),
            (create, {"name": "No"}, 400, "'name'"),
            (create, {"name": "x" * 46}, 400, "'name'"),
            (create, {"name": "notes"}, 409, "exists"),
            (create, {"name": "a", "tags": {"a": 1}}, 422, "'tags"),
            (create, {"name": "a", "tags": {"a b": "1"}}, 400, "'tags"),
            (create, {"name": "a", "deletion_protection": "x"}, 400, "'deletion_protection'"),
            ("/backups/nothing/create-index", {"name": "a"}, 404, "Backup nothing"),
            (collections, {"name": "a"}, 422, "'source'"),
            (collections, {"name": "A", "source": "pods"}, 400, "'name'"),
            (collections, {"name": "a", "source": "notes"}, 400, "'source'"),
            (collections, {"name": "a", "source": "nothing"}, 404, "Index nothing"),
        ]
        if version == "2026-07":
            cases += [
                (backups, {"name": "No"}, 400, "'name'"),
                (create, {"name": "a", "schema": {}}, 422, "'schema'"),
                (create, {"name": "a", "read_capacity": {"mode": "x"}}, 422, "'read_capacity"),
                (
                    create,
                    {"name": "a", "read_capacity": {"mode": "Dedicated", "dedicated": {}}},
                    400,
                    "'read_capacity.dedicated.node_type'",
                ),
            ]
        codes = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 409: "ALREADY_EXISTS", 422: "UNPROCESSABLE_ENTITY"}
        for path, body, status, names in cases:
            assert names in refused(api.at(version)("POST", path, body), status, codes[status]), (path, body)
        for path in ("/backups/%00", "/restore-jobs/x", "/collections/x", f"/restore-jobs/{id}"):
            assert refused(api.at(version)("GET", path), 404, "NOT_FOUND")
        code = "INVALID_ARGUMENT" if version == "2026-07" else "UNIMPLEMENTED"
        assert "PUT" in refused(api.at(version)("PUT", "/backups"), 405, code)
    assert [model["backup_id"] for model in api.json("GET", "/backups")["data"]] == [id]
    assert [model["name"] for model in api.json("GET", "/indexes")["indexes"]] == ["notes", "pods"]
    assert api.json("GET", "/collections") == {"collections": []}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_life_of_a_collection(api: Api, version: str) -> None:
    api, older = api.at(version), api.at("2025-04")
    assert api.json("GET", "/collections") == {"collections": []}
    older.json("POST", "/indexes", POD, 201)
    fill(api, "pods")
    source = values(api, "pods")
    made = api.json("POST", "/collections", {"name": "old", "source": "pods"}, 201)
    assert made["status"] in ("Initializing", "Ready")
    found = api.until("/collections/old", lambda found: found["status"] == "Ready")
    shown = {"name": "old", "status": "Ready", "environment": "us-east1-gcp", "dimension": 3, "vector_count": 9}
    assert found == shown | {"size": found["size"]}
    assert found["size"] > 9 * 3 * 4
    assert api.json("GET", "/collections") == {"collections": [found]}
    assert refused(api("POST", "/collections", {"name": "old", "source": "pods"}), 409, "ALREADY_EXISTS")
    pod = {"environment": "us-east1-gcp", "pod_type": "s1.x1", "source_collection": "old"}
    body = POD | {"name": "again", "spec": {"pod": pod}}
    message = refused(older("POST", "/indexes", body | {"dimension": 4}), 400, "INVALID_ARGUMENT")
    assert "'dimension'" in message
    assert older.json("POST", "/indexes", body, 201)["spec"]["pod"]["source_collection"] == "old"
    model = older.until("/indexes/again", lambda found: found["status"]["ready"])
    assert model["spec"]["pod"]["source_collection"] == "old"
    assert values(api, "again") == source
    gone = api("DELETE", "/collections/old")
    assert (gone.status_code, gone.content) == (202, b"")
    assert refused(api("GET", "/collections/old"), 404, "NOT_FOUND") == "Collection old not found"
    assert refused(api("DELETE", "/collections/old"), 404, "NOT_FOUND")
    assert "old" in refused(older("POST", "/indexes", body | {"name": "more"}), 404, "NOT_FOUND")
    # What made the index is no restore job.
    assert all(UUID.fullmatch(job["backup_id"]) for job in api.json("GET", "/restore-jobs")["data"])


def test_a_wrong_key(tmp_path: Path) -> None:
    with backup_server(tmp_path, keys=("secret",)) as url, httpx.Client(base_url=url) as client:
        for version in VERSIONS:
            for path in ("/backups", "/restore-jobs", "/collections", "/indexes/a/backups"):
                response = Api(client, version)("GET", path)
                if version == "2026-07":
                    assert (response.status_code, response.text) == (401, "Invalid API key")
                else:
                    assert "Invalid API key" in refused(response, 401, "UNAUTHENTICATED")
