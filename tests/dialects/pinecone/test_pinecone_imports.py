"""Bulk imports as Pinecone's clients see them: bodies of every version, errors, and the SDK itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pinecone
import pytest
from pinecone import ImportErrorMode, Pinecone

from tests.dialects.pinecone.import_server import ImportServer, import_server, until
from tests.dialects.pinecone.pinecone_data_server import VERSIONS
from tests.dialects.pinecone.sdk import run_python, run_typescript
from tests.services.import_files import table, write

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImportServer]:
    with import_server(tmp_path) as server:
        yield server


@pytest.fixture
def index(server: ImportServer) -> Iterator[Any]:
    retries = pinecone.RetryConfig(max_retries=0)
    with (
        Pinecone(api_key="any", host=server.url, retry_config=retries) as client,
        client.Index(host=server.host()) as index,
    ):
        yield index


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_import_at_each_version(server: ImportServer, version: str) -> None:
    write(server.files / "n" / "0.parquet", table(30, id=["", *map(str, range(29))]))
    found = server.started(server.uri, version, errorMode={"onError": "continue"})
    assert MOMENT.fullmatch(found.pop("createdAt")) and MOMENT.fullmatch(found.pop("finishedAt"))
    validation = {"validationResult": {"importSuccesses": 29, "importErrors": 1}} if version == "2026-07" else {}
    assert found == {
        "id": found["id"],
        "uri": server.uri,
        "status": "Completed",
        "percentComplete": 100.0,
        "recordsImported": 29,
        **validation,
    }
    listed = server.ask("GET", "", version).json()
    assert list(listed) == ["data"] and [each["id"] for each in listed["data"]] == [found["id"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_import_says_why(server: ImportServer, version: str) -> None:
    write(server.files / "n" / "0.parquet", table(3, id=["a", "", "c"]))
    found = server.started(server.uri, version)
    assert (found["status"], found["recordsImported"], found["percentComplete"]) == ("Failed", 0, 0.0)
    assert found["error"] == "n/0.parquet, row 1: id: must not be empty"


def test_pages(server: ImportServer) -> None:
    ids = []
    for at in range(3):
        write(server.files / str(at) / f"n{at}" / "0.parquet", table(1))
        ids.append(server.started(f"{server.uri}/{at}")["id"])
    first = server.ask("GET", "", params={"limit": 2}).json()
    assert [each["id"] for each in first["data"]] == [ids[2], ids[1]]
    last = server.ask("GET", "", params={"paginationToken": first["pagination"]["next"]}).json()
    assert [each["id"] for each in last["data"]] == [ids[0]] and "pagination" not in last


def test_cancelling(server: ImportServer) -> None:
    for at in range(20):
        write(server.files / "n" / f"{at:02}.parquet", table(5000, f"{at}-"))
    id = server.ask("POST", "", json={"uri": server.uri}).json()["id"]
    until(lambda: server.ask("GET", f"/{id}").json(), lambda found: found["recordsImported"] > 0)
    answer = server.ask("DELETE", f"/{id}")
    assert (answer.status_code, answer.json()) == (200, {})
    found = until(lambda: server.ask("GET", f"/{id}").json(), lambda found: found["status"] != "InProgress")
    assert found["status"] == "Cancelled" and 0 < found["percentComplete"] < 100
    assert server.ask("DELETE", f"/{id}").status_code == 200  # it has finished: no effect


# --- errors ----------------------------------------------------------------------------------------------------------

BAD_BODIES: list[tuple[Any, str]] = [
    ({}, "Invalid value for 'uri': is required"),
    ({"uri": 3}, "Invalid value for 'uri': Expected `str`, got `int`"),
    ({"uri": ""}, "Invalid value for 'uri': must have 1 to 1500 characters, and has 0"),
    ({"uri": "s3://films/x", "mode": "x"}, "Invalid value for 'mode': is not a known field"),
    ({"uri": "s3://films/x", "integrationId": "i"}, "Invalid value for 'integrationId': names no integration"),
    ({"uri": "s3://films/x", "errorMode": {"onError": "stop"}}, "Invalid value for 'errorMode.onError': must be abort"),
    ({"uri": "file:///etc"}, "Invalid value for 'uri': is outside the folders that this server may import from"),
    ({"uri": "https://127.0.0.1/films/x"}, "Invalid value for 'uri': names a host that this server does not import"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("body, message", BAD_BODIES)
def test_bad_bodies(server: ImportServer, version: str, body: Any, message: str) -> None:
    answer = server.ask("POST", "", version, json=body)
    assert answer.status_code == 400, answer.text
    said = answer.json()
    assert said["message"].startswith(message) and (said["code"], said["details"]) == (3, [])


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_refused_before_anything_is_written(server: ImportServer, version: str) -> None:
    write(server.files / "n" / "0.parquet", table(3, values=None))
    answer = server.ask("POST", "", version, json={"uri": server.uri})
    message = "Invalid value for 'uri': holds n/0.parquet, which has no column values, which this index needs"
    assert (answer.status_code, answer.json()) == (400, {"code": 3, "message": message, "details": []})
    assert server.ask("GET", "", version).json() == {"data": []}


@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_imports(server: ImportServer, version: str) -> None:
    for method in ("GET", "DELETE"):
        answer = server.ask(method, "/101", version)
        assert (answer.status_code, answer.json()["code"]) == (404, 5)
        assert answer.json()["message"] == "Import 101 not found"


@pytest.mark.parametrize(
    "params", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"paginationToken": "x"}, {"page": "1"}]
)
def test_bad_queries(server: ImportServer, params: dict[str, str]) -> None:
    answer = server.ask("GET", "", params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert f"'{next(iter(params))}'" in answer.json()["message"]


# --- the SDK ---------------------------------------------------------------------------------------------------------


def test_the_sdk_imports(server: ImportServer, index: Any) -> None:
    write(server.files / "films" / "0.parquet", table(1500))
    started = index.start_import(uri=server.uri, error_mode=ImportErrorMode.CONTINUE)
    found = until(lambda: index.describe_import(id=started.id), lambda found: found.status == "Completed")
    assert (found.uri, found.records_imported, found.percent_complete) == (server.uri, 1500, 100.0)
    assert found.error is None and found.finished_at is not None
    assert [each.id for each in index.list_imports()] == [started.id]
    assert index.describe_index_stats().namespaces["films"].vector_count == 1500
    assert index.fetch(ids=["r7"], namespace="films").vectors["r7"].metadata == {"n": 7.0, "tags": ["a", "b"]}
    index.cancel_import(id=started.id)
    assert index.describe_import(id=started.id).status == "Completed"


@pytest.fixture
def films(server: ImportServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the programs import. Gives the index's host."""
    write(server.files / "films" / "0.parquet", table(1501, id=["", *map(str, range(1500))]))
    monkeypatch.setenv("PINYON_TEST_URI", server.uri)
    return server.host()


@pytest.mark.parametrize("major", [7, 8, 9, 10])
def test_each_python_sdk_imports(films: str, major: int) -> None:
    run_python(major, "imports", films)


@pytest.mark.parametrize("major", [8, 9])
def test_each_typescript_sdk_imports(films: str, major: int) -> None:
    run_typescript(major, "imports.mjs", films)


def test_the_sdk_reads_errors(server: ImportServer, index: Any) -> None:
    with pytest.raises(pinecone.PineconeException, match="names a folder that is not there"):
        index.start_import(uri=f"{server.uri}/nowhere")
    with pytest.raises(pinecone.NotFoundError, match="Import 101 not found"):
        index.describe_import(id="101")
