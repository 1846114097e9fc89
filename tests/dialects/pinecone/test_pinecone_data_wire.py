"""The data plane over HTTP: shapes by version, headers, paths, and what clients without an SDK send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dialects.pinecone.pinecone_data_server import VERSIONS, DataServer, data_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DataServer]:
    with data_server(tmp_path) as server:
        yield server


def fill(server: DataServer, index: str = "dense", namespace: str = "n") -> None:
    vectors = [{"id": f"v{n}", "values": [1, n, 0], "metadata": {"n": n}} for n in range(5)]
    answer = server.post(index, "/vectors/upsert", {"vectors": vectors, "namespace": namespace})
    assert (answer.status_code, answer.json()) == (200, {"upsertedCount": 5})


def test_lsn_headers(server: DataServer) -> None:
    fill(server)
    answer = server.post("dense", "/vectors/update", {"id": "v1", "setMetadata": {"x": 1}, "namespace": "n"})
    written = int(answer.headers["x-pinecone-request-lsn"])
    assert (written, answer.headers["x-pinecone-lsn-committed"]) == (2, "2")
    assert answer.headers["x-pinecone-request-id"]
    reads = [
        server.post("dense", "/query", {"topK": 1, "vector": [1, 2, 3]}),
        server.get("dense", "/vectors/fetch", ids="a"),
        server.get("dense", "/vectors/list"),
        server.get("dense", "/describe_index_stats"),
        server.get("dense", "/namespaces"),
        server.get("dense", "/namespaces/n"),
        server.post("dense", "/vectors/fetch_by_metadata", {"filter": {"x": 1}}),
        server.post("texts", "/records/namespaces/n/search", {"query": {"top_k": 1, "inputs": {"text": "x"}}}),
    ]
    for answer in reads:
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-pinecone-max-indexed-lsn"] == answer.headers["x-pinecone-lsn-reconciled"]
    assert {answer.headers["x-pinecone-max-indexed-lsn"] for answer in reads[:-1]} == {"2"}
    writes = [
        server.post("dense", "/vectors/delete", {"ids": ["v1"], "namespace": "n"}),
        server.post("dense", "/namespaces", {"name": "m"}),
        server.ask("DELETE", "dense", "/namespaces/m"),
    ]
    assert [answer.headers["x-pinecone-request-lsn"] for answer in writes] == ["3", "4", "5"]


@pytest.mark.parametrize("version", VERSIONS)
def test_shapes(server: DataServer, version: str) -> None:
    fill(server)
    query = {"topK": 1, "vector": [1, 0, 0], "namespace": "n"}
    assert server.post("dense", "/query", query, version).json() == {
        "matches": [{"id": "v0", "values": [], "score": 1.0}],
        "namespace": "n",
        "usage": {"readUnits": 1},
    }
    described = server.get("dense", "/namespaces/n", version).json()
    listed = server.get("dense", "/namespaces", version).json()
    wanted = {"name": "n", "record_count": 5}
    if version == "2026-07":
        wanted = {"name": "n", "record_count": "5", "size_bytes": "60"}
    assert described == wanted
    assert listed == {"namespaces": [wanted], "total_count": 1}
    lines = '{"_id": "1", "body": "one", "x": 1}\r\n\n{"id": "2", "body": "two"}'
    answer = server.ask("POST", "texts", "/records/namespaces/__default__/upsert", version, content=lines)
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer.headers["x-pinecone-request-lsn"] == "1"
    body = {"query": {"top_k": 1, "inputs": {"text": "one"}}}
    found = server.post("texts", "/records/namespaces/__default__/search", body, version).json()
    assert found.pop("namespace", None) == ("__default__" if version == "2026-07" else None)
    assert found["usage"] == {"read_units": 1, "embed_total_tokens": 1}
    assert found["result"]["hits"][0]["fields"] == {"body": "one", "x": 1.0}


def test_default_namespace(server: DataServer) -> None:
    """ "" and "__default__" are one, however it is named."""
    fill(server, namespace="__default__")
    for params in ({}, {"namespace": ""}, {"namespace": "__default__"}):
        answer = server.get("dense", "/vectors/fetch", ids="v1", **params).json()
        assert (list(answer["vectors"]), answer["namespace"]) == (["v1"], "")
    assert server.get("dense", "/describe_index_stats").json()["namespaces"] == {"": {"vectorCount": 5}}
    assert server.get("dense", "/namespaces/__default__").json()["record_count"] == "5"
    assert server.post("dense", "/vectors/delete", {"deleteAll": True}).json() == {}
    # It is always there, though nothing is in it.
    assert server.get("dense", "/namespaces/__default__").json()["record_count"] == "0"
    assert server.post("dense", "/vectors/delete", {"deleteAll": True}).json() == {}
    assert server.get("dense", "/namespaces").json() == {"namespaces": [], "total_count": 0}


def test_pages_remember_their_size(server: DataServer) -> None:
    fill(server)
    seen, params = [], {"limit": "2"}
    while params:
        page = server.get("dense", "/vectors/list", namespace="n", prefix="v", **params).json()
        seen.append([item["id"] for item in page["vectors"]])
        params = {"paginationToken": page["pagination"]["next"]} if "pagination" in page else {}
    assert seen == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    for name in ("b", "a", "é", "ab"):
        server.post("dense", "/vectors/upsert", {"vectors": [{"id": "x", "values": [1, 1, 1]}], "namespace": name})
    names, params = [], {"limit": "2"}
    while params:
        page = server.get("dense", "/namespaces", **params).json()
        assert page["total_count"] == 5
        names.append([item["name"] for item in page["namespaces"]])
        params = {"paginationToken": page["pagination"]["next"]} if "pagination" in page else {}
    assert names == [["a", "ab"], ["b", "n"], ["é"]]
    assert [item["name"] for item in server.get("dense", "/namespaces", prefix="a").json()["namespaces"]] == ["a", "ab"]


def test_ways_to_delete(server: DataServer) -> None:
    fill(server)
    assert server.ask("DELETE", "dense", "/vectors/delete?ids=v0&ids=v1&namespace=n").json() == {}
    assert server.ask("DELETE", "dense", "/vectors/delete", json={"ids": ["v2"], "namespace": "n"}).json() == {}
    assert [item["id"] for item in server.get("dense", "/vectors/list", namespace="n").json()["vectors"]] == [
        "v3",
        "v4",
    ]
    assert server.ask("DELETE", "dense", "/vectors/delete?deleteAll=true&namespace=n").json() == {}
    assert server.get("dense", "/describe_index_stats").json()["totalVectorCount"] == 0


def test_stats_of_pods_take_a_filter(server: DataServer) -> None:
    fill(server, "pods")
    stats = server.post("pods", "/describe_index_stats", {"filter": {"n": {"$gte": 3}}}).json()
    assert (stats["namespaces"], stats["totalVectorCount"]) == ({"n": {"vectorCount": 2}}, 2)
    assert server.post("pods", "/describe_index_stats", {}).json()["totalVectorCount"] == 5
    assert server.ask("POST", "pods", "/describe_index_stats", content=b"").status_code == 200


def test_under_the_prefix(server: DataServer) -> None:
    fill(server)
    answer = server.client.get(f"{server.url}/pinecone/i/dense/vectors/list?namespace=n")
    assert len(answer.json()["vectors"]) == 5


def test_namespaces_with_odd_names(server: DataServer) -> None:
    for name, path in (("a/b", "a%2Fb"), ("a b", "a%20b"), ("é", "%C3%A9"), ("upsert", "upsert")):
        fill(server, namespace=name)
        assert server.get("dense", f"/namespaces/{path}").json()["name"] == name
        answer = server.post("dense", f"/records/namespaces/{path}/search", {"query": {"top_k": 1, "id": "v1"}})
        assert (answer.json()["namespace"], answer.json()["result"]["hits"][0]["_id"]) == (name, "v1")
        assert server.ask("DELETE", "dense", f"/namespaces/{path}").json() == {}
