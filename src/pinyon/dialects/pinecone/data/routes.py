"""Pinecone's data plane as routes: decode, ask the service, encode. The one file of this plane that knows Starlette.

Every path stands under `/i/{index}`: what is asked at an index's own port or host is rewritten to that.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.base import Route, decode, json_response, named_on_the_wire, record_model, record_use
from pinyon.dialects.pinecone.data import convert, convert_imports, convert_texts, schema
from pinyon.dialects.pinecone.data.convert import namespace_in
from pinyon.dialects.pinecone.data.errors import (
    internal_records_answer,
    internal_status_answer,
    records_answer,
    status_answer,
)
from pinyon.dialects.pinecone.routes import respond, version_of, version_or_default
from pinyon.errors import InvalidRequest, Param, PinyonError
from pinyon.services.imports import ImportService
from pinyon.services.record_texts import TextDraft
from pinyon.services.records import RecordsService

ROOT = "/i/{index}"

T = TypeVar("T")
# A handler that is told the index's name and the version.
Versioned = Callable[[Request, bytes, str, str], Awaitable[Response]]


def data_routes(records: RecordsService) -> tuple[Route, ...]:
    """The verbs of vectors, namespaces and records of text."""

    async def upsert(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.UPSERT, body)
        with named_on_the_wire(convert.upsert_param):
            done = await records.upsert(index, namespace_in(call.namespace), convert.drafts(call.vectors))
        return _written(b'{"upsertedCount":%d}' % done.count, done.sequence)

    async def query(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.QUERY, body)
        namespace = namespace_in(call.namespace)
        with named_on_the_wire(convert.query_param):
            found = await records.query(index, namespace, convert.query_request(call))
        return _read(convert.query_response(found, namespace), found.sequence)

    async def fetch(request: Request, body: bytes, index: str, version: str) -> Response:
        convert.check_names(request.query_params, ("ids", "namespace"))
        namespace = namespace_in(request.query_params.get("namespace"))
        found = await records.fetch(index, namespace, request.query_params.getlist("ids"))
        return _read(convert.fetch_response(found, namespace), found.sequence)

    async def fetch_by_metadata(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.FETCH_BY_METADATA, body)
        namespace = namespace_in(call.namespace)
        filter = convert.fetch_filter(call, version)
        with named_on_the_wire(convert.page_param):
            found = await records.fetch_where(index, namespace, filter, token=call.pagination_token, limit=call.limit)
        return _read(convert.fetch_response(found, namespace), found.sequence)

    async def list_vectors(request: Request, body: bytes, index: str, version: str) -> Response:
        query = request.query_params
        convert.check_names(query, ("namespace", "prefix", "limit", "paginationToken"))
        namespace = namespace_in(query.get("namespace"))
        limit, token = convert.limit_of(query), query.get("paginationToken")
        with named_on_the_wire(convert.page_param):
            found = await records.list_ids(index, namespace, prefix=query.get("prefix", ""), token=token, limit=limit)
        return _read(convert.list_response(found, namespace), found.sequence)

    async def update(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.UPDATE, body)
        namespace = namespace_in(call.namespace)
        wanted = convert.update_request(call)
        with named_on_the_wire(convert.update_param):
            if not isinstance(wanted, convert.UpdateWhere):
                done = await records.update(index, namespace, wanted)
                return _written(convert.update_response(None), done.sequence)
            done = await records.update_where(index, namespace, wanted.filter, wanted.metadata, dry_run=wanted.dry_run)
        return _written(convert.update_response(done.count), done.sequence)

    async def delete(request: Request, body: bytes, index: str, version: str) -> Response:
        if request.method == "DELETE" and not body:
            call = convert.delete_query(request.query_params, request.query_params.getlist("ids"))
        else:
            call = _decode(schema.DELETE, body)
        convert.check_delete(call)
        namespace = namespace_in(call.namespace)
        if call.delete_all:
            done = await records.delete_namespace(index, namespace)
        elif call.filter:
            done = await records.delete_where(index, namespace, convert.required_filter(call.filter))
        else:
            done = await records.delete(index, namespace, call.ids or [])
        return _written(b"{}", done.sequence)

    async def stats(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.STATS, body) if body.strip() else schema.StatsBody()
        found = await records.stats(index, convert.stats_filter(call))
        return _read(convert.stats_response(found), found.sequence)

    async def list_namespaces(request: Request, body: bytes, index: str, version: str) -> Response:
        query = request.query_params
        convert.check_names(query, ("prefix", "limit", "paginationToken"))
        limit, token = convert.limit_of(query), query.get("paginationToken")
        with named_on_the_wire(convert.page_param):
            page = await records.list_namespaces(
                index,
                prefix=query.get("prefix", ""),
                token=token,
                limit=limit,
                default_name=convert.DEFAULT_NAMESPACE,
            )
        return _read(convert.namespaces_response(page, version), page.sequence)

    async def create_namespace(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.CREATE_NAMESPACE, body)
        name, declared = convert.new_namespace(call, version)
        with named_on_the_wire(convert.schema_param):
            made = await records.create_namespace(index, name, declared)
        return _written(convert.namespace_response(made, version), made.sequence)

    async def describe_namespace(request: Request, body: bytes, index: str, version: str) -> Response:
        found = await records.describe_namespace(index, _path_namespace(request))
        return _read(convert.namespace_response(found, version), found.sequence)

    async def delete_namespace(request: Request, body: bytes, index: str, version: str) -> Response:
        done = await records.delete_namespace(index, _path_namespace(request))
        return _written(b"{}", done.sequence)

    async def upsert_records(request: Request, body: bytes, index: str, version: str) -> Response:
        drafts = _text_drafts(body)
        with named_on_the_wire(convert_texts.upsert_param):
            done = await records.upsert_texts(index, _path_namespace(request), drafts)
        if done.model is not None:
            record_use(request, model=done.model, inputs=done.count, tokens=done.tokens)
        return Response(status_code=201, headers=_write_headers(done.sequence))

    async def search(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.SEARCH, body)
        namespace = _path_namespace(request)
        ranker = None if call.rerank is None else records.inference.get_model(call.rerank.model)
        if call.rerank is not None:
            record_model(request, call.rerank.model)
        wanted = convert_texts.search_request(call, ranker)
        with named_on_the_wire(convert_texts.search_param):
            found = await records.search(index, namespace, wanted)
        if found.model is not None:
            record_use(request, model=found.model, inputs=1, tokens=found.embed_tokens or 0)
        return _read(convert_texts.search_response(found, call, namespace, version), found.sequence)

    async def documents(request: Request, body: bytes, index: str, version: str) -> Response:
        # NOTE: 400 with the right API named, where an index holds no documents (the tags of db_data_2026-07).
        integrated = (await records.indexes.open_index(index)).record.embed is not None
        instead = "/records/namespaces/{namespace}" if integrated else "/vectors/upsert and /query"
        raise InvalidRequest(f"The index has no schema of documents: use {instead}")

    def vectors(method: str, path: str, verb: str, handle: Versioned) -> Route:
        return Route(method, ROOT + path, verb, _at_version(handle), status_error, status_internal_error)

    def texts(method: str, path: str, verb: str, handle: Versioned) -> Route:
        return Route(method, ROOT + path, verb, _at_version(handle), records_error, records_internal_error)

    return (
        vectors("POST", "/vectors/upsert", "upsert", upsert),
        vectors("POST", "/query", "query", query),
        vectors("GET", "/vectors/fetch", "fetch", fetch),
        vectors("POST", "/vectors/fetch_by_metadata", "fetch_by_metadata", fetch_by_metadata),
        vectors("GET", "/vectors/list", "list", list_vectors),
        vectors("POST", "/vectors/update", "update", update),
        vectors("POST", "/vectors/delete", "delete", delete),
        # Both stand only in the HTTP annotations of the proto files.
        vectors("DELETE", "/vectors/delete", "delete", delete),
        vectors("GET", "/describe_index_stats", "stats", stats),
        vectors("POST", "/describe_index_stats", "stats", stats),
        vectors("GET", "/namespaces", "list_namespaces", list_namespaces),
        vectors("POST", "/namespaces", "create_namespace", create_namespace),
        # A namespace may have a slash in it.
        texts("POST", "/records/namespaces/{namespace:path}/upsert", "upsert_records", upsert_records),
        texts("POST", "/records/namespaces/{namespace:path}/search", "search", search),
        *(
            texts("POST", f"/namespaces/{{namespace:path}}/documents/{verb}", "documents", documents)
            for verb in ("upsert", "search", "fetch", "list", "update", "delete")
        ),
        # Last: it matches whatever begins with /namespaces/.
        vectors("GET", "/namespaces/{namespace:path}", "describe_namespace", describe_namespace),
        vectors("DELETE", "/namespaces/{namespace:path}", "delete_namespace", delete_namespace),
    )


def import_routes(imports: ImportService) -> tuple[Route, ...]:
    """The verbs of bulk imports."""

    async def start_import(request: Request, body: bytes, index: str, version: str) -> Response:
        call = _decode(schema.START_IMPORT, body)
        mode = convert_imports.on_error(call)
        with named_on_the_wire(convert_imports.import_param):
            started = await imports.start_import(index, call.uri, integration_id=call.integration_id, on_error=mode)
        return json_response(convert_imports.started_response(started))

    async def list_imports(request: Request, body: bytes, index: str, version: str) -> Response:
        query = request.query_params
        convert.check_names(query, ("limit", "paginationToken"))
        limit, token = convert.limit_of(query), query.get("paginationToken")
        with named_on_the_wire(convert_imports.import_param):
            page = await imports.list_imports(index, token=token, limit=limit)
        return json_response(convert_imports.imports_response(page, version))

    async def describe_import(request: Request, body: bytes, index: str, version: str) -> Response:
        found = await imports.describe_import(index, request.path_params["id"])
        return json_response(convert_imports.import_response(found, version))

    async def cancel_import(request: Request, body: bytes, index: str, version: str) -> Response:
        await imports.cancel_import(index, request.path_params["id"])
        return json_response(b"{}")

    def route(method: str, path: str, verb: str, handle: Versioned) -> Route:
        return Route(method, ROOT + path, verb, _at_version(handle), status_error, status_internal_error)

    return (
        route("POST", "/bulk/imports", "start_import", start_import),
        route("GET", "/bulk/imports", "list_imports", list_imports),
        route("GET", "/bulk/imports/{id}", "describe_import", describe_import),
        route("DELETE", "/bulk/imports/{id}", "cancel_import", cancel_import),
    )


# --- errors ----------------------------------------------------------------------------------------------------------


def status_error(request: Request, error: PinyonError) -> Response:
    return respond(status_answer(error, version_or_default(request)))


def status_internal_error(request: Request) -> Response:
    return respond(internal_status_answer())


def records_error(request: Request, error: PinyonError) -> Response:
    return respond(records_answer(error, version_or_default(request)))


def records_internal_error(request: Request) -> Response:
    return respond(internal_records_answer(version_or_default(request)))


# --- around the handlers ---------------------------------------------------------------------------------------------


def _at_version(handle: Versioned) -> Callable[[Request, bytes], Awaitable[Response]]:
    async def versioned(request: Request, body: bytes) -> Response:
        version = version_of(request)
        return await handle(request, body, request.path_params["index"], version)

    return versioned


def _path_namespace(request: Request) -> str:
    name: str = request.path_params["namespace"]
    if not name:
        raise InvalidRequest(f"must not be empty: the default one is {convert.DEFAULT_NAMESPACE}", ("namespace",))
    return namespace_in(name)


def _text_drafts(body: bytes) -> list[TextDraft]:
    drafts = []
    for position, line in enumerate(convert_texts.lines(body)):
        try:
            fields = _decode(schema.LINE, line)
        except InvalidRequest as error:
            error.param = ("records", position, *error.param)
            raise
        drafts.append(convert_texts.draft(fields, position))
    return drafts


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """As base.decode. NaN and Infinity, which Python's json writes and JSON does not have, are said by their field."""
    try:
        return decode(decoder, body)
    except InvalidRequest as error:
        if not error.param and (param := _not_finite(body)) is not None:
            raise InvalidRequest("must be a finite number", param) from None
        raise


def _not_finite(body: bytes) -> Param | None:
    try:
        return convert.not_finite(json.loads(body))
    except (ValueError, RecursionError):
        return None


# NOTE: "x-pinecone-request-lsn" with "x-pinecone-max-indexed-lsn", and "x-pinecone-lsn-committed" with
# "x-pinecone-lsn-reconciled", are the two generations of one pair: what a write got, and what a read has seen. The
# SDKs read either.


def _write_headers(sequence: int) -> dict[str, str]:
    return {"x-pinecone-request-lsn": str(sequence), "x-pinecone-lsn-committed": str(sequence)}


def _written(body: bytes, sequence: int) -> Response:
    return json_response(body, headers=_write_headers(sequence))


def _read(body: bytes, sequence: int) -> Response:
    lsn = str(sequence)
    headers = {"x-pinecone-max-indexed-lsn": lsn, "x-pinecone-lsn-reconciled": lsn}
    return json_response(body, headers=headers)
