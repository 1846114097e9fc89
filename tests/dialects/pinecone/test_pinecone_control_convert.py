"""One stored index at four versions, and the bodies of each version to settings: golden pairs."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from pinyon.dialects.pinecone.control import convert, convert_v27
from pinyon.dialects.pinecone.control.schema import (
    CONFIGURE_BODY,
    CONFIGURE_BODY_V27,
    CREATE_BODY,
    CREATE_BODY_V27,
    CREATE_FOR_MODEL_BODY,
)
from pinyon.dialects.pinecone.errors import Unprocessable
from pinyon.errors import InvalidRequest, Unsupported
from pinyon.services.index_rules import EmbedChange, IndexChange, OnDemand
from pinyon.state import (
    Byoc,
    Dedicated,
    Embed,
    IndexSettings,
    IndexStatus,
    Pod,
    Serverless,
    VectorType,
)
from pinyon.types import Metric
from tests.dialects.pinecone.pinecone_index_goldens import (
    AWS,
    DESCRIBED,
    HOST,
    SPARSE_FIELD,
    record_of,
    settings,
)


def at_2025_04(model: dict[str, Any]) -> dict[str, Any]:
    """Without what that version has no place for."""
    older = deepcopy(model)
    [spec] = older["spec"].values()
    spec.pop("read_capacity", None)
    spec.pop("schema", None)
    return older


@pytest.mark.parametrize("case", DESCRIBED)
def test_described(case: str) -> None:
    made, older, newest = DESCRIBED[case]
    record = record_of(made)
    assert convert.index_model(record, HOST, "2025-04") == at_2025_04(older)
    assert convert.index_model(record, HOST, "2025-10") == older
    assert convert.index_model(record, HOST, "2026-04") == older
    assert convert_v27.index_model(record, HOST) == newest
    fields = list(convert_v27.index_model(record, HOST)["schema"]["fields"])
    assert fields == list(newest["schema"]["fields"])


@pytest.mark.parametrize(
    ("status", "ready", "state"),
    [
        (IndexStatus.INITIALIZING, False, "Initializing"),
        (IndexStatus.FAILED, False, "InitializationFailed"),
        (IndexStatus.TERMINATING, False, "Terminating"),
    ],
)
def test_states(status: IndexStatus, ready: bool, state: str) -> None:
    record = record_of(DESCRIBED["dense serverless"][0], status)
    for model in (convert.index_model(record, HOST, "2026-04"), convert_v27.index_model(record, HOST)):
        assert model["status"] == {"ready": ready, "state": state}


def test_metadata_stands_beside_an_integrated_field() -> None:
    made = settings(
        "faq",
        8,
        "cosine",
        embed=Embed("m", {"text": "body"}),
        schema={"year": {"filterable": True}, "body": {"filterable": True}},
    )
    shown = convert_v27.index_model(record_of(made), HOST)["schema"]["fields"]
    assert list(shown) == ["body", "year"]
    assert shown["body"]["type"] == "semantic_text"
    assert shown["year"] == {"filterable": True}


# --- bodies to settings ----------------------------------------------------------------------------------------------

DEDICATED_BODY = {
    "mode": "Dedicated",
    "dedicated": {"node_type": "b1", "scaling": "Manual", "manual": {"replicas": 2, "shards": 3}},
}
DEDICATED_2_3 = Dedicated("b1", "Manual", 2, 3)
SERVERLESS = {"serverless": {"cloud": "aws", "region": "us-east-1"}}

CREATED: list[tuple[dict[str, Any], IndexSettings]] = [
    ({"name": "a", "dimension": 8, "spec": SERVERLESS}, settings("a", 8, "cosine")),
    (
        {
            "name": "a",
            "dimension": 8,
            "metric": "euclidean",
            "vector_type": "dense",
            "deletion_protection": "enabled",
            "tags": {"x": "y"},
            "spec": {
                "serverless": {
                    "cloud": "gcp",
                    "region": "r",
                    "read_capacity": DEDICATED_BODY,
                    "schema": {"fields": {"g": {"filterable": True}, "h": {}}},
                }
            },
        },
        settings(
            "a",
            8,
            "euclidean",
            deployment=Serverless("gcp", "r"),
            read_capacity=DEDICATED_2_3,
            schema={"g": {"filterable": True}, "h": {"filterable": True}},
            tags={"x": "y"},
            deletion_protection=True,
        ),
    ),
    (
        {"name": "a", "vector_type": "sparse", "spec": SERVERLESS},
        settings("a", None, "dotproduct", vector_type=VectorType.SPARSE),
    ),
    (
        {"name": "a", "dimension": 2, "spec": {"pod": {"environment": "e"}}},
        settings("a", 2, "cosine", deployment=Pod("e")),
    ),
    (
        {
            "name": "a",
            "dimension": 2,
            "spec": {
                "pod": {
                    "environment": "e",
                    "pod_type": "s1.x4",
                    "replicas": 2,
                    "shards": 3,
                    "pods": 6,
                    "metadata_config": {"indexed": []},
                    "source_collection": "c",
                }
            },
        },
        settings("a", 2, "cosine", deployment=Pod("e", "s1.x4", 2, 3, ()), source_collection="c"),
    ),
    (
        {"name": "a", "dimension": 2, "spec": {"byoc": {"environment": "e", "read_capacity": {"mode": "OnDemand"}}}},
        settings("a", 2, "cosine", deployment=Byoc("e")),
    ),
    (
        {
            "name": "a",
            "dimension": 2,
            "metric": None,
            "vector_type": None,
            "tags": None,
            "deletion_protection": None,
            "unknown": 1,
            "spec": {"serverless": SERVERLESS["serverless"] | {"schema": None}, "pod": None},
        },
        settings("a", 2, "cosine"),
    ),
]


@pytest.mark.parametrize(("body", "made"), CREATED)
def test_create_settings(body: dict[str, Any], made: IndexSettings) -> None:
    assert convert.create_settings(CREATE_BODY.decode(msgspec.json.encode(body))) == made


DENSE_8 = {"type": "dense_vector", "dimension": 8, "metric": "cosine"}
CREATED_V27: list[tuple[dict[str, Any], IndexSettings]] = [
    ({"name": "a", "schema": {"fields": {"_values": DENSE_8}}}, settings("a", 8, "cosine")),
    ({"schema": {"fields": {"_values": DENSE_8}}, "tags": None, "name": None}, settings("made-up", 8, "cosine")),
    (
        {"name": "a", "schema": {"fields": {"_values": DENSE_8, "_sparse_values": SPARSE_FIELD}}},
        settings("a", 8, "cosine"),
    ),
    (
        {
            "name": "b",
            "schema": {"fields": {"_sparse_values": {"type": "sparse_vector"}}},
            "deployment": {"deployment_type": "managed", "cloud": "gcp", "region": "r"},
            "read_capacity": DEDICATED_BODY,
            "tags": {"x": "y"},
            "deletion_protection": "enabled",
        },
        settings(
            "b",
            None,
            "dotproduct",
            vector_type=VectorType.SPARSE,
            deployment=Serverless("gcp", "r"),
            read_capacity=DEDICATED_2_3,
            tags={"x": "y"},
            deletion_protection=True,
        ),
    ),
    (
        {
            "name": "c",
            "schema": {"fields": {"_values": DENSE_8}},
            "deployment": {"deployment_type": "byoc", "environment": "e"},
            "cmek_id": "k",
        },
        settings("c", 8, "cosine", deployment=Byoc("e"), cmek_id="k"),
    ),
]


@pytest.mark.parametrize(("body", "made"), CREATED_V27)
def test_create_settings_v27(body: dict[str, Any], made: IndexSettings) -> None:
    call = CREATE_BODY_V27.decode(msgspec.json.encode(body))
    assert convert_v27.create_settings(call, lambda: "made-up") == made


@pytest.mark.parametrize("case", [case for case in DESCRIBED if case[:4] not in ("inte", "pods", "decl")])
def test_what_is_described_at_2026_07_can_be_created(case: str) -> None:
    made, _, newest = DESCRIBED[case]
    body = {key: newest[key] for key in ("name", "schema", "deployment", "deletion_protection", "tags")}
    body["read_capacity"] = {key: value for key, value in newest["read_capacity"].items() if key != "status"}
    assert convert_v27.create_settings(CREATE_BODY_V27.decode(msgspec.json.encode(body)), str) == made


@pytest.mark.parametrize("version", ["2025-04", "2025-10", "2026-04", "2026-07"])
def test_model_settings(version: str) -> None:
    body = {
        "name": "faq",
        "cloud": "aws",
        "region": "us-east-1",
        "embed": {
            "model": "m",
            "field_map": {"text": "body"},
            "metric": "dotproduct",
            "dimension": 4,
            "read_parameters": {"a": 1},
            "write_parameters": None,
        },
        "schema": {"fields": {"g": {"filterable": True}}},
        "read_capacity": DEDICATED_BODY,
        "tags": {"x": "y"},
        "deletion_protection": "enabled",
    }
    made = convert.model_settings(CREATE_FOR_MODEL_BODY.decode(msgspec.json.encode(body)), version)
    assert made.embed == Embed("m", {"text": "body"}, Metric.DOTPRODUCT, 4, {"a": 1}, None)
    assert (made.name, made.deployment, made.tags) == ("faq", AWS, {"x": "y"})
    assert (made.schema, made.read_capacity) == ({"g": {"filterable": True}}, DEDICATED_2_3)
    assert made.deletion_protection


def test_a_declared_field_says_that_it_is_filterable_at_2026_07() -> None:
    embed = {"model": "m", "field_map": {"text": "t"}}
    body = {"name": "n", "cloud": "aws", "region": "r", "embed": embed, "schema": {"fields": {"g": {}}}}
    call = CREATE_FOR_MODEL_BODY.decode(msgspec.json.encode(body))
    assert convert.model_settings(call, "2026-04").schema == {"g": {"filterable": True}}
    with pytest.raises(Unprocessable) as caught:
        convert.model_settings(call, "2026-07")
    assert caught.value.param == ("schema", "fields", "g", "filterable")


# --- changes ---------------------------------------------------------------------------------------------------------

CHANGES: list[tuple[dict[str, Any], IndexChange]] = [
    ({}, IndexChange()),
    (
        {"tags": {"a": ""}, "deletion_protection": "disabled"},
        IndexChange(tags={"a": ""}, deletion_protection=False),
    ),
    (
        {"spec": {"pod": {"replicas": 3, "pod_type": "p2.x2"}}},
        IndexChange(deployment=Pod, replicas=3, pod_type="p2.x2"),
    ),
    (
        {"spec": {"serverless": {"read_capacity": DEDICATED_BODY}}},
        IndexChange(deployment=Serverless, read_capacity=DEDICATED_2_3),
    ),
    (
        {"spec": {"byoc": {"read_capacity": {"mode": "OnDemand"}}}},
        IndexChange(deployment=Byoc, read_capacity=OnDemand()),
    ),
    (
        {"embed": {"model": "m", "field_map": {"text": "t"}, "read_parameters": {"a": 1}}},
        IndexChange(embed=EmbedChange("m", {"text": "t"}, {"a": 1})),
    ),
]


@pytest.mark.parametrize(("body", "change"), CHANGES)
def test_index_change(body: dict[str, Any], change: IndexChange) -> None:
    assert convert.index_change(CONFIGURE_BODY.decode(msgspec.json.encode(body))) == change


CHANGES_V27: list[tuple[dict[str, Any], IndexChange]] = [
    ({}, IndexChange()),
    (
        {"tags": {"a": ""}, "deletion_protection": "enabled", "schema": None},
        IndexChange(tags={"a": ""}, deletion_protection=True),
    ),
    ({"deployment": {"replicas": 3}}, IndexChange(deployment=Pod, replicas=3)),
    ({"read_capacity": {"mode": "OnDemand"}}, IndexChange(read_capacity=OnDemand())),
    (
        {"read_capacity": {"mode": "Dedicated", "dedicated": {"node_type": "t1"}}},
        IndexChange(read_capacity=Dedicated("t1")),
    ),
    (
        {"schema": {"fields": {"body": {"type": "semantic_text", "write_parameters": {"a": 1}}}}},
        IndexChange(embed=EmbedChange(write_parameters={"a": 1}, of_field="body")),
    ),
]


@pytest.mark.parametrize(("body", "change"), CHANGES_V27)
def test_index_change_v27(body: dict[str, Any], change: IndexChange) -> None:
    assert convert_v27.index_change(CONFIGURE_BODY_V27.decode(msgspec.json.encode(body))) == change


# --- refusals --------------------------------------------------------------------------------------------------------

FIELDS = ("schema", "fields")
REFUSED_V27: list[tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ({}, InvalidRequest, FIELDS),
    ({"_values": {}}, Unprocessable, (*FIELDS, "_values", "type")),
    ({"_values": {"type": "cube"}}, Unprocessable, (*FIELDS, "_values", "type")),
    ({"_values": DENSE_8 | {"vector_type": "dense"}}, Unprocessable, (*FIELDS, "_values", "vector_type")),
    ({"_values": {"type": "dense_vector", "metric": "cosine"}}, Unprocessable, (*FIELDS, "_values", "dimension")),
    ({"_values": DENSE_8 | {"metric": "l2"}}, InvalidRequest, (*FIELDS, "_values", "metric")),
    ({"_values": DENSE_8 | {"description": "d"}}, InvalidRequest, (*FIELDS, "_values", "description")),
    ({"_values": {"type": "sparse_vector"}}, InvalidRequest, (*FIELDS, "_values", "type")),
    ({"_sparse_values": DENSE_8}, InvalidRequest, (*FIELDS, "_sparse_values", "type")),
    ({"_values": DENSE_8, "body": {"type": "string", "full_text_search": {}}}, InvalidRequest, (*FIELDS, "body")),
    ({"_other": DENSE_8}, InvalidRequest, (*FIELDS, "_other")),
    ({"$x": DENSE_8}, InvalidRequest, (*FIELDS, "$x")),
    ({"": DENSE_8}, InvalidRequest, (*FIELDS, "")),
    ({"body": {"type": "semantic_text", "model": "m"}}, InvalidRequest, (*FIELDS, "body", "type")),
    ({"year": {"type": "float", "filterable": True}}, InvalidRequest, (*FIELDS, "year")),
    ({"year": {"type": "string"}}, InvalidRequest, (*FIELDS, "year")),
    ({"body": {"type": "string", "full_text_search": {}}}, Unsupported, ()),
    ({"body": {"type": "string", "embed": {}}}, Unsupported, ()),
    ({"emb": DENSE_8, "lex": {"type": "sparse_vector"}}, Unsupported, ()),
]


@pytest.mark.parametrize(("declared", "kind", "param"), REFUSED_V27)
def test_schemas_that_are_refused(declared: dict[str, Any], kind: type[Exception], param: tuple[str, ...]) -> None:
    call = CREATE_BODY_V27.decode(msgspec.json.encode({"name": "a", "schema": {"fields": declared}}))
    with pytest.raises(kind) as caught:
        convert_v27.create_settings(call, str)
    assert type(caught.value) is kind
    assert getattr(caught.value, "param", ()) == param


RENAMED: list[tuple[Callable[[Any], Any], tuple[str, ...], tuple[str, ...]]] = [
    (lambda p: convert.create_param(p, "pod"), ("deployment", "replicas"), ("spec", "pod", "replicas")),
    (
        lambda p: convert.create_param(p, "byoc"),
        ("read_capacity", "shards"),
        ("spec", "byoc", "read_capacity", "dedicated", "manual", "shards"),
    ),
    (
        lambda p: convert.create_param(p, "serverless"),
        ("schema", "f"),
        ("spec", "serverless", "schema", "fields", "f"),
    ),
    (lambda p: convert.create_param(p, "pod"), ("dimension",), ("dimension",)),
    (convert.model_param, ("schema", "f"), ("schema", "fields", "f")),
    (convert.model_param, ("read_capacity", "node_type"), ("read_capacity", "dedicated", "node_type")),
    (convert.model_param, ("read_capacity",), ("read_capacity",)),
    (convert_v27.create_param, ("dimension",), ("schema", "fields", "_values", "dimension")),
    (convert_v27.create_param, ("tags", "a"), ("tags", "a")),
]


@pytest.mark.parametrize(("rename", "core", "wire"), RENAMED)
def test_paths_are_the_wires(rename: Callable[[Any], Any], core: tuple[str, ...], wire: tuple[str, ...]) -> None:
    assert rename(core) == wire


def test_paths_of_a_change_at_2026_07() -> None:
    field = {"type": "semantic_text", "read_parameters": {"x": 1}}
    body = CONFIGURE_BODY_V27.decode(msgspec.json.encode({"schema": {"fields": {"b": field}}}))
    wire = ("schema", "fields", "b", "read_parameters", "x")
    assert convert_v27.configure_param(("embed", "read_parameters", "x"), body) == wire
    assert convert_v27.configure_param(("embed", "field_map"), body) == ("schema", "fields", "b")
    assert convert_v27.configure_param(("tags", "x"), body) == ("tags", "x")
