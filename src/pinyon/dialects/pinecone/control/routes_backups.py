"""Backups, restore jobs and collections of Pinecone's control plane. With `routes`, all of it that knows Starlette."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.base import Handler, Route, json_response, named_on_the_wire
from pinyon.dialects.pinecone.control import convert_backups as convert
from pinyon.dialects.pinecone.control.convert import capacity_param
from pinyon.dialects.pinecone.control.convert_backups import REDESIGN
from pinyon.dialects.pinecone.control.routes import decoded, error, internal_error
from pinyon.dialects.pinecone.control.schema import (
    CREATE_BACKUP_BODY,
    CREATE_COLLECTION_BODY,
    RESTORE_BODY,
    RESTORE_BODY_V27,
    RestoreBody,
    RestoreBodyV27,
)
from pinyon.dialects.pinecone.routes import version_of
from pinyon.dialects.wire import to_json
from pinyon.services.backups import BackupService
from pinyon.services.collections import CollectionService


def backup_routes(backups: BackupService) -> tuple[Route, ...]:
    async def create_backup(request: Request, body: bytes) -> Response:
        version = version_of(request)
        call = convert.checked_backup_body(decoded(CREATE_BACKUP_BODY, body), version)
        record = await backups.create_backup(request.path_params["index_name"], call.name, call.description)
        # NOTE: 201 in the files before 2026-07, 200 in those from then on.
        status = 200 if version >= REDESIGN else 201
        return json_response(to_json(convert.backup_model(record, version)), status)

    async def list_index_backups(request: Request, body: bytes) -> Response:
        version = version_of(request)
        query = request.query_params
        # NOTE: of 2026-07; the TypeScript SDK 8 has it too, and sends 2026-04.
        deleted = convert.flag_of(query, "include_deleted")
        with named_on_the_wire(convert.page_param):
            wanted = convert.page_request(query, version)
            page = await backups.list_backups(wanted, index=request.path_params["index_name"], deleted=deleted)
        return json_response(to_json(convert.listed(page, lambda record: convert.backup_model(record, version))))

    async def list_backups(request: Request, body: bytes) -> Response:
        version = version_of(request)
        with named_on_the_wire(convert.page_param):
            page = await backups.list_backups(convert.page_request(request.query_params, version))
        return json_response(to_json(convert.listed(page, lambda record: convert.backup_model(record, version))))

    async def describe_backup(request: Request, body: bytes) -> Response:
        version = version_of(request)
        record = await backups.describe_backup(request.path_params["backup_id"])
        return json_response(to_json(convert.backup_model(record, version)))

    async def delete_backup(request: Request, body: bytes) -> Response:
        # NOTE: from 2026-07 on a pending restore is no reason to refuse (delete_backup has no 412).
        used = version_of(request) >= REDESIGN
        await backups.delete_backup(request.path_params["backup_id"], used=used)
        return Response(status_code=202)

    async def create_index_from_backup(request: Request, body: bytes) -> Response:
        call: RestoreBody | RestoreBodyV27
        call = decoded(RESTORE_BODY_V27, body) if version_of(request) >= REDESIGN else decoded(RESTORE_BODY, body)
        with named_on_the_wire(capacity_param):
            index, job = await backups.create_index_from_backup(
                request.path_params["backup_id"], convert.restore_settings(call)
            )
        return json_response(to_json({"restore_job_id": job.id, "index_id": index.id}), 202)

    async def list_restore_jobs(request: Request, body: bytes) -> Response:
        version = version_of(request)
        with named_on_the_wire(convert.page_param):
            page = await backups.list_restore_jobs(convert.page_request(request.query_params, version))
        return json_response(to_json(convert.listed(page, lambda job: convert.restore_job_model(job, version))))

    async def describe_restore_job(request: Request, body: bytes) -> Response:
        version = version_of(request)
        job = await backups.describe_restore_job(request.path_params["job_id"])
        return json_response(to_json(convert.restore_job_model(job, version)))

    return (
        _route("GET", "/indexes/{index_name}/backups", list_index_backups),
        _route("POST", "/indexes/{index_name}/backups", create_backup),
        _route("GET", "/backups", list_backups),
        _route("GET", "/backups/{backup_id}", describe_backup),
        _route("DELETE", "/backups/{backup_id}", delete_backup),
        _route("POST", "/backups/{backup_id}/create-index", create_index_from_backup),
        _route("GET", "/restore-jobs", list_restore_jobs),
        _route("GET", "/restore-jobs/{job_id}", describe_restore_job),
    )


def collection_routes(collections: CollectionService) -> tuple[Route, ...]:
    async def list_collections(request: Request, body: bytes) -> Response:
        version = version_of(request)
        records = await collections.list_collections()
        return json_response(to_json(convert.collection_list(records, version)))

    async def create_collection(request: Request, body: bytes) -> Response:
        version = version_of(request)
        call = decoded(CREATE_COLLECTION_BODY, body)
        record = await collections.create_collection(call.name, call.source)
        return json_response(to_json(convert.collection_model(record, version)), 201)

    async def describe_collection(request: Request, body: bytes) -> Response:
        version = version_of(request)
        record = await collections.describe_collection(request.path_params["collection_name"])
        return json_response(to_json(convert.collection_model(record, version)))

    async def delete_collection(request: Request, body: bytes) -> Response:
        version_of(request)
        await collections.delete_collection(request.path_params["collection_name"])
        return Response(status_code=202)

    return (
        _route("GET", "/collections", list_collections),
        _route("POST", "/collections", create_collection),
        _route("GET", "/collections/{collection_name}", describe_collection),
        _route("DELETE", "/collections/{collection_name}", delete_collection),
    )


def _route(method: str, path: str, handle: Handler) -> Route:
    return Route(method, path, handle.__name__, handle, error, internal_error)
