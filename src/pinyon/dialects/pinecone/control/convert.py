"""Pinecone's index bodies of 2025-04 to 2026-04 to core settings, and indexes to the bodies of those versions. Pure.

What is raised here names fields as the wire does. Errors of the core name them as `services.index_rules` does;
`create_param`, `model_param` and `configure_param` translate.
"""

from __future__ import annotations

from typing import Any

from pinyon.dialects.pinecone.control.schema import (
    ByocSpec,
    ConfigureBody,
    CreateBody,
    CreateForModelBody,
    DedicatedCapacity,
    EmbedBody,
    MetadataSchema,
    OnDemandCapacity,
    PodPatch,
    PodSpec,
    ReadCapacity,
    ServerlessSpec,
    Spec,
    SpecPatch,
)
from pinyon.dialects.pinecone.errors import Unprocessable
from pinyon.errors import InvalidRequest, Param
from pinyon.services.index_rules import EmbedChange, IndexChange, OnDemand
from pinyon.state import (
    Byoc,
    Dedicated,
    Deployment,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    Pod,
    Serverless,
    VectorType,
)
from pinyon.types import Metric

KINDS: dict[str, type[Deployment]] = {"serverless": Serverless, "pod": Pod, "byoc": Byoc}

# --- bodies to settings ----------------------------------------------------------------------------------------------


def create_settings(body: CreateBody) -> IndexSettings:
    """Raises InvalidRequest for a value that its key does not have."""
    spec = body.spec
    kind = spec_kind(spec)
    chosen = getattr(spec, kind)
    vector_type = _vector_type(body.vector_type)
    if body.metric is None:
        metric = Metric.DOTPRODUCT if vector_type is VectorType.SPARSE else Metric.COSINE
    else:
        metric = metric_of(body.metric, ("metric",))
    return IndexSettings(
        name=body.name,
        vector_type=vector_type,
        metric=metric,
        dimension=body.dimension,
        deployment=_deployment(chosen),
        read_capacity=None if isinstance(chosen, PodSpec) else dedicated(chosen.read_capacity),
        tags=body.tags or {},
        deletion_protection=protection(body.deletion_protection) or False,
        schema={} if isinstance(chosen, PodSpec) else _schema(chosen.schema),
        source_collection=None if isinstance(chosen, ByocSpec) else chosen.source_collection,
    )


def model_settings(body: CreateForModelBody, version: str) -> IndexSettings:
    """The same body at every version. `vector_type`, `metric` and `dimension` are for the service to fill in.

    Raises InvalidRequest for a value that its key does not have.
    """
    if version >= "2026-07" and body.schema is not None:
        for name, field in body.schema.fields.items():
            if field.filterable is None:
                raise Unprocessable("is required", ("schema", "fields", name, "filterable"))
    return IndexSettings(
        name=body.name,
        vector_type=VectorType.DENSE,
        metric=Metric.COSINE,
        dimension=None,
        deployment=Serverless(body.cloud, body.region),
        read_capacity=dedicated(body.read_capacity),
        tags=body.tags or {},
        deletion_protection=protection(body.deletion_protection) or False,
        schema=_schema(body.schema),
        embed=_embed(body.embed),
    )


def index_change(body: ConfigureBody) -> IndexChange:
    """Raises InvalidRequest for a value that its key does not have."""
    embed = None
    if (given := body.embed) is not None:
        embed = EmbedChange(given.model, given.field_map, given.read_parameters, given.write_parameters)
    change = IndexChange(tags=body.tags, deletion_protection=protection(body.deletion_protection), embed=embed)
    if body.spec is None:
        return change
    kind = spec_kind(body.spec)
    chosen = getattr(body.spec, kind)
    pods = isinstance(chosen, PodPatch)
    return IndexChange(
        tags=change.tags,
        deletion_protection=change.deletion_protection,
        embed=embed,
        deployment=KINDS[kind],
        read_capacity=None if pods else capacity_change(chosen.read_capacity),
        replicas=chosen.replicas if pods else None,
        pod_type=chosen.pod_type if pods else None,
    )


def spec_kind(spec: Spec | SpecPatch) -> str:
    """Which of the three a spec is. Raises Unprocessable unless it is exactly one."""
    kinds = [kind for kind in KINDS if getattr(spec, kind) is not None]
    if len(kinds) != 1:
        raise Unprocessable("must hold exactly one of serverless, pod and byoc", ("spec",))
    return kinds[0]


def _deployment(spec: ServerlessSpec | PodSpec | ByocSpec) -> Deployment:
    match spec:
        case ServerlessSpec():
            return Serverless(spec.cloud, spec.region)
        case ByocSpec():
            return Byoc(spec.environment)
    pod = Pod(
        environment=spec.environment,
        pod_type="p1.x1" if spec.pod_type is None else spec.pod_type,
        replicas=1 if spec.replicas is None else spec.replicas,
        shards=1 if spec.shards is None else spec.shards,
        indexed=_indexed(spec),
    )
    # NOTE: 1 is the default of `pods`, which clients also send beside other replicas and shards.
    if spec.pods not in (None, 1, pod.pods):
        raise InvalidRequest(f"must be replicas times shards, which is {pod.pods}", ("spec", "pod", "pods"))
    return pod


def _indexed(spec: PodSpec) -> tuple[str, ...] | None:
    if spec.metadata_config is None or spec.metadata_config.indexed is None:
        return None
    return tuple(spec.metadata_config.indexed)


def _embed(body: EmbedBody) -> Embed:
    return Embed(
        model=body.model,
        field_map=body.field_map,
        metric=None if body.metric is None else metric_of(body.metric, ("embed", "metric")),
        dimension=body.dimension,
        read_parameters=body.read_parameters,
        write_parameters=body.write_parameters,
    )


def _schema(schema: MetadataSchema | None) -> dict[str, Any]:
    if schema is None:
        return {}
    return {name: {"filterable": field.filterable is not False} for name, field in schema.fields.items()}


def metric_of(text: str, param: Param) -> Metric:
    try:
        return Metric(text)
    except ValueError:
        raise InvalidRequest("must be 'cosine', 'dotproduct' or 'euclidean'", param) from None


def _vector_type(text: str | None) -> VectorType:
    try:
        return VectorType(text or "dense")
    except ValueError:
        raise InvalidRequest("must be 'dense' or 'sparse'", ("vector_type",)) from None


def protection(text: str | None) -> bool | None:
    if text not in (None, "enabled", "disabled"):
        raise InvalidRequest("must be 'enabled' or 'disabled'", ("deletion_protection",))
    return None if text is None else text == "enabled"


def dedicated(capacity: ReadCapacity | None) -> Dedicated | None:
    """None: on demand."""
    if not isinstance(capacity, DedicatedCapacity):
        return None
    config = capacity.dedicated
    manual = config.manual
    return Dedicated(
        node_type=config.node_type,
        scaling=config.scaling,
        replicas=None if manual is None else manual.replicas,
        shards=None if manual is None else manual.shards,
    )


def capacity_change(capacity: ReadCapacity | None) -> Dedicated | OnDemand | None:
    return OnDemand() if isinstance(capacity, OnDemandCapacity) else dedicated(capacity)


# --- core paths to the wire's ----------------------------------------------------------------------------------------


def create_param(param: Param, kind: str) -> Param:
    """`kind` is the key of the body's spec: `spec.pod.replicas` for `("deployment", "replicas")`."""
    match param:
        case ("deployment", *rest):
            return ("spec", kind, *rest)
        case ("read_capacity", *_):
            return ("spec", kind, *capacity_param(param))
        case ("schema", *rest):
            return ("spec", kind, "schema", "fields", *rest)
        case ("source_collection",):
            return ("spec", kind, "source_collection")
    return param


def model_param(param: Param) -> Param:
    match param:
        case ("schema", *rest):
            return ("schema", "fields", *rest)
    return capacity_param(param)


def capacity_param(param: Param) -> Param:
    match param:
        case ("read_capacity", "replicas" | "shards" as part):
            return ("read_capacity", "dedicated", "manual", part)
        case ("read_capacity", part):
            return ("read_capacity", "dedicated", part)
    return param


# --- indexes to bodies -----------------------------------------------------------------------------------------------

STATES = {
    IndexStatus.INITIALIZING: "Initializing",
    IndexStatus.READY: "Ready",
    IndexStatus.FAILED: "InitializationFailed",
    IndexStatus.TERMINATING: "Terminating",
}


def index_model(record: IndexRecord, host: str, version: str) -> dict[str, Any]:
    """An index as a version before 2026-07 describes it. Keys without a value are left out: `tags` may not be null."""
    model: dict[str, Any] = {
        "name": record.name,
        "dimension": record.dimension,
        "metric": record.metric.value,
        "vector_type": record.vector_type.value,
        "host": host,
        "deletion_protection": protection_text(record),
        "tags": dict(record.tags) or None,
        "embed": _embed_model(record),
        "spec": _spec_model(record, version),
        "status": status(record),
    }
    return present(model)


def _embed_model(record: IndexRecord) -> dict[str, Any] | None:
    embed = record.embed
    if embed is None:
        return None
    return present(
        {
            "model": embed.model,
            "metric": record.metric.value,
            "dimension": record.dimension,
            "vector_type": record.vector_type.value,
            "field_map": dict(embed.field_map),
            "read_parameters": embed.read_parameters,
            "write_parameters": embed.write_parameters,
        }
    )


def _spec_model(record: IndexRecord, version: str) -> dict[str, Any]:
    # NOTE: 2025-04 has no place for read capacity, nor for the metadata schema (db_control_2025-04.oas.yaml).
    newer: dict[str, Any] = {}
    if version > "2025-04":
        schema = {"fields": dict(record.schema)} if record.schema else None
        newer = {"read_capacity": capacity_model(record.read_capacity), "schema": schema}
    match record.deployment:
        case Serverless(cloud, region):
            place = {"cloud": cloud, "region": region, "source_collection": record.source_collection}
            return {"serverless": present(place | newer)}
        case Byoc(environment):
            return {"byoc": present({"environment": environment} | newer)}
        case Pod() as pod:
            spec = {
                "environment": pod.environment,
                "pod_type": pod.pod_type,
                "replicas": pod.replicas,
                "shards": pod.shards,
                "pods": pod.pods,
                "metadata_config": None if pod.indexed is None else {"indexed": list(pod.indexed)},
                "source_collection": record.source_collection,
            }
            return {"pod": present(spec)}


def capacity_model(capacity: Dedicated | None, *, unknown_counts: bool = False) -> dict[str, Any]:
    """`unknown_counts`: whether counts that there are none of are null, as at 2026-07, or left out."""
    if capacity is None:
        nulls = {"current_replicas": None, "current_shards": None} if unknown_counts else {}
        return {"mode": "OnDemand", "status": {"state": "Ready", **nulls}}
    counts = {"current_replicas": capacity.replicas, "current_shards": capacity.shards}
    manual = present({"replicas": capacity.replicas, "shards": capacity.shards})
    return {
        "mode": "Dedicated",
        "dedicated": present({"node_type": capacity.node_type, "scaling": capacity.scaling, "manual": manual or None}),
        "status": {"state": "Ready", **(counts if unknown_counts else present(counts))},
    }


def status(record: IndexRecord) -> dict[str, Any]:
    return {"ready": record.status is IndexStatus.READY, "state": STATES[record.status]}


def protection_text(record: IndexRecord) -> str:
    return "enabled" if record.deletion_protection else "disabled"


def present(values: dict[str, Any]) -> dict[str, Any]:
    """Without the keys whose value is None."""
    return {key: value for key, value in values.items() if value is not None}
