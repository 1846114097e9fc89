"""Messages of the VectorService for tests, and bad ones beside the requests that REST refuses for the same reason."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb


def packed(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def struct_of(fields: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(fields)
    return made


def sparse(weights: dict[int, float]) -> pb.SparseValues:
    return pb.SparseValues(indices=list(weights), values=packed(*weights.values()))


def vector(id: str, *values: float, weights: dict[int, float] | None = None, **fields: Any) -> pb.Vector:
    return pb.Vector(
        id=id,
        values=packed(*values),
        metadata=struct_of(fields) if fields else None,
        sparse_values=sparse(weights) if weights is not None else None,
    )


def plain_vector(wire: pb.Vector | pb.ScoredVector) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": wire.id, "values": np.frombuffer(wire.values, "<f4").tolist()}
    if wire.HasField("sparse_values"):
        values = np.frombuffer(wire.sparse_values.values, "<f4").tolist()
        plain["sparseValues"] = {"indices": list(wire.sparse_values.indices), "values": values}
    if wire.HasField("metadata"):
        plain["metadata"] = {name: plain_value(value) for name, value in wire.metadata.fields.items()}
    return plain


def plain_value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return [plain_value(each) for each in value.list_value.values] if kind == "list_value" else getattr(value, kind)


LONG = "x" * 600
# What each refuses: index, REST's method, path and body (or query string), and the same as a message.
WRONG: dict[str, tuple[str, str, str, dict[str, Any], str, Message]] = {
    "no records": ("dense", "POST", "/vectors/upsert", {"vectors": []}, "Upsert", pb.UpsertRequest()),
    "a dimension": (
        "dense", "POST", "/vectors/upsert",
        {"vectors": [{"id": "a", "values": [1, 1, 1]}, {"id": "b", "values": [1]}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1), vector("b", 1)]),
    ),
    "an id": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "é", "values": [1, 1, 1]}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("é", 1, 1, 1)]),
    ),
    "no id": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "", "values": [1, 1, 1]}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("", 1, 1, 1)]),
    ),
    "no vector": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "a"}]}, "Upsert",
        pb.UpsertRequest(vectors=[pb.Vector(id="a")]),
    ),
    "zeros": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "a", "values": [0, 0, 0]}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 0, 0, 0)]),
    ),
    "a value past 32 bits": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "a", "values": [1, 1e39, 0]}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, float("inf"), 0)]),
    ),
    "sparse values of cosine": (
        "dense", "POST", "/vectors/upsert",
        {"vectors": [{"id": "a", "values": [1, 1, 1], "sparseValues": {"indices": [1], "values": [1]}}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, weights={1: 1})]),
    ),
    "an index twice": (
        "sparse", "POST", "/vectors/upsert",
        {"vectors": [{"id": "a", "sparseValues": {"indices": [5, 1, 5], "values": [1, 1, 1]}}]}, "Upsert",
        pb.UpsertRequest(vectors=[pb.Vector(id="a", sparse_values=pb.SparseValues(indices=[5, 1, 5],
                                                                                 values=packed(1, 1, 1)))]),
    ),
    "sparse lengths": (
        "sparse", "POST", "/vectors/upsert",
        {"vectors": [{"id": "a", "sparseValues": {"indices": [5, 1], "values": [1]}}]}, "Upsert",
        pb.UpsertRequest(vectors=[pb.Vector(id="a", sparse_values=pb.SparseValues(indices=[5, 1],
                                                                                 values=packed(1)))]),
    ),
    "null in metadata": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "a", "values": [1, 1, 1], "metadata": {"m": None}}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, m=None)]),
    ),
    "an object in metadata": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "a", "values": [1, 1, 1], "metadata": {"m": {}}}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, m={})]),
    ),
    "a number in a list": (
        "dense", "POST", "/vectors/upsert",
        {"vectors": [{"id": "a", "values": [1, 1, 1], "metadata": {"m": ["a", 1]}}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, m=["a", 1])]),
    ),
    "metadata of 50 KB": (
        "dense", "POST", "/vectors/upsert",
        {"vectors": [{"id": "a", "values": [1, 1, 1], "metadata": {"m": "x" * 50_000}}]},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, m="x" * 50_000)]),
    ),
    "a long namespace": (
        "dense", "POST", "/vectors/upsert", {"vectors": [{"id": "a", "values": [1, 1, 1]}], "namespace": LONG},
        "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1)], namespace=LONG),
    ),
    "3 MB": (
        "dense", "POST", "/vectors/upsert",
        {"vectors": [{"id": f"{n}", "values": [1, 1, 1], "metadata": {"m": "x" * 30_000}} for n in range(100)]},
        "Upsert", pb.UpsertRequest(vectors=[vector(f"{n}", 1, 1, 1, m="x" * 30_000) for n in range(100)]),
    ),
    "topK": ("dense", "POST", "/query", {"topK": 0, "vector": [1, 1, 1]}, "Query",
             pb.QueryRequest(vector=packed(1, 1, 1))),
    "topK with values": (
        "dense", "POST", "/query", {"topK": 1001, "vector": [1, 1, 1], "includeValues": True}, "Query",
        pb.QueryRequest(vector=packed(1, 1, 1), top_k=1001, include_values=True),
    ),
    "no vector to ask for": ("dense", "POST", "/query", {"topK": 1}, "Query", pb.QueryRequest(top_k=1)),
    "an id beside a vector": ("dense", "POST", "/query", {"topK": 1, "id": "a", "vector": [1, 1, 1]}, "Query",
                              pb.QueryRequest(top_k=1, id="a", vector=packed(1, 1, 1))),
    "a query's dimension": ("dense", "POST", "/query", {"topK": 1, "vector": [1]}, "Query",
                            pb.QueryRequest(top_k=1, vector=packed(1))),
    "an operator": ("dense", "POST", "/query", {"topK": 1, "vector": [1, 1, 1], "filter": {"a": {"$near": 1}}}, "Query",
                    pb.QueryRequest(top_k=1, vector=packed(1, 1, 1), filter=struct_of({"a": {"$near": 1}}))),
    "scanFactor": ("dense", "POST", "/query", {"topK": 1, "vector": [1, 1, 1], "scanFactor": 5}, "Query",
                   pb.QueryRequest(top_k=1, vector=packed(1, 1, 1), scan_factor=5)),
    "maxCandidates": ("dense", "POST", "/query", {"topK": 9, "vector": [1, 1, 1], "maxCandidates": 5}, "Query",
                      pb.QueryRequest(top_k=9, vector=packed(1, 1, 1), max_candidates=5)),
    "too many candidates": ("dense", "POST", "/query", {"topK": 9, "vector": [1, 1, 1], "maxCandidates": 500_000},
                            "Query", pb.QueryRequest(top_k=9, vector=packed(1, 1, 1), max_candidates=500_000)),
    "no ids": ("dense", "GET", "/vectors/fetch", {}, "Fetch", pb.FetchRequest()),
    "a limit": ("dense", "GET", "/vectors/list", {"limit": 101}, "List", pb.ListRequest(limit=101)),
    "a limit of 0": ("dense", "GET", "/vectors/list", {"limit": 0}, "List", pb.ListRequest(limit=0)),
    "a token": ("dense", "GET", "/vectors/list", {"paginationToken": "x"}, "List",
                pb.ListRequest(pagination_token="x")),
    "a prefix": ("dense", "GET", "/vectors/list", {"prefix": LONG}, "List", pb.ListRequest(prefix=LONG)),
    "no filter": ("dense", "POST", "/vectors/fetch_by_metadata", {}, "FetchByMetadata", pb.FetchByMetadataRequest()),
    "an empty filter": ("dense", "POST", "/vectors/fetch_by_metadata", {"filter": {}}, "FetchByMetadata",
                        pb.FetchByMetadataRequest(filter=Struct())),
    "nothing to update": ("dense", "POST", "/vectors/update", {}, "Update", pb.UpdateRequest()),
    "an update's dimension": ("dense", "POST", "/vectors/update", {"id": "a", "values": [1]}, "Update",
                              pb.UpdateRequest(id="a", values=packed(1))),
    "a dry run by id": ("dense", "POST", "/vectors/update", {"id": "a", "dryRun": True}, "Update",
                        pb.UpdateRequest(id="a", dry_run=True)),
    "values by filter": (
        "dense", "POST", "/vectors/update", {"filter": {"a": 1}, "values": [1, 1, 1], "setMetadata": {"a": 2}},
        "Update",
        pb.UpdateRequest(filter=struct_of({"a": 1}), values=packed(1, 1, 1), set_metadata=struct_of({"a": 2})),
    ),
    "sparse values by filter": (
        "hybrid", "POST", "/vectors/update",
        {"filter": {"a": 1}, "sparseValues": {"indices": [1], "values": [1]}, "setMetadata": {"a": 2}},
        "Update",
        pb.UpdateRequest(filter=struct_of({"a": 1}), sparse_values=sparse({1: 1}), set_metadata=struct_of({"a": 2})),
    ),
    "a filter that changes nothing": ("dense", "POST", "/vectors/update", {"filter": {"a": 1}}, "Update",
                                      pb.UpdateRequest(filter=struct_of({"a": 1}))),
    "nothing to delete": ("dense", "POST", "/vectors/delete", {}, "Delete", pb.DeleteRequest()),
    "ids and all": ("dense", "POST", "/vectors/delete", {"ids": ["a"], "deleteAll": True}, "Delete",
                    pb.DeleteRequest(ids=["a"], delete_all=True)),
    "delete by an empty filter": ("dense", "POST", "/vectors/delete", {"filter": {}}, "Delete",
                                  pb.DeleteRequest(filter=Struct())),
    "stats with a filter": ("dense", "POST", "/describe_index_stats", {"filter": {"a": 1}}, "DescribeIndexStats",
                            pb.DescribeIndexStatsRequest(filter=struct_of({"a": 1}))),
    "an unknown index": ("nothing", "POST", "/describe_index_stats", {}, "DescribeIndexStats",
                         pb.DescribeIndexStatsRequest()),
    "the default namespace": ("dense", "POST", "/namespaces", {"name": "__default__"}, "CreateNamespace",
                              pb.CreateNamespaceRequest(name="__default__")),
    "a namespace without a name": ("dense", "POST", "/namespaces", {"name": ""}, "CreateNamespace",
                                   pb.CreateNamespaceRequest()),
    "a field that is not filterable": (
        "dense", "POST", "/namespaces", {"name": "n", "schema": {"fields": {"a": {}}}}, "CreateNamespace",
        pb.CreateNamespaceRequest(name="n", schema=pb.MetadataSchema(fields={"a": pb.MetadataFieldProperties()})),
    ),
    "an unknown namespace": ("dense", "GET", "/namespaces/nothing", {}, "DescribeNamespace",
                             pb.DescribeNamespaceRequest(namespace="nothing")),
    "a namespace to delete": ("dense", "DELETE", "/namespaces/nothing", {}, "DeleteNamespace",
                              pb.DeleteNamespaceRequest(namespace="nothing")),
}  # fmt: skip
