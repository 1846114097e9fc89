"""Pinecone's messages to the bodies and core requests that REST's become too, and core results to messages. Pure.

What the bodies of REST have checks for is put into those bodies, so that both are refused in the same words. Vectors
are not: they go from the message into an array as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec
import numpy as np
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.unknown_fields import UnknownFieldSet

from pinyon.dialects.base import validation_reason
from pinyon.dialects.pinecone.data import convert, schema
from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb
from pinyon.errors import InvalidRequest, PayloadTooLarge
from pinyon.services.record_checks import MAX_RECORDS, Draft
from pinyon.services.records import Fetched, Ids, Matches, Namespace, Namespaces, Stats, VectorQuery
from pinyon.state.records import VectorType
from pinyon.stores.base import Metadata, Record, SparseVector
from pinyon.types import FloatArray

M = TypeVar("M", bound=Message)

_LENGTH, _FIXED32 = 2, 5  # wire types
# Decoded, small values take 24 times their bytes. So an upsert of more is looked through before it is decoded, and
# another message of more is refused: the largest that make sense have half a megabyte.
_LARGE = 1 << 20
_MAX_OTHER = 4 << 20
_MAX_FIELDS = 16  # of a record
# Metadata has at most so many times the bytes here that it has as JSON, by which upserts are bounded.
_PER_JSON = 4


def decode(kind: type[M], message: bytes) -> M:
    """Raises InvalidRequest."""
    if len(message) > _MAX_OTHER and kind is not pb.UpsertRequest:
        raise PayloadTooLarge(_MAX_OTHER)
    decoded = kind()
    try:
        decoded.ParseFromString(message)
    except DecodeError:
        raise InvalidRequest(f"The message is not of the type {kind.DESCRIPTOR.name}") from None
    return decoded


def floats(packed: bytes, message: Message, field: int) -> FloatArray | None:
    """[n] of a field of floats; None if there are none. Raises InvalidRequest."""
    if not packed:
        # A sender may write each value as a field of its own, though none of the vendors' clients does.
        unknown = UnknownFieldSet(message)
        others = [unknown[position] for position in range(len(unknown))]
        loose = [each.data for each in others if (each.field_number, each.wire_type) == (field, _FIXED32)]
        return np.array(loose, dtype="<u4").view("<f4") if loose else None
    if len(packed) % 4:
        raise InvalidRequest("must be packed 32-bit floats", (message.DESCRIPTOR.fields_by_number[field].name,))
    return np.frombuffer(packed, dtype="<f4")


def sparse_vector(sparse: pb.SparseValues) -> SparseVector:
    values = floats(sparse.values, sparse, pb.SparseValues.VALUES_FIELD_NUMBER)
    indices = np.fromiter(sparse.indices, np.uint32, len(sparse.indices))
    return SparseVector(indices, np.empty(0, np.float32) if values is None else values)


def fields(struct: Struct) -> dict[str, object]:
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return fields(value.struct_value)
    if kind == "list_value":
        return [_value(each) for each in value.list_value.values]
    return None if kind is None or kind == "null_value" else getattr(value, kind)


def _filter(message: Message) -> dict[str, object] | None:
    """Of a request, whose name for it is always the same."""
    return fields(message.filter) if message.HasField("filter") else None  # type: ignore[attr-defined]


# --- requests --------------------------------------------------------------------------------------------------------


def upsert_request(message: bytes, max_bytes: int) -> tuple[str, list[Draft]]:
    """The namespace and the records, of which `max_bytes` may be stored together. Raises InvalidRequest."""
    if len(message) > _LARGE:
        _look_through(message, max_bytes)
    call = decode(pb.UpsertRequest, message)
    return convert.namespace_in(call.namespace), [_draft(vector, n) for n, vector in enumerate(call.vectors)]


def _draft(vector: pb.Vector, position: int) -> Draft:
    try:
        return Draft(
            vector.id,
            floats(vector.values, vector, pb.Vector.VALUES_FIELD_NUMBER),
            sparse_vector(vector.sparse_values) if vector.HasField("sparse_values") else None,
            fields(vector.metadata) if vector.HasField("metadata") else {},
        )
    except InvalidRequest as error:
        error.param = ("vectors", position, *error.param)
        raise


def _look_through(message: bytes, max_bytes: int) -> None:
    """Raises InvalidRequest for what would take far more memory than its bytes, to be refused afterwards."""
    records = metadata = 0
    for field, start, end in _fields(message, 0, len(message)):
        if field != 1:
            continue
        records += 1
        for count, (inner, first, last) in enumerate(_fields(message, start, end)):
            metadata += last - first if inner == pb.Vector.METADATA_FIELD_NUMBER else 0
            if count > _MAX_FIELDS:
                raise InvalidRequest("has too many fields", ("vectors", records - 1))
    if records > MAX_RECORDS:
        raise InvalidRequest(f"must hold 1 to {MAX_RECORDS} records, and holds {records}", ("vectors",))
    if metadata > _PER_JSON * max_bytes + _LARGE:
        megabytes, limit = math.ceil(metadata / _LARGE), round(max_bytes / _LARGE, 2)
        reason = f"Request size {megabytes}MB exceeds the maximum supported size of {limit:g}MB"
        raise InvalidRequest(reason, ("vectors",))


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number, start and end of each field: all of an upsert's and a record's have a length. Raises
    InvalidRequest."""
    while at < end:
        tag, at = _varint(message, at)
        size, at = _varint(message, at)
        if tag & 7 != _LENGTH or at + size > end:
            raise InvalidRequest("The message is not of the type UpsertRequest")
        yield tag >> 3, at, at + size
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at


def query_request(call: pb.QueryRequest) -> VectorQuery:
    """Raises InvalidRequest."""
    if call.queries:
        raise InvalidRequest("is not supported: use vector, sparseVector or id", ("queries",))
    given: dict[str, object] = {
        "topK": call.top_k,
        "includeValues": call.include_values,
        "includeMetadata": call.include_metadata,
        "filter": _filter(call),
        "id": call.id or None,
    }
    if call.HasField("scan_factor"):
        given["scanFactor"] = call.scan_factor
    if call.HasField("max_candidates"):
        given["maxCandidates"] = call.max_candidates
    return dataclasses.replace(
        convert.query_request(_body(given, schema.QueryBody)),
        values=floats(call.vector, call, pb.QueryRequest.VECTOR_FIELD_NUMBER),
        sparse=sparse_vector(call.sparse_vector) if call.HasField("sparse_vector") else None,
    )


def update_request(call: pb.UpdateRequest) -> Draft | convert.UpdateWhere:
    """Raises InvalidRequest."""
    values = floats(call.values, call, pb.UpdateRequest.VALUES_FIELD_NUMBER)
    sparse = sparse_vector(call.sparse_values) if call.HasField("sparse_values") else None
    body = schema.UpdateBody(
        id=call.id or None,
        # That there are some is all that is asked of them here.
        values=None if values is None else [0.0],
        sparse_values=None if sparse is None else schema.SparseValues([], []),
        set_metadata=fields(call.set_metadata) if call.HasField("set_metadata") else None,
        filter=_filter(call),
        dry_run=call.dry_run,
    )
    wanted = convert.update_request(body)
    return dataclasses.replace(wanted, values=values, sparse=sparse) if isinstance(wanted, Draft) else wanted


def delete_request(call: pb.DeleteRequest) -> schema.DeleteBody:
    """Raises InvalidRequest."""
    body = schema.DeleteBody(list(call.ids) or None, call.delete_all or None, call.namespace, _filter(call))
    convert.check_delete(body)
    return body


def fetch_by_metadata_request(call: pb.FetchByMetadataRequest) -> schema.FetchByMetadataBody:
    token = call.pagination_token if call.HasField("pagination_token") else None
    return schema.FetchByMetadataBody(
        _filter(call), call.namespace, call.limit if call.HasField("limit") else None, token
    )


def stats_request(call: pb.DescribeIndexStatsRequest) -> schema.StatsBody:
    return schema.StatsBody(_filter(call))


def create_namespace_request(call: pb.CreateNamespaceRequest) -> schema.CreateNamespaceBody:
    if not call.HasField("schema"):
        return schema.CreateNamespaceBody(call.name)
    # A flag that is false is one that was not given: there is no difference on this wire.
    declared = {name: schema.FieldSchema(field.filterable or None) for name, field in call.schema.fields.items()}
    return schema.CreateNamespaceBody(call.name, schema.NamespaceSchema(declared))


B = TypeVar("B")


def _body(given: Mapping[str, object], kind: type[B]) -> B:
    """REST's body, with the checks that its schema makes. Raises InvalidRequest."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(*validation_reason(str(error))) from None


def page(call: pb.ListRequest | pb.ListNamespacesRequest) -> tuple[str | None, int | None]:
    """The token and the limit of a listing, None for what is not there."""
    return (
        call.pagination_token if call.HasField("pagination_token") else None,
        call.limit if call.HasField("limit") else None,
    )


# --- answers ---------------------------------------------------------------------------------------------------------


def query_response(found: Matches, namespace: str) -> bytes:
    answer = pb.QueryResponse(namespace=namespace, usage=pb.Usage(read_units=found.read_units))
    for match in found.matches:
        wire = answer.matches.add(score=convert.score(match.score))
        _fill(wire, match.record)
    return answer.SerializeToString()


def fetch_response(found: Fetched, namespace: str, kind: type[pb.FetchResponse | pb.FetchByMetadataResponse]) -> bytes:
    answer = kind(namespace=namespace, usage=pb.Usage(read_units=found.read_units))
    for record in found.records:
        _fill(answer.vectors[record.id], record)
    if found.next is not None:
        answer.pagination.next = found.next  # type: ignore[union-attr]
    return answer.SerializeToString()


def _fill(wire: pb.Vector | pb.ScoredVector, record: Record) -> None:
    wire.id = record.id
    if record.values is not None:
        wire.values = _packed(record.values)
    if record.sparse is not None:
        wire.sparse_values.indices.extend(record.sparse.indices.tolist())
        wire.sparse_values.values = _packed(record.sparse.values)
    if record.metadata:
        _fill_struct(wire.metadata, record.metadata)


def _packed(values: FloatArray) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _fill_struct(struct: Struct, metadata: Metadata) -> None:
    into = struct.fields
    for name, value in metadata.items():
        if isinstance(value, str):
            into[name].string_value = value
        elif isinstance(value, bool):
            into[name].bool_value = value
        elif isinstance(value, list):
            into[name].list_value.CopyFrom(ListValue(values=[Value(string_value=each) for each in value]))
        else:
            into[name].number_value = value


def list_response(found: Ids, namespace: str) -> bytes:
    answer = pb.ListResponse(namespace=namespace, usage=pb.Usage(read_units=found.read_units))
    answer.vectors.extend(pb.ListItem(id=id) for id in found.ids)
    if found.next is not None:
        answer.pagination.next = found.next
    return answer.SerializeToString()


def stats_response(stats: Stats) -> bytes:
    record = stats.record
    answer = pb.DescribeIndexStatsResponse(
        namespaces={name: pb.NamespaceSummary(vector_count=count) for name, count in stats.namespaces.items()},
        total_vector_count=sum(stats.namespaces.values()),
        metric=record.metric.value,
        vector_type=record.vector_type.value,
    )
    if record.vector_type is VectorType.DENSE and record.dimension is not None:
        answer.dimension = record.dimension
    return answer.SerializeToString()


def namespace_response(namespace: Namespace) -> bytes:
    return _namespace(namespace).SerializeToString()


def namespaces_response(page: Namespaces) -> bytes:
    answer = pb.ListNamespacesResponse(namespaces=map(_namespace, page.namespaces), total_count=page.total)
    if page.next is not None:
        answer.pagination.next = page.next
    return answer.SerializeToString()


def _namespace(namespace: Namespace) -> pb.NamespaceDescription:
    wire = pb.NamespaceDescription(
        name=namespace.name or convert.DEFAULT_NAMESPACE,
        record_count=namespace.records,
        size_bytes=namespace.size_bytes,
    )
    if namespace.schema:
        wire.schema.CopyFrom(
            pb.MetadataSchema(fields={name: pb.MetadataFieldProperties(filterable=True) for name in namespace.schema})
        )
        wire.indexed_fields.fields.extend(namespace.schema)
    return wire
