"""Pinecone's VectorService: decode, ask the service that REST asks, encode. No REST here, and no HTTP/2.

A port of an index says which one is meant. On the main port the host that was asked for (`:authority`) may, and else
the metadata `service-name`, which the SDKs 7 and 8 send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from pinyon.dialects.base import GrpcDialect, GrpcMethod, GrpcStatus, Said, error_headers, named_on_the_wire
from pinyon.dialects.pinecone.data import convert
from pinyon.dialects.pinecone.data import grpc_convert as messages
from pinyon.dialects.pinecone.data.convert import namespace_in
from pinyon.dialects.pinecone.data.errors import CODES
from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb
from pinyon.dialects.pinecone.errors import message as error_text
from pinyon.dialects.pinecone.versions import HEADER, read_version
from pinyon.errors import InvalidRequest, PinyonError
from pinyon.services.records import RecordsService

SERVICE = "VectorService"
ROOT = "/i/"

M = TypeVar("M", bound=Message)
Reply = tuple[bytes, Mapping[str, str]]
# Of a message, for an index, at a version.
Handler = Callable[[bytes, str, str], Awaitable[Reply]]


def pinecone_grpc(records: RecordsService, index_at: Callable[[str], str | None]) -> GrpcDialect:
    """`index_at` gives the index whose host an authority is, None if it is none's."""

    async def upsert(message: bytes, index: str, version: str) -> Reply:
        namespace, drafts = messages.upsert_request(message, records.limits.max_upsert_bytes)
        with named_on_the_wire(convert.upsert_param):
            done = await records.upsert(index, namespace, drafts)
        return _written(pb.UpsertResponse(upserted_count=done.count), done.sequence)

    async def query(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.QueryRequest, message)
        namespace = namespace_in(call.namespace)
        wanted = messages.query_request(call)
        with named_on_the_wire(convert.query_param):
            found = await records.query(index, namespace, wanted)
        return _read(messages.query_response(found, namespace), found.sequence)

    async def fetch(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.FetchRequest, message)
        namespace = namespace_in(call.namespace)
        found = await records.fetch(index, namespace, list(call.ids))
        return _read(messages.fetch_response(found, namespace, pb.FetchResponse), found.sequence)

    async def fetch_by_metadata(message: bytes, index: str, version: str) -> Reply:
        call = messages.fetch_by_metadata_request(messages.decode(pb.FetchByMetadataRequest, message))
        namespace = namespace_in(call.namespace)
        filter = convert.fetch_filter(call, version)
        with named_on_the_wire(convert.page_param):
            found = await records.fetch_where(index, namespace, filter, token=call.pagination_token, limit=call.limit)
        return _read(messages.fetch_response(found, namespace, pb.FetchByMetadataResponse), found.sequence)

    async def list_vectors(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.ListRequest, message)
        namespace = namespace_in(call.namespace)
        token, limit = messages.page(call)
        with named_on_the_wire(convert.page_param):
            found = await records.list_ids(index, namespace, prefix=call.prefix, token=token, limit=limit)
        return _read(messages.list_response(found, namespace), found.sequence)

    async def update(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.UpdateRequest, message)
        namespace = namespace_in(call.namespace)
        wanted = messages.update_request(call)
        with named_on_the_wire(convert.update_param):
            if not isinstance(wanted, convert.UpdateWhere):
                done = await records.update(index, namespace, wanted)
                return _written(pb.UpdateResponse(), done.sequence)
            done = await records.update_where(index, namespace, wanted.filter, wanted.metadata, dry_run=wanted.dry_run)
        return _written(pb.UpdateResponse(matched_records=done.count), done.sequence)

    async def delete(message: bytes, index: str, version: str) -> Reply:
        call = messages.delete_request(messages.decode(pb.DeleteRequest, message))
        namespace = namespace_in(call.namespace)
        if call.delete_all:
            done = await records.delete_namespace(index, namespace)
        elif call.filter:
            done = await records.delete_where(index, namespace, convert.required_filter(call.filter))
        else:
            done = await records.delete(index, namespace, call.ids or [])
        return _written(pb.DeleteResponse(), done.sequence)

    async def stats(message: bytes, index: str, version: str) -> Reply:
        call = messages.stats_request(messages.decode(pb.DescribeIndexStatsRequest, message))
        found = await records.stats(index, convert.stats_filter(call))
        return _read(messages.stats_response(found), found.sequence)

    async def list_namespaces(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.ListNamespacesRequest, message)
        token, limit = messages.page(call)
        with named_on_the_wire(convert.page_param):
            page = await records.list_namespaces(
                index, prefix=call.prefix, token=token, limit=limit, default_name=convert.DEFAULT_NAMESPACE
            )
        return _read(messages.namespaces_response(page), page.sequence)

    async def create_namespace(message: bytes, index: str, version: str) -> Reply:
        call = messages.create_namespace_request(messages.decode(pb.CreateNamespaceRequest, message))
        name, declared = convert.new_namespace(call, version)
        with named_on_the_wire(convert.schema_param):
            made = await records.create_namespace(index, name, declared)
        return messages.namespace_response(made), _write_metadata(made.sequence)

    async def describe_namespace(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.DescribeNamespaceRequest, message)
        found = await records.describe_namespace(index, _named(call.namespace))
        return _read(messages.namespace_response(found), found.sequence)

    async def delete_namespace(message: bytes, index: str, version: str) -> Reply:
        call = messages.decode(pb.DeleteNamespaceRequest, message)
        done = await records.delete_namespace(index, _named(call.namespace))
        return _written(pb.DeleteResponse(), done.sequence)

    def method(name: str, verb: str, handle: Handler) -> tuple[str, GrpcMethod]:
        async def routed(said: Said, root: str | None, message: bytes) -> Reply:
            version = read_version(said.get(HEADER.lower()))
            return await handle(message, _index(said, root, index_at), version)

        return f"/{SERVICE}/{name}", GrpcMethod(verb, routed)

    return GrpcDialect(
        name="pinecone",
        methods=dict(
            (
                method("Upsert", "upsert", upsert),
                method("Query", "query", query),
                method("Fetch", "fetch", fetch),
                method("FetchByMetadata", "fetch_by_metadata", fetch_by_metadata),
                method("List", "list", list_vectors),
                method("Update", "update", update),
                method("Delete", "delete", delete),
                method("DescribeIndexStats", "stats", stats),
                method("ListNamespaces", "list_namespaces", list_namespaces),
                method("CreateNamespace", "create_namespace", create_namespace),
                method("DescribeNamespace", "describe_namespace", describe_namespace),
                method("DeleteNamespace", "delete_namespace", delete_namespace),
            )
        ),
        read_key=lambda said: said.get("api-key"),
        error=grpc_status,
        request_id_headers=("x-pinecone-request-id",),
    )


def grpc_status(error: PinyonError) -> GrpcStatus:
    """The answer to `error`, with the text that REST gives. A class that is not in CODES is answered as the nearest
    base that is."""
    http, code = next(CODES[base] for base in type(error).__mro__ if base in CODES)
    return GrpcStatus(code, http, error_text(error), error_headers(error))


def _index(said: Said, root: str | None, index_at: Callable[[str], str | None]) -> str:
    if root is not None:
        return root.removeprefix(ROOT)
    name = index_at(said.get(":authority", "")) or said.get("service-name")
    if not name:
        raise InvalidRequest("No index is named: connect to the index's own host, or name it in 'service-name'")
    return name


def _named(namespace: str) -> str:
    if not namespace:
        raise InvalidRequest(f"must not be empty: the default one is {convert.DEFAULT_NAMESPACE}", ("namespace",))
    return namespace_in(namespace)


# Both generations of one pair, as REST's headers.


def _write_metadata(sequence: int) -> Mapping[str, str]:
    return {"x-pinecone-request-lsn": str(sequence), "x-pinecone-lsn-committed": str(sequence)}


def _written(answer: Message, sequence: int) -> Reply:
    return answer.SerializeToString(), _write_metadata(sequence)


def _read(answer: bytes, sequence: int) -> Reply:
    return answer, {"x-pinecone-max-indexed-lsn": str(sequence), "x-pinecone-lsn-reconciled": str(sequence)}
