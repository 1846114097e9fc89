"""Pinecone's bulk imports: bodies to core arguments, core results to bytes. Pure: no HTTP, no files."""

from __future__ import annotations

from datetime import UTC, datetime

from pinyon.dialects.pinecone.data.convert import REDESIGN, page_param
from pinyon.dialects.pinecone.data.schema import StartImportBody
from pinyon.dialects.wire import to_json
from pinyon.errors import InvalidRequest, Param
from pinyon.services.imports import Import, ImportPage, OnError
from pinyon.state.records import JobStatus

STATUSES = {
    JobStatus.PENDING: "Pending",
    JobStatus.RUNNING: "InProgress",
    JobStatus.COMPLETED: "Completed",
    JobStatus.FAILED: "Failed",
    JobStatus.CANCELLED: "Cancelled",
}


def on_error(body: StartImportBody) -> OnError:
    """NOTE: "abort" where nothing is said (start_import of SDK 10); SDKs 7 to 9 always say it. In any case."""
    match (body.error_mode.on_error if body.error_mode is not None else None) or "abort":
        case str(mode) if mode.lower() == "abort":
            return "abort"
        case str(mode) if mode.lower() == "continue":
            return "continue"
    raise InvalidRequest("must be abort or continue", ("errorMode", "onError"))


def import_param(param: Param) -> Param:
    return ("integrationId",) if param == ("integration_id",) else page_param(param)


def started_response(started: Import) -> bytes:
    return to_json({"id": started.id})


def import_response(found: Import, version: str) -> bytes:
    return to_json(_import(found, version))


def imports_response(page: ImportPage, version: str) -> bytes:
    wire: dict[str, object] = {"data": [_import(each, version) for each in page.imports]}
    if page.next is not None:  # no key on the last page: the SDKs' loops end there
        wire["pagination"] = {"next": page.next}
    return to_json(wire)


def _import(found: Import, version: str) -> dict[str, object]:
    wire: dict[str, object] = {
        "id": found.id,
        "uri": found.uri,
        "status": STATUSES[found.status],
        "createdAt": _moment(found.created_at),
        "percentComplete": round(found.percent, 1),
        "recordsImported": found.imported,
    }
    if found.finished_at is not None:
        wire["finishedAt"] = _moment(found.finished_at)
    if found.error is not None:
        wire["error"] = found.error
    if version >= REDESIGN and found.status.is_final:
        wire["validationResult"] = {"importSuccesses": found.imported, "importErrors": found.failed}
    return wire


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
