"""Right requests with one thing changed to something odd: refused in the plane's shape or answered, never an error of
the server's. Every place of each body has its turn, with the odd values of its own kind and some of others. Seeded: a
run that fails says which request it was."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dialects.pinecone.control_server import control_server
from tests.dialects.pinecone.pinecone_data_server import RANKER, VERSIONS, DataServer, data_server
from tests.dialects.pinecone.pinecone_index_bodies import MODEL_BODY, Body, dense_body, reads, sparse_body

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e-45, 1e39, 1e308, "", " ", "a",
    "\0", "é", "😀", "\u2028", "$eq", "__default__", "../x", "x" * 600, "2026-07", [], [[]], [None], ["a", 1], {},
    {"": 1}, {"a": None}, {"$and": []}, {"$or": [{"a": {"$in": [1, "b", True]}}]}, {"x": {"y": {"z": 1}}}, [0] * 3000,
)  # fmt: skip
OTHERS = 4  # odd values of other kinds than what stands there
KEYS = ("", "x", "$x", "_x", "é\0", "id", "name", "x" * 100)
# What JSON has no value for.
WORDS = ("NaN", "Infinity", "1e999", '"\\ud800"', "[" * 600 + "]" * 600, '{"a":1,"a":2}', "01", "tru")

VECTORS = [
    {"id": "a", "values": [1.0, 2.0, 3.0], "metadata": {"s": "x", "n": 1, "b": True, "l": ["x", "y"]}},
    {"id": "b", "values": [3.0, 2.0, 1.0], "sparseValues": {"indices": [1, 5], "values": [0.5, 2.0]}},
]
FILTER = {
    "$or": [{"n": {"$gte": 0, "$ne": 2}}, {"$and": [{"s": {"$in": ["x"]}}, {"l": "y"}, {"b": {"$exists": True}}]}]
}
SPARSE = {"indices": [1, 5], "values": [0.5, 2.0]}
TEXTS = {"top_k": 3, "inputs": {"text": "a b"}, "filter": FILTER}
DATA: list[tuple[str, str, Body]] = [
    ("hybrid", "/vectors/upsert", {"vectors": VECTORS, "namespace": "n"}),
    ("sparse", "/vectors/upsert", {"vectors": [{"id": "a", "values": [], "sparseValues": SPARSE}]}),
    ("hybrid", "/query", {"vector": [1, 2, 3], "sparseVector": SPARSE, "topK": 2, "filter": FILTER, "namespace": "n"}),
    ("dense", "/query", {"id": "a", "topK": 2, "includeValues": True, "scanFactor": 1, "maxCandidates": 5}),
    ("hybrid", "/vectors/update", {"id": "a", "values": [1, 1, 1], "sparseValues": SPARSE, "setMetadata": {"n": 2}}),
    ("hybrid", "/vectors/update", {"filter": FILTER, "setMetadata": {"s": "z"}, "dryRun": False, "namespace": "n"}),
    ("hybrid", "/vectors/delete", {"filter": FILTER, "namespace": "n"}),
    ("hybrid", "/vectors/delete", {"ids": ["b", "c"], "deleteAll": False, "namespace": "n"}),
    ("hybrid", "/vectors/fetch_by_metadata", {"filter": FILTER, "limit": 5, "namespace": "n"}),
    ("pods", "/describe_index_stats", {"filter": FILTER}),
    ("dense", "/namespaces", {"name": "m", "schema": {"fields": {"a": {"filterable": True}}}}),
    ("texts", "/records/namespaces/n/upsert", {"_id": "1", "body": "one two", "n": 1, "l": ["x"]}),
    (
        "texts",
        "/records/namespaces/n/search",
        {"query": TEXTS, "fields": ["n"], "rerank": {"model": RANKER, "rank_fields": ["body"], "top_n": 1}},
    ),
    ("sparse", "/records/namespaces/n/search", {"query": {"top_k": 1, "vector": {"sparse_values": [1.0, 2.0],
     "sparse_indices": [1, 2]}, "match_terms": {"strategy": "all", "terms": ["a"]}}}),
]  # fmt: skip
POD = {"environment": "e", "pod_type": "p1", "replicas": 2, "shards": 1, "metadata_config": {"indexed": ["g"]}}
BYOC = {"environment": "e", "read_capacity": reads(), "schema": {"fields": {"g": {"filterable": True}}}}
CONTROL: list[tuple[str, str, Body]] = [
    ("POST", "/indexes", dense_body("2025-04", "made", tags={"a": "b"}, deletion_protection="disabled")),
    ("POST", "/indexes", sparse_body("2025-04") | {"name": "made"}),
    ("POST", "/indexes", dense_body("2025-04", "made", spec={"pod": POD})),
    ("POST", "/indexes", dense_body("2025-04", "made", spec={"byoc": BYOC})),
    ("POST", "/indexes", dense_body("2026-07", "made", tags={"a": "b"}, read_capacity=reads())),
    ("POST", "/indexes", sparse_body("2026-07") | {"name": "made"}),
    ("POST", "/indexes/create-for-model", MODEL_BODY | {"name": "made", "tags": {"a": "b"}, "read_capacity": reads()}),
    ("PATCH", "/indexes/there", {"tags": {"a": "b"}, "spec": {"serverless": {"read_capacity": reads()}}}),
    ("PATCH", "/indexes/there", {"embed": {"model": "all-minilm-l6-v2", "field_map": {"text": "t"}}}),
    ("PATCH", "/indexes/pods", {"spec": {"pod": {"replicas": 2, "pod_type": "p1.x2"}}}),
    ("PATCH", "/indexes/pods", {"deployment": {"replicas": 2, "pod_type": "p1.x2"}, "read_capacity": reads()}),
    ("PATCH", "/indexes/faq", {"schema": {"fields": {"body": {"type": "semantic_text", "read_parameters": {}}}}}),
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something may be changed, the whole included."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def changes(body: Body, rng: random.Random) -> Iterator[bytes]:
    """`body` with one value replaced, left out or doubled, or a key renamed."""
    for *way, last in filter(None, places(body)):
        old = at(body, (*way, last))
        kinds = (int, float) if isinstance(old, int | float) and not isinstance(old, bool) else (type(old),)
        for odd in [odd for odd in ODD if isinstance(odd, kinds)] + rng.sample(ODD, OTHERS):
            yield json.dumps(replaced(body, way, last, odd)).encode()
        for word in rng.sample(WORDS, 2):
            yield json.dumps(replaced(body, way, last, "the word")).replace('"the word"', word).encode()
        new = copy.deepcopy(body)
        parent = at(new, way)
        if isinstance(parent, dict):
            yield json.dumps(replaced(body, way, rng.choice(KEYS), old)).encode()
            del parent[last]
        else:
            parent.append(old)
        yield json.dumps(new).encode()


def at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def replaced(body: Body, way: Sequence[Any], last: Any, value: Any) -> Body:
    new = copy.deepcopy(body)
    at(new, way)[last] = value
    return new


def check(answer: httpx.Response, request: object) -> None:
    """501 stands for what is not served here; any other 5xx is a bug."""
    assert answer.status_code < 500 or answer.status_code == 501, (request, answer.text)
    if answer.status_code >= 400:
        body = answer.json()
        assert list(body) in (["code", "message", "details"], ["error", "status"]), (request, answer.text)
        assert len(answer.content) < 2000, (request, len(answer.content))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataServer]:
    with data_server(tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.mark.parametrize("number", range(len(DATA)), ids=lambda number: DATA[number][1])
def test_data_plane(data: DataServer, number: int) -> None:
    index, path, body = DATA[number]
    for turn, content in enumerate(changes(body, random.Random(number))):
        version = VERSIONS[turn % len(VERSIONS)]
        check(data.ask("POST", index, path, version, content=content), (version, index, path, content[:500]))
    for version in VERSIONS:
        # Whatever was let in can be read again.
        for get in ("/describe_index_stats", "/namespaces", "/vectors/list"):
            assert data.get(index, get, version).status_code == 200
        reading = {"filter": {"n": {"$exists": False}}, "limit": 10_000}
        assert data.post(index, "/vectors/fetch_by_metadata", reading, version).status_code == 200


def test_control_plane(tmp_path: Path) -> None:
    with control_server(tmp_path) as server, httpx.Client(base_url=server.url) as client:
        for made in (
            dense_body("2025-04", "there", dimension=384),
            dense_body("2025-04", "pods", spec={"pod": POD}),
        ):
            assert client.post("/indexes", json=made).status_code == 201
        assert client.post("/indexes/create-for-model", json=MODEL_BODY).status_code == 201
        for number, (method, path, body) in enumerate(CONTROL):
            newest = path != "/indexes/create-for-model" and body.keys() & {"schema", "deployment"}
            versions = VERSIONS[3:] if newest else VERSIONS[:3]
            for turn, content in enumerate(changes(body, random.Random(number))):
                version = {"X-Pinecone-Api-Version": versions[turn % len(versions)]}
                answer = client.request(method, path, content=content, headers=version)
                check(answer, (version, method, path, content[:500]))
                if method == "POST" and answer.status_code == 201:
                    name = answer.json()["name"]
                    client.patch(f"/indexes/{name}", json={"deletion_protection": "disabled"})
                    assert client.delete(f"/indexes/{name}").status_code == 202
            for known in VERSIONS:
                listed = client.get("/indexes", headers={"X-Pinecone-Api-Version": known})
                assert {"there", "pods", "faq"} <= {model["name"] for model in listed.json()["indexes"]}
