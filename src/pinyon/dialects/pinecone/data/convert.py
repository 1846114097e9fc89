"""Pinecone's vectors, stats and namespaces: bodies to core requests, core results to bytes. Pure: no HTTP, no store.

What is raised here names fields as the wire does. Errors of the core name them as the core does; the `*_param`
functions translate.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pinyon import filters
from pinyon.dialects.pinecone.data.schema import (
    CreateNamespaceBody,
    DeleteBody,
    FetchByMetadataBody,
    QueryBody,
    SparseValues,
    StatsBody,
    UpdateBody,
    Vector,
)
from pinyon.dialects.wire import to_json
from pinyon.errors import InvalidRequest, Param
from pinyon.filters import Filter
from pinyon.services.record_checks import Draft
from pinyon.services.records import Fetched, Ids, Matches, Namespace, Namespaces, Stats, VectorQuery
from pinyon.state.records import Schema, VectorType
from pinyon.stores.base import Record, SparseVector
from pinyon.types import FloatArray

# NOTE: the default namespace is "" in bodies, and has this name where a namespace must be named (the API files of
# 2026-07). Both mean it everywhere.
DEFAULT_NAMESPACE = "__default__"

# From here on: the counts of namespaces are decimal strings, and the filter of fetch_by_metadata is required.
REDESIGN = "2026-07"

_NUMBER = re.compile("-?[0-9]{1,18}")


def namespace_in(name: str | None) -> str:
    """The core's name of a namespace."""
    return "" if name is None or name == DEFAULT_NAMESPACE else name


def array(values: Sequence[float]) -> FloatArray:
    """[n]; what a 32-bit float cannot hold is infinite, which the services refuse."""
    try:
        # a third of what numpy takes to read a list
        return np.frombuffer(struct.pack(f"<{len(values)}f", *values), dtype="<f4")
    except OverflowError:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)


def sparse_vector(sparse: SparseValues | None) -> SparseVector | None:
    if sparse is None:
        return None
    return SparseVector(np.asarray(sparse.indices, dtype=np.uint32), array(sparse.values))


def required_filter(value: dict[str, object] | None, param: Param = ("filter",)) -> Filter:
    if not value:
        raise InvalidRequest("is required, and must not be empty", param)
    return filters.parse(value, param)


def optional_filter(value: dict[str, object] | None, param: Param = ("filter",)) -> Filter | None:
    """An empty one is none at all."""
    return filters.parse(value, param) if value else None


# --- writes ----------------------------------------------------------------------------------------------------------


def drafts(vectors: Sequence[Vector]) -> list[Draft]:
    return [
        Draft(
            vector.id,
            None if vector.values is None else array(vector.values),
            sparse_vector(vector.sparse_values),
            vector.metadata or {},
        )
        for vector in vectors
    ]


def upsert_param(param: Param) -> Param:
    """`vectors[3].sparseValues.indices[5]` for `("records", 3, "sparse", "indices", 5)`."""
    match param:
        case ("records", int(position), "sparse", *rest):
            return ("vectors", position, "sparseValues", *rest)
        case ("records", *rest):
            return ("vectors", *rest)
    return param


class UpdateWhere(NamedTuple):
    filter: Filter
    metadata: dict[str, object]
    dry_run: bool


def update_request(body: UpdateBody) -> Draft | UpdateWhere:
    """One record's change, or one for all that a filter matches. Raises InvalidRequest."""
    if body.filter is None:
        if body.id is None:
            raise InvalidRequest("is required, or a filter", ("id",))
        if body.dry_run:
            raise InvalidRequest("is for updates by filter alone", ("dryRun",))
        values = None if body.values is None else array(body.values)
        return Draft(body.id, values, sparse_vector(body.sparse_values), body.set_metadata or {})
    for name, given in (("id", body.id), ("values", body.values or None), ("sparseValues", body.sparse_values)):
        if given is not None:
            raise InvalidRequest("must not be given together with a filter", (name,))
    if not body.set_metadata and not body.dry_run:
        raise InvalidRequest("is required for an update by filter", ("setMetadata",))
    return UpdateWhere(required_filter(body.filter), body.set_metadata or {}, bool(body.dry_run))


def update_param(param: Param) -> Param:
    match param:
        case ("sparse", *rest):
            return ("sparseValues", *rest)
        case ("metadata", *rest):
            return ("setMetadata", *rest)
    return param


def check_delete(body: DeleteBody) -> None:
    """One of the three selectors, and only one. Raises InvalidRequest.

    NOTE: the files call the filter "mutually exclusive with specifying ids"; the hosted service is said to drop them.
    """
    given = [name for name, is_given in _selectors(body) if is_given]
    if not given:
        if body.filter is not None:
            raise InvalidRequest("must not be empty", ("filter",))
        raise InvalidRequest("is required, or a filter, or deleteAll", ("ids",))
    if len(given) > 1:
        raise InvalidRequest(f"must not be given together with {given[0]}", (given[1],))


def _selectors(body: DeleteBody) -> tuple[tuple[str, bool], ...]:
    return ("ids", bool(body.ids)), ("filter", bool(body.filter)), ("deleteAll", bool(body.delete_all))


def delete_query(single: Mapping[str, str], ids: Sequence[str]) -> DeleteBody:
    """The query string of DELETE /vectors/delete, which stands only in the proto's HTTP annotations."""
    check_names(single, ("ids", "deleteAll", "namespace"))
    flag = single.get("deleteAll", "false")
    if flag not in ("true", "false"):
        raise InvalidRequest("must be true or false", ("deleteAll",))
    return DeleteBody(ids=list(ids) or None, delete_all=flag == "true", namespace=single.get("namespace"))


def update_response(matched: int | None) -> bytes:
    return b"{}" if matched is None else to_json({"matchedRecords": matched})


# --- reads -----------------------------------------------------------------------------------------------------------


def query_request(body: QueryBody) -> VectorQuery:
    """NOTE: `maxCandidates` ranges from topK to 100,000 (QueryRequest in db_data_2026-04.oas.yaml); the schema has its
    other bounds."""
    if body.max_candidates is not None and body.max_candidates < body.top_k:
        raise InvalidRequest("must be topK or more", ("maxCandidates",))
    return VectorQuery(
        body.top_k,
        body.id,
        None if body.vector is None else array(body.vector),
        sparse_vector(body.sparse_vector),
        optional_filter(body.filter),
        bool(body.include_values),
        bool(body.include_metadata),
    )


def query_param(param: Param) -> Param:
    match param:
        case ("values", *rest):
            return ("vector", *rest)
        case ("sparse", *rest):
            return ("sparseVector", *rest)
        case ("top_k", *rest):
            return ("topK", *rest)
    return param


def page_param(param: Param) -> Param:
    return ("paginationToken",) if param == ("pagination_token",) else param


def fetch_filter(body: FetchByMetadataBody, version: str) -> Filter:
    """NOTE: the filter is required from 2026-07 on; before, none means every record."""
    if version >= REDESIGN:
        return required_filter(body.filter)
    return optional_filter(body.filter) or filters.And(())


def query_response(found: Matches, namespace: str) -> bytes:
    """`values` is empty where values were not asked for, or there are none."""
    matches = []
    for match in found.matches:
        wire = _vector(match.record)
        wire["score"] = score(match.score)
        matches.append(wire)
    return to_json({"matches": matches, "namespace": namespace, "usage": {"readUnits": found.read_units}})


def score(value: float) -> float:
    """A number always: the clients cannot read null, and JSON has no other word for what is not finite."""
    if math.isfinite(value):
        return value
    return 0.0 if math.isnan(value) else math.copysign(float(np.finfo(np.float32).max), value)


def fetch_response(found: Fetched, namespace: str) -> bytes:
    return to_json(
        {
            "vectors": {record.id: _vector(record) for record in found.records},
            "namespace": namespace,
            "usage": {"readUnits": found.read_units},
            **_pagination(found.next),
        }
    )


def _vector(record: Record) -> dict[str, object]:
    # Empty values beside sparse ones: SDK 7 needs the key, SDK 10 takes it where sparseValues is there.
    wire: dict[str, object] = {"id": record.id, "values": [] if record.values is None else record.values}
    if record.sparse is not None:
        wire["sparseValues"] = {"indices": record.sparse.indices, "values": record.sparse.values}
    if record.metadata:
        wire["metadata"] = record.metadata
    return wire


def list_response(found: Ids, namespace: str) -> bytes:
    return to_json(
        {
            "vectors": [{"id": id} for id in found.ids],
            "namespace": namespace,
            "usage": {"readUnits": found.read_units},
            **_pagination(found.next),
        }
    )


def _pagination(token: str | None) -> dict[str, object]:
    """No key on the last page: the SDKs' loops end there."""
    return {} if token is None else {"pagination": {"next": token}}


def stats_filter(body: StatsBody) -> Filter | None:
    return optional_filter(body.filter)


def stats_response(stats: Stats) -> bytes:
    record = stats.record
    wire: dict[str, object] = {
        "namespaces": {name: {"vectorCount": count} for name, count in stats.namespaces.items()},
        "indexFullness": 0.0,
        "totalVectorCount": sum(stats.namespaces.values()),
        "metric": record.metric.value,
        "vectorType": record.vector_type.value,
    }
    if record.vector_type is VectorType.DENSE:
        wire["dimension"] = record.dimension
    return to_json(wire)


# --- namespaces ------------------------------------------------------------------------------------------------------


def new_namespace(body: CreateNamespaceBody, version: str) -> tuple[str, Schema | None]:
    """The name, and the metadata fields that are declared. NOTE: `filterable` is required from 2026-07 on."""
    if body.name == DEFAULT_NAMESPACE:
        raise InvalidRequest("is the name of the default namespace, which is always there", ("name",))
    if body.schema is None:
        return body.name, None
    for name, declared in body.schema.fields.items():
        if declared.filterable is None and version >= REDESIGN:
            raise InvalidRequest("is required", ("schema", "fields", name, "filterable"))
        if declared.filterable is False:
            raise InvalidRequest("must be true", ("schema", "fields", name, "filterable"))
    return body.name, {name: {"filterable": True} for name in body.schema.fields}


def schema_param(param: Param) -> Param:
    match param:
        case ("schema", *rest):
            return ("schema", "fields", *rest)
    return param


def namespace_response(namespace: Namespace, version: str) -> bytes:
    return to_json(_namespace(namespace, version))


def namespaces_response(page: Namespaces, version: str) -> bytes:
    return to_json(
        {
            "namespaces": [_namespace(namespace, version) for namespace in page.namespaces],
            "total_count": page.total,
            **_pagination(page.next),
        }
    )


def _namespace(namespace: Namespace, version: str) -> dict[str, object]:
    wire: dict[str, object] = {"name": namespace.name or DEFAULT_NAMESPACE, "record_count": namespace.records}
    if version >= REDESIGN:
        wire |= {"record_count": str(namespace.records), "size_bytes": str(namespace.size_bytes)}
    # NOTE: 2025-04 has neither key (NamespaceDescription in db_data_2025-04.oas.yaml).
    if namespace.schema and version > "2025-04":
        wire |= {"schema": {"fields": namespace.schema}, "indexed_fields": {"fields": list(namespace.schema)}}
    return wire


# --- query strings ---------------------------------------------------------------------------------------------------


def check_names(query: Mapping[str, str], known: Sequence[str]) -> None:
    for name in query:
        if name not in known:
            raise InvalidRequest(f"is not a known query parameter, use {' or '.join(known) or 'none'}", (name,))


def limit_of(query: Mapping[str, str]) -> int | None:
    text = query.get("limit")
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise InvalidRequest("must be a whole number", ("limit",))
    return int(text)


# --- what JSON cannot say --------------------------------------------------------------------------------------------


def not_finite(value: object) -> Param | None:
    """The path of a number that is not finite in a JSON value of Python's lenient parser; None if there is none."""
    pending: list[tuple[Param, object]] = [((), value)]
    while pending:
        param, value = pending.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return param
        children: Sequence[tuple[str | int, object]] = ()
        if isinstance(value, list):
            children = list(enumerate(value))
        elif isinstance(value, dict):
            children = list(value.items())
        pending.extend(((*param, key), item) for key, item in reversed(children))
    return None
