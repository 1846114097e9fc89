"""Bodies of Pinecone's control plane, right and wrong; the wrong ones with the status and the field that is named."""

from __future__ import annotations

from typing import Any

SERVERLESS = {"serverless": {"cloud": "aws", "region": "us-east-1"}}
DENSE = {"type": "dense_vector", "dimension": 8, "metric": "cosine"}


def dense_body(version: str, name: str = "notes", **others: Any) -> dict[str, Any]:
    if version == "2026-07":
        return {"name": name, "schema": {"fields": {"_values": DENSE}}, **others}
    return {"name": name, "dimension": 8, "spec": SERVERLESS, **others}


def sparse_body(version: str, name: str = "terms") -> dict[str, Any]:
    if version == "2026-07":
        return {"name": name, "schema": {"fields": {"_sparse_values": {"type": "sparse_vector"}}}}
    return {"name": name, "vector_type": "sparse", "metric": "dotproduct", "spec": SERVERLESS}


MODEL_BODY = {
    "name": "faq",
    "cloud": "aws",
    "region": "us-east-1",
    "embed": {"model": "all-minilm-l6-v2", "field_map": {"text": "body"}, "read_parameters": {"input_type": "query"}},
}


Body = dict[str, Any]
FOR_MODEL = "/indexes/create-for-model"


def embedded(**embed: Any) -> Body:
    return MODEL_BODY | {"embed": {"model": "all-minilm-l6-v2", "field_map": {"text": "t"}} | embed}


def reads(**config: Any) -> Body:
    dedicated = {"node_type": "b1", "scaling": "Manual", "manual": {"replicas": 1, "shards": 1}} | config
    return {"mode": "Dedicated", "dedicated": dedicated}


# Of the versions before 2026-07: path, body, status, the field that is named.
BAD: list[tuple[str, object, int, str]] = [
    ("/indexes", b"", 400, "not valid JSON"),
    ("/indexes", b"{", 400, "not valid JSON"),
    ("/indexes", b'{"name": "\xff"}', 400, "'name'"),
    ("/indexes", b"[]", 422, "Expected `object`"),
    ("/indexes", b'{"a":' * 12_000, 400, "nested too deeply"),
    ("/indexes", {"dimension": 8, "spec": SERVERLESS}, 422, "'name'"),
    ("/indexes", {"name": "a", "dimension": 8}, 422, "'spec'"),
    ("/indexes", {"name": "a", "spec": {}}, 422, "'spec'"),
    ("/indexes", {"name": "a", "spec": {"cloud": {}}}, 422, "'spec.cloud'"),
    ("/indexes", {"name": "a", "spec": SERVERLESS | {"byoc": {"environment": "e"}}}, 422, "'spec'"),
    ("/indexes", {"name": "a", "spec": {"serverless": {"cloud": "aws"}}}, 422, "'spec.serverless.region'"),
    ("/indexes", {"name": "a", "spec": {"pod": {"environment": 3}}}, 422, "'spec.pod.environment'"),
    ("/indexes", {"name": 1, "spec": SERVERLESS}, 422, "'name'"),
    ("/indexes", dense_body("2025-04", "A"), 400, "'name'"),
    ("/indexes", dense_body("2025-04", ""), 400, "'name'"),
    ("/indexes", dense_body("2025-04", "a" * 46), 400, "'name'"),
    ("/indexes", dense_body("2025-04", "a\0b"), 400, "'name'"),
    ("/indexes", {"name": "a", "spec": SERVERLESS}, 400, "'dimension'"),
    ("/indexes", dense_body("2025-04", dimension=0), 400, "'dimension'"),
    ("/indexes", dense_body("2025-04", dimension=20_001), 400, "'dimension'"),
    ("/indexes", dense_body("2025-04", dimension=10**30), 400, "'dimension'"),
    ("/indexes", dense_body("2025-04", dimension="8"), 422, "'dimension'"),
    ("/indexes", dense_body("2025-04", dimension=8.5), 422, "'dimension'"),
    ("/indexes", dense_body("2025-04", dimension=True), 422, "'dimension'"),
    ("/indexes", dense_body("2025-04", metric="l2"), 400, "'metric'"),
    ("/indexes", dense_body("2025-04", vector_type="both"), 400, "'vector_type'"),
    ("/indexes", sparse_body("2025-04") | {"dimension": 8}, 400, "'dimension'"),
    ("/indexes", sparse_body("2025-04") | {"metric": "cosine"}, 400, "'metric'"),
    ("/indexes", dense_body("2025-04", deletion_protection=True), 422, "'deletion_protection'"),
    ("/indexes", dense_body("2025-04", deletion_protection="on"), 400, "'deletion_protection'"),
    ("/indexes", dense_body("2025-04", tags={"a": 1}), 422, "'tags'"),
    ("/indexes", dense_body("2025-04", tags={"a b": "c"}), 400, "'tags.a b'"),
    ("/indexes", dense_body("2025-04", tags={f"t{n}": "x" for n in range(21)}), 400, "'tags'"),
    (
        "/indexes",
        dense_body("2025-04", spec={"serverless": {"cloud": "moon", "region": "r"}}),
        404,
        "cloud: moon region: r",
    ),
    (
        "/indexes",
        dense_body("2025-04", spec={"serverless": {"cloud": "aws", "region": "r", "source_collection": "c"}}),
        404,
        "Collection c",
    ),
    (
        "/indexes",
        dense_body("2025-04", spec={"pod": {"environment": "e", "pod_type": "x"}}),
        400,
        "'spec.pod.pod_type'",
    ),
    (
        "/indexes",
        dense_body("2025-04", spec={"pod": {"environment": "e", "replicas": 2, "pods": 3}}),
        400,
        "'spec.pod.pods'",
    ),
    # Counts that no client can read, nor the JSON of an answer hold.
    *(
        ("/indexes", dense_body("2025-04", spec={"pod": {"environment": "e"} | counts}), 400, "'spec.pod.replicas'")
        for counts in ({"replicas": 2**31}, {"replicas": 2**64}, {"replicas": 2**30, "shards": 2})
    ),
    ("/indexes", dense_body("2025-04", spec={"pod": {"environment": "e\0"}}), 400, "'spec.pod.environment'"),
    ("/indexes", dense_body("2025-04", spec={"byoc": {"environment": "e" * 101}}), 400, "'spec.byoc.environment'"),
    ("/indexes", dense_body("2025-04", spec={"serverless": {"cloud": "aws", "region": "a\nb"}}), 404, "cloud: aws"),
    ("/indexes", dense_body("2025-04", spec={"serverless": {"cloud": "aws", "region": "r" * 101}}), 404, "cloud: aws"),
    (
        "/indexes",
        dense_body(
            "2025-04",
            spec={"byoc": {"environment": "e", "read_capacity": reads(manual={"replicas": 1, "shards": 2**64})}},
        ),
        400,
        "'spec.byoc.read_capacity.dedicated.manual.shards'",
    ),
    (
        "/indexes",
        dense_body("2025-04", spec={"byoc": {"environment": "e", "read_capacity": reads(node_type="x")}}),
        400,
        "'spec.byoc.read_capacity.dedicated.node_type'",
    ),
    (
        "/indexes",
        dense_body("2025-04", spec={"byoc": {"environment": "e", "read_capacity": {"mode": "x"}}}),
        422,
        "'spec.byoc.read_capacity.mode'",
    ),
    (
        "/indexes",
        dense_body("2025-04", spec={"byoc": {"environment": "e", "schema": {"fields": {"$a": {}}}}}),
        400,
        "'spec.byoc.schema.fields.$a'",
    ),
]
BAD_FOR_MODEL: list[tuple[str, object, int, str]] = [
    (FOR_MODEL, {key: value for key, value in MODEL_BODY.items() if key != "embed"}, 422, "'embed'"),
    (FOR_MODEL, MODEL_BODY | {"embed": {"model": "m"}}, 422, "'embed.field_map'"),
    (FOR_MODEL, MODEL_BODY | {"name": "A"}, 400, "'name'"),
    (FOR_MODEL, MODEL_BODY | {"cloud": "moon"}, 404, "cloud: moon"),
    (FOR_MODEL, embedded(field_map={}), 400, "'embed.field_map'"),
    (FOR_MODEL, embedded(field_map={"text": ""}), 400, "'embed.field_map.text'"),
    (FOR_MODEL, embedded(model="nothing"), 404, "Model 'nothing' not found"),
    (FOR_MODEL, embedded(model="bge-reranker-v2-m3"), 400, "'embed.model'"),
    (FOR_MODEL, embedded(metric="l2"), 400, "'embed.metric'"),
    (FOR_MODEL, embedded(dimension=8), 400, "'embed.dimension'"),
    (FOR_MODEL, embedded(write_parameters={"truncate": 1}), 400, "'embed.write_parameters.truncate'"),
    (FOR_MODEL, MODEL_BODY | {"schema": {}}, 422, "'schema.fields'"),
    (FOR_MODEL, MODEL_BODY | {"schema": {"fields": {"_a": {"filterable": True}}}}, 400, "'schema.fields._a'"),
    (
        FOR_MODEL,
        MODEL_BODY | {"schema": {"fields": {"a": {"filterable": False}}}},
        400,
        "'schema.fields.a.filterable'",
    ),
    (
        FOR_MODEL,
        MODEL_BODY | {"read_capacity": reads(manual={"replicas": -1, "shards": 1})},
        400,
        "'read_capacity.dedicated.manual.replicas'",
    ),
]
BAD_V27: list[tuple[str, object, int, str]] = [
    ("/indexes", b"{", 400, "not valid JSON"),
    ("/indexes", {"name": "a"}, 422, "'schema'"),
    ("/indexes", dense_body("2026-07", dimension=8), 422, "'dimension'"),
    ("/indexes", dense_body("2026-07", spec=SERVERLESS), 422, "'spec'"),
    ("/indexes", dense_body("2026-07", ""), 400, "'name'"),
    (
        "/indexes",
        {"schema": {"fields": {"_values": DENSE | {"dimension": 0}}}},
        400,
        "'schema.fields._values.dimension'",
    ),
    ("/indexes", {"schema": {"fields": {"_values": DENSE | {"metric": "x"}}}}, 400, "'schema.fields._values.metric'"),
    ("/indexes", {"schema": {"fields": {"_values": {"type": "x"}}}}, 422, "'schema.fields._values.type'"),
    ("/indexes", {"schema": {"fields": {"body": {"type": "semantic_text"}}}}, 400, "create-for-model"),
    (
        "/indexes",
        {"schema": {"fields": {"body": {"type": "string", "full_text_search": {}}}}},
        501,
        "Document indexes",
    ),
    (
        "/indexes",
        dense_body("2026-07", deployment={"deployment_type": "pod", "environment": "e"}),
        400,
        "'deployment.deployment_type'",
    ),
    ("/indexes", dense_body("2026-07", deployment={"deployment_type": "x"}), 422, "'deployment.deployment_type'"),
    (
        "/indexes",
        dense_body("2026-07", deployment={"deployment_type": "managed", "cloud": "moon", "region": "r"}),
        404,
        "cloud: moon",
    ),
    ("/indexes", dense_body("2026-07", read_capacity={"mode": "OnDemand", "x": 1}), 422, "'read_capacity.x'"),
    (
        "/indexes",
        dense_body("2026-07", read_capacity=reads(scaling=None)),
        400,
        "'read_capacity.dedicated.scaling'",
    ),
    ("/indexes", dense_body("2026-07", cmek_id="k"), 501, "encryption"),
]
