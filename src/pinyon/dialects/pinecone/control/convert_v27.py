"""The same as `convert` for 2026-07, where an index is a schema of fields on a deployment. Pure.

Indexes of vectors are served: `_values`, `_sparse_values` or both. Documents (fields with names of their own) are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pinyon.dialects.base import validation_reason
from pinyon.dialects.pinecone.control.convert import (
    capacity_change,
    capacity_model,
    capacity_param,
    dedicated,
    metric_of,
    present,
    protection,
    protection_text,
    status,
)
from pinyon.dialects.pinecone.control.schema import (
    FIELD_V27,
    ByocV27,
    ConfigureBodyV27,
    CreateBodyV27,
    DedicatedCapacity,
    DenseField,
    FieldV27,
    ManagedV27,
    PodV27,
    SemanticTextField,
    SparseField,
    StringField,
)
from pinyon.dialects.pinecone.errors import Unprocessable
from pinyon.errors import InvalidRequest, Param, Unsupported
from pinyon.services.index_rules import EmbedChange, IndexChange
from pinyon.state import Byoc, Deployment, IndexRecord, IndexSettings, Pod, Serverless, VectorType
from pinyon.types import Metric

DENSE, SPARSE = "_values", "_sparse_values"
# NOTE: where an index runs if its creator does not say (CreateIndexRequest.deployment in db_control_2026-07).
DEFAULT_DEPLOYMENT = Serverless("aws", "us-east-1")

# --- bodies to settings ----------------------------------------------------------------------------------------------


def create_settings(body: CreateBodyV27, new_name: Callable[[], str]) -> IndexSettings:
    """`new_name` gives a name to an index that has none. Raises InvalidRequest; Unsupported for documents."""
    fields = {name: _field(name, bytes(raw)) for name, raw in body.schema.fields.items()}
    vector_type, metric, dimension = _vectors(fields)
    return IndexSettings(
        name=new_name() if body.name is None else body.name,
        vector_type=vector_type,
        metric=metric,
        dimension=dimension,
        deployment=_deployment(body.deployment),
        read_capacity=dedicated(body.read_capacity),
        tags=body.tags or {},
        deletion_protection=protection(body.deletion_protection) or False,
        cmek_id=body.cmek_id,
    )


def index_change(body: ConfigureBodyV27) -> IndexChange:
    """Raises InvalidRequest."""
    if isinstance(body.read_capacity, DedicatedCapacity):
        config = body.read_capacity.dedicated
        if (config.scaling is None) != (config.manual is None):
            raise InvalidRequest("must hold both scaling and manual, or neither", ("read_capacity", "dedicated"))
    embed = None
    if body.schema is not None:
        if len(body.schema.fields) != 1:
            raise InvalidRequest("must hold exactly one field", ("schema", "fields"))
        [(name, field)] = body.schema.fields.items()
        embed = EmbedChange(
            model=field.model,
            read_parameters=field.read_parameters,
            write_parameters=field.write_parameters,
            of_field=name,
        )
    pods = body.deployment
    return IndexChange(
        tags=body.tags,
        deletion_protection=protection(body.deletion_protection),
        deployment=None if pods is None else Pod,
        read_capacity=capacity_change(body.read_capacity),
        replicas=None if pods is None else pods.replicas,
        pod_type=None if pods is None else pods.pod_type,
        embed=embed,
    )


def _field(name: str, raw: bytes) -> FieldV27:
    try:
        return FIELD_V27.decode(raw)
    except msgspec.ValidationError as error:
        reason, param = validation_reason(str(error))
        raise Unprocessable(reason, ("schema", "fields", name, *param)) from None


def _vectors(fields: dict[str, FieldV27]) -> tuple[VectorType, Metric, int | None]:
    if not fields:
        raise InvalidRequest("must hold at least one field", ("schema", "fields"))
    if not fields.keys() & {DENSE, SPARSE}:
        _refuse_document(fields)
    for name, field in fields.items():
        param: Param = ("schema", "fields", name)
        if name not in (DENSE, SPARSE):
            raise InvalidRequest(f"must not stand beside {DENSE} or {SPARSE}", param)
        if not isinstance(field, DenseField if name == DENSE else SparseField):
            wanted = "dense_vector" if name == DENSE else "sparse_vector"
            raise InvalidRequest(f"must be {wanted!r}", (*param, "type"))
        assert isinstance(field, DenseField | SparseField)
        if field.description is not None:
            raise InvalidRequest(f"must not be given for {name}", (*param, "description"))
    dense = fields.get(DENSE)
    if isinstance(dense, DenseField):
        # NOTE: `_sparse_values` says nothing more: a dense index is always described with it. Whether it takes sparse
        # values is for its metric to say.
        metric = metric_of(dense.metric, ("schema", "fields", DENSE, "metric"))
        return VectorType.DENSE, metric, dense.dimension
    return VectorType.SPARSE, Metric.DOTPRODUCT, None


def _refuse_document(fields: dict[str, FieldV27]) -> None:
    """Always raises: InvalidRequest for what the vendor refuses too, Unsupported for a document index."""
    for name, field in fields.items():
        param: Param = ("schema", "fields", name)
        if name[:1] in ("", "$", "_"):
            raise InvalidRequest(f"must be {DENSE} or {SPARSE}, or not begin with '$' or '_'", param)
        if isinstance(field, SemanticTextField):
            reason = "must not be 'semantic_text': create such an index by POST /indexes/create-for-model"
            raise InvalidRequest(reason, (*param, "type"))
        if not isinstance(field, DenseField | SparseField) and not _is_searched(field):
            raise InvalidRequest("must not be declared: metadata can be filtered without", param)
    raise Unsupported(
        f"Document indexes are not served: 'schema.fields' may hold {DENSE}, {SPARSE} or both, not "
        + ", ".join(map(repr, fields))[:200]
    )


def _is_searched(field: FieldV27) -> bool:
    """Whether a text is declared to be searched, and not as metadata."""
    return isinstance(field, StringField) and any(
        option is not None for option in (field.full_text_search, field.embed, field.sparse_embed)
    )


def _deployment(body: ManagedV27 | ByocV27 | PodV27 | None) -> Deployment:
    match body:
        case None:
            return DEFAULT_DEPLOYMENT
        case ManagedV27():
            return Serverless(body.cloud, body.region)
        case ByocV27():
            return Byoc(body.environment)
        case PodV27():
            reason = "must be 'managed' or 'byoc': at this version of the API no index of pods can be created"
            raise InvalidRequest(reason, ("deployment", "deployment_type"))


# --- core paths to the wire's ----------------------------------------------------------------------------------------


def create_param(param: Param) -> Param:
    match param:
        case ("dimension" | "metric" as part,):
            return ("schema", "fields", DENSE, part)
    return capacity_param(param)


def configure_param(param: Param, body: ConfigureBodyV27) -> Param:
    match param:
        case ("embed", *rest) if body.schema is not None:
            [field] = body.schema.fields
            return ("schema", "fields", field) if rest[:1] == ["field_map"] else ("schema", "fields", field, *rest)
    return capacity_param(param)


# --- indexes to bodies -----------------------------------------------------------------------------------------------


def index_model(record: IndexRecord, host: str) -> dict[str, Any]:
    """An index as 2026-07 describes it, whichever version made it."""
    pods = isinstance(record.deployment, Pod)
    capacity = None if pods else capacity_model(record.read_capacity, unknown_counts=True)
    return {
        "name": record.name,
        "host": host,
        "schema": {"fields": schema_fields(record)},
        "deployment": _deployment_model(record.deployment),
        **present({"read_capacity": capacity, "source_collection": record.source_collection}),
        **present({"source_backup_id": record.source_backup_id, "cmek_id": record.cmek_id}),
        "deletion_protection": protection_text(record),
        "tags": dict(record.tags) or None,
        "status": status(record),
    }


def schema_fields(record: IndexSettings) -> dict[str, Any]:
    """The fields of an index, or of a backup of one."""
    fields: dict[str, Any] = {}
    if record.embed is not None:
        embed = record.embed
        for name in embed.field_map.values():
            fields[name] = {
                "type": "semantic_text",
                "model": embed.model,
                "dimension": record.dimension,
                "metric": record.metric.value,
                "read_parameters": embed.read_parameters,
                "write_parameters": embed.write_parameters,
                "description": None,
            }
    else:
        # NOTE: a dense index shows both, whatever it was made with (IndexSchema in db_control_2026-07).
        if record.vector_type is VectorType.DENSE:
            fields[DENSE] = {
                "type": "dense_vector",
                "dimension": record.dimension,
                "metric": record.metric.value,
                "description": None,
            }
        fields[SPARSE] = {"type": "sparse_vector", "description": None}
    filterable: dict[str, Any] = dict(record.schema)
    if isinstance(record.deployment, Pod):
        filterable |= {name: {"filterable": True} for name in record.deployment.indexed or ()}
    return fields | {name: declared for name, declared in filterable.items() if name not in fields}


def _deployment_model(deployment: Deployment) -> dict[str, Any]:
    match deployment:
        case Serverless(cloud, region):
            return {"deployment_type": "managed", "cloud": cloud, "region": region}
        case Byoc(environment):
            return {"deployment_type": "byoc", "environment": environment}
        case Pod() as pod:
            return {
                "deployment_type": "pod",
                "environment": pod.environment,
                "pod_type": pod.pod_type,
                "replicas": pod.replicas,
                "shards": pod.shards,
            }
