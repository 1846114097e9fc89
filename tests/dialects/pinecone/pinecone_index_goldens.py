"""One stored index at several versions: golden pairs, after the cases of Pinecone's files."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from pinyon.state import (
    Byoc,
    Dedicated,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    Pod,
    Serverless,
    VectorType,
)
from pinyon.types import Metric

READY = {"ready": True, "state": "Ready"}
ON_DEMAND = {"mode": "OnDemand", "status": {"state": "Ready"}}
ON_DEMAND_V27 = {"mode": "OnDemand", "status": {"state": "Ready", "current_replicas": None, "current_shards": None}}
DEDICATED = {
    "mode": "Dedicated",
    "dedicated": {"node_type": "t1", "scaling": "Manual", "manual": {"replicas": 1, "shards": 1}},
    "status": {"state": "Ready", "current_replicas": 1, "current_shards": 1},
}
AWS = Serverless("aws", "us-east-1")
MANAGED = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
SPARSE_FIELD = {"type": "sparse_vector", "description": None}


def settings(name: str, dimension: int | None, metric: str, **others: Any) -> IndexSettings:
    plain: dict[str, Any] = {"vector_type": VectorType.DENSE, "deployment": AWS}
    return IndexSettings(name=name, dimension=dimension, metric=Metric(metric), **plain | others)


def record_of(made: IndexSettings, status: IndexStatus = IndexStatus.READY) -> IndexRecord:
    values = {field.name: getattr(made, field.name) for field in fields(IndexSettings)}
    return IndexRecord(
        **values, id="u", status=status, port=None, created_at=datetime(2026, 1, 1, tzinfo=UTC), version=1
    )


def dense(dimension: int, metric: str) -> dict[str, Any]:
    return {"type": "dense_vector", "dimension": dimension, "metric": metric, "description": None}


# name -> settings, described at 2025-10 and 2026-04, described at 2026-07. The cases of the 2026-07 fact sheet.
DESCRIBED: dict[str, tuple[IndexSettings, dict[str, Any], dict[str, Any]]] = {
    "dense serverless": (
        settings("notes", 8, "cosine"),
        {
            "name": "notes",
            "dimension": 8,
            "metric": "cosine",
            "vector_type": "dense",
            "host": "http://localhost:5081",
            "deletion_protection": "disabled",
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1", "read_capacity": ON_DEMAND}},
            "status": READY,
        },
        {
            "name": "notes",
            "host": "http://localhost:5081",
            "schema": {"fields": {"_values": dense(8, "cosine"), "_sparse_values": SPARSE_FIELD}},
            "deployment": MANAGED,
            "read_capacity": ON_DEMAND_V27,
            "deletion_protection": "disabled",
            "tags": None,
            "status": READY,
        },
    ),
    "sparse serverless": (
        settings(
            "terms",
            None,
            "dotproduct",
            vector_type=VectorType.SPARSE,
            deployment=Serverless("gcp", "us-central1"),
        ),
        {
            "name": "terms",
            "metric": "dotproduct",
            "vector_type": "sparse",
            "host": "http://localhost:5081",
            "deletion_protection": "disabled",
            "spec": {"serverless": {"cloud": "gcp", "region": "us-central1", "read_capacity": ON_DEMAND}},
            "status": READY,
        },
        {
            "name": "terms",
            "host": "http://localhost:5081",
            "schema": {"fields": {"_sparse_values": SPARSE_FIELD}},
            "deployment": {"deployment_type": "managed", "cloud": "gcp", "region": "us-central1"},
            "read_capacity": ON_DEMAND_V27,
            "deletion_protection": "disabled",
            "tags": None,
            "status": READY,
        },
    ),
    "declared metadata, tags, protection": (
        settings(
            "films",
            4,
            "dotproduct",
            deployment=Serverless("aws", "eu-west-1"),
            tags={"team": "a"},
            deletion_protection=True,
            schema={"genre": {"filterable": True}},
        ),
        {
            "name": "films",
            "dimension": 4,
            "metric": "dotproduct",
            "vector_type": "dense",
            "host": "http://localhost:5081",
            "deletion_protection": "enabled",
            "tags": {"team": "a"},
            "spec": {
                "serverless": {
                    "cloud": "aws",
                    "region": "eu-west-1",
                    "read_capacity": ON_DEMAND,
                    "schema": {"fields": {"genre": {"filterable": True}}},
                }
            },
            "status": READY,
        },
        {
            "name": "films",
            "host": "http://localhost:5081",
            "schema": {
                "fields": {
                    "_values": dense(4, "dotproduct"),
                    "_sparse_values": SPARSE_FIELD,
                    "genre": {"filterable": True},
                }
            },
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "eu-west-1"},
            "read_capacity": ON_DEMAND_V27,
            "deletion_protection": "enabled",
            "tags": {"team": "a"},
            "status": READY,
        },
    ),
    "pods from a collection": (
        settings(
            "podidx",
            16,
            "euclidean",
            deployment=Pod("us-east1-gcp", "p1.x2", replicas=2, shards=1, indexed=("genre",)),
            source_collection="old",
        ),
        {
            "name": "podidx",
            "dimension": 16,
            "metric": "euclidean",
            "vector_type": "dense",
            "host": "http://localhost:5081",
            "deletion_protection": "disabled",
            "spec": {
                "pod": {
                    "environment": "us-east1-gcp",
                    "pod_type": "p1.x2",
                    "replicas": 2,
                    "shards": 1,
                    "pods": 2,
                    "metadata_config": {"indexed": ["genre"]},
                    "source_collection": "old",
                }
            },
            "status": READY,
        },
        {
            "name": "podidx",
            "host": "http://localhost:5081",
            "schema": {
                "fields": {
                    "_values": dense(16, "euclidean"),
                    "_sparse_values": SPARSE_FIELD,
                    "genre": {"filterable": True},
                }
            },
            "deployment": {
                "deployment_type": "pod",
                "environment": "us-east1-gcp",
                "pod_type": "p1.x2",
                "replicas": 2,
                "shards": 1,
            },
            "source_collection": "old",
            "deletion_protection": "disabled",
            "tags": None,
            "status": READY,
        },
    ),
    "byoc with dedicated reads": (
        settings("own", 32, "cosine", deployment=Byoc("aws-env-1"), read_capacity=Dedicated("t1", "Manual", 1, 1)),
        {
            "name": "own",
            "dimension": 32,
            "metric": "cosine",
            "vector_type": "dense",
            "host": "http://localhost:5081",
            "deletion_protection": "disabled",
            "spec": {"byoc": {"environment": "aws-env-1", "read_capacity": DEDICATED}},
            "status": READY,
        },
        {
            "name": "own",
            "host": "http://localhost:5081",
            "schema": {"fields": {"_values": dense(32, "cosine"), "_sparse_values": SPARSE_FIELD}},
            "deployment": {"deployment_type": "byoc", "environment": "aws-env-1"},
            "read_capacity": DEDICATED,
            "deletion_protection": "disabled",
            "tags": None,
            "status": READY,
        },
    ),
    "integrated, dense": (
        settings(
            "faq",
            1024,
            "cosine",
            embed=Embed(
                "multilingual-e5-large",
                {"text": "body"},
                Metric.COSINE,
                1024,
                {"input_type": "query"},
                {"input_type": "passage"},
            ),
        ),
        {
            "name": "faq",
            "dimension": 1024,
            "metric": "cosine",
            "vector_type": "dense",
            "host": "http://localhost:5081",
            "deletion_protection": "disabled",
            "embed": {
                "model": "multilingual-e5-large",
                "metric": "cosine",
                "dimension": 1024,
                "vector_type": "dense",
                "field_map": {"text": "body"},
                "read_parameters": {"input_type": "query"},
                "write_parameters": {"input_type": "passage"},
            },
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1", "read_capacity": ON_DEMAND}},
            "status": READY,
        },
        {
            "name": "faq",
            "host": "http://localhost:5081",
            "schema": {
                "fields": {
                    "body": {
                        "type": "semantic_text",
                        "model": "multilingual-e5-large",
                        "dimension": 1024,
                        "metric": "cosine",
                        "read_parameters": {"input_type": "query"},
                        "write_parameters": {"input_type": "passage"},
                        "description": None,
                    }
                }
            },
            "deployment": MANAGED,
            "read_capacity": ON_DEMAND_V27,
            "deletion_protection": "disabled",
            "tags": None,
            "status": READY,
        },
    ),
    "integrated, sparse": (
        settings(
            "kw",
            None,
            "dotproduct",
            vector_type=VectorType.SPARSE,
            embed=Embed("pinecone-sparse-english-v0", {"text": "chunk"}, Metric.DOTPRODUCT),
        ),
        {
            "name": "kw",
            "metric": "dotproduct",
            "vector_type": "sparse",
            "host": "http://localhost:5081",
            "deletion_protection": "disabled",
            "embed": {
                "model": "pinecone-sparse-english-v0",
                "metric": "dotproduct",
                "vector_type": "sparse",
                "field_map": {"text": "chunk"},
            },
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1", "read_capacity": ON_DEMAND}},
            "status": READY,
        },
        {
            "name": "kw",
            "host": "http://localhost:5081",
            "schema": {
                "fields": {
                    "chunk": {
                        "type": "semantic_text",
                        "model": "pinecone-sparse-english-v0",
                        "dimension": None,
                        "metric": "dotproduct",
                        "read_parameters": None,
                        "write_parameters": None,
                        "description": None,
                    }
                }
            },
            "deployment": MANAGED,
            "read_capacity": ON_DEMAND_V27,
            "deletion_protection": "disabled",
            "tags": None,
            "status": READY,
        },
    ),
}
HOST = "http://localhost:5081"
