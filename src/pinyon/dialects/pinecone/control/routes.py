"""Pinecone's control plane: decode by version, ask the service, encode. The one file of it that knows Starlette."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.base import Handler, Route, decode, json_response, named_on_the_wire, validation_reason
from pinyon.dialects.pinecone.control import convert, convert_v27
from pinyon.dialects.pinecone.control.schema import (
    CONFIGURE_BODY,
    CONFIGURE_BODY_V27,
    CREATE_BODY,
    CREATE_BODY_V27,
    CREATE_FOR_MODEL_BODY,
)
from pinyon.dialects.pinecone.errors import Unprocessable, control_error_answer, internal_error_answer
from pinyon.dialects.pinecone.routes import respond, version_of, version_or_default
from pinyon.dialects.wire import to_json
from pinyon.errors import Param, PinyonError
from pinyon.services.collections import CollectionService
from pinyon.services.index_rules import IndexChange
from pinyon.services.indexes import IndexService
from pinyon.state import IndexRecord

V27 = "2026-07"
# NOTE: the verb's own path; an index may have this name too, and then every other method of the path is its.
FOR_MODEL = "create-for-model"

T = TypeVar("T")


def control_routes(
    indexes: IndexService, host_of: Callable[[IndexRecord], str], collections: CollectionService | None = None
) -> tuple[Route, ...]:
    """`host_of` gives an index's address, with its scheme and without a slash at the end: clients would put https://
    before a bare one. Indexes can be made from `collections`."""

    def described(record: IndexRecord, version: str) -> dict[str, Any]:
        if version >= V27:
            return convert_v27.index_model(record, host_of(record))
        return convert.index_model(record, host_of(record), version)

    async def list_indexes(request: Request, body: bytes) -> Response:
        version = version_of(request)
        records = await indexes.list_indexes()
        return json_response(to_json({"indexes": [described(record, version) for record in records]}))

    async def create_index(request: Request, body: bytes) -> Response:
        version = version_of(request)
        rename: Callable[[Param], Param]
        if version >= V27:
            settings = convert_v27.create_settings(decoded(CREATE_BODY_V27, body), _new_name)
            rename = convert_v27.create_param
        else:
            call = decoded(CREATE_BODY, body)
            settings = convert.create_settings(call)

            def rename(param: Param) -> Param:
                return convert.create_param(param, convert.spec_kind(call.spec))

        with named_on_the_wire(rename):
            maker = indexes if settings.source_collection is None or collections is None else collections
            record = await maker.create_index(settings)
        return json_response(to_json(described(record, version)), 201)

    async def create_index_for_model(request: Request, body: bytes) -> Response:
        version = version_of(request)
        settings = convert.model_settings(decoded(CREATE_FOR_MODEL_BODY, body), version)
        with named_on_the_wire(convert.model_param):
            record = await indexes.create_index_for_model(settings)
        return json_response(to_json(described(record, version)), 201)

    async def describe_index(request: Request, body: bytes) -> Response:
        version = version_of(request)
        record = await indexes.describe_index(_index_name(request))
        return json_response(to_json(described(record, version)))

    async def configure_index(request: Request, body: bytes) -> Response:
        version = version_of(request)
        change, rename = _configuration(body, version)
        with named_on_the_wire(rename):
            record = await indexes.configure_index(_index_name(request), change)
        # NOTE: 202 in the files before 2026-07, 200 in those from then on.
        return json_response(to_json(described(record, version)), 200 if version >= V27 else 202)

    async def delete_index(request: Request, body: bytes) -> Response:
        version_of(request)
        await indexes.delete_index(_index_name(request))
        return Response(status_code=202)

    def route(method: str, path: str, handle: Handler) -> Route:
        return Route(method, path, handle.__name__, handle, error, internal_error)

    one, for_model = "/indexes/{index_name}", f"/indexes/{FOR_MODEL}"
    return (
        route("GET", "/indexes", list_indexes),
        route("POST", "/indexes", create_index),
        # Before the path with the name, which would take it.
        route("POST", for_model, create_index_for_model),
        *(
            route(method, path, handle)
            for path in (for_model, one)
            for method, handle in (("GET", describe_index), ("PATCH", configure_index), ("DELETE", delete_index))
        ),
    )


def _configuration(body: bytes, version: str) -> tuple[IndexChange, Callable[[Param], Param]]:
    """The change, and how its errors' paths are called on the wire."""
    if version >= V27:
        newer = decoded(CONFIGURE_BODY_V27, body)
        return convert_v27.index_change(newer), lambda param: convert_v27.configure_param(param, newer)
    older = decoded(CONFIGURE_BODY, body)
    change = convert.index_change(older)
    kind = None if older.spec is None else convert.spec_kind(older.spec)
    return change, lambda param: param if kind is None else convert.create_param(param, kind)


def _index_name(request: Request) -> str:
    name: str = request.path_params.get("index_name", FOR_MODEL)
    return name


def _new_name() -> str:
    return f"index-{secrets.token_hex(6)}"


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """As `decode`, and raises Unprocessable for JSON of another shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Unprocessable(*validation_reason(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(decoder, body)


def error(request: Request, error: PinyonError) -> Response:
    return respond(control_error_answer(error, version_or_default(request)))


def internal_error(request: Request) -> Response:
    return respond(internal_error_answer())
