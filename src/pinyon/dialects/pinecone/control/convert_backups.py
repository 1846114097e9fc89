"""Backups, restore jobs and collections as each version of Pinecone's API describes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pinyon.dialects.pinecone.control.convert import capacity_change, present, protection
from pinyon.dialects.pinecone.control.convert_v27 import schema_fields
from pinyon.dialects.pinecone.control.schema import CreateBackupBody, RestoreBody, RestoreBodyV27
from pinyon.errors import InvalidRequest, Param
from pinyon.services.backups import Page, PageRequest, RestoreSettings
from pinyon.services.index_rules import CLOUDS, check_name
from pinyon.state import (
    BackupRecord,
    Byoc,
    CollectionRecord,
    CopyStatus,
    Deployment,
    JobRecord,
    JobStatus,
    Pod,
    Serverless,
)

REDESIGN = "2026-07"
# NOTE: 10 a page and at most 100 before 2026-07; then 100, and no bound is declared (the `limit` of db_control).
DEFAULT_LIMIT, DEFAULT_LIMIT_V27 = 10, 100
MAX_LIMIT, MAX_LIMIT_V27 = 100, 1000

_NUMBER = re.compile("-?[0-9]{1,18}")
T = TypeVar("T")

# --- requests --------------------------------------------------------------------------------------------------------


def _limit_of(query: Mapping[str, str]) -> int | None:
    text = query.get("limit")
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise InvalidRequest("must be a whole number", ("limit",))
    return int(text)


def flag_of(query: Mapping[str, str], name: str) -> bool:
    """False if it is not given. Raises InvalidRequest."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise InvalidRequest("must be true or false", (name,))
    return text == "true"


def page_request(query: Mapping[str, str], version: str) -> PageRequest:
    """Raises InvalidRequest."""
    default, highest = (DEFAULT_LIMIT_V27, MAX_LIMIT_V27) if version >= REDESIGN else (DEFAULT_LIMIT, MAX_LIMIT)
    return PageRequest(query.get("paginationToken"), _limit_of(query), default, highest)


def page_param(param: Param) -> Param:
    return ("paginationToken",) if param == ("pagination_token",) else param


def checked_backup_body(body: CreateBackupBody, version: str) -> CreateBackupBody:
    """Raises InvalidRequest."""
    # NOTE: before 2026-07 a backup's name is any text; from then on it is made as an index's (CreateBackupRequest).
    if version >= REDESIGN and body.name is not None:
        check_name(body.name)
    return body


def restore_settings(body: RestoreBody | RestoreBodyV27) -> RestoreSettings:
    """Raises InvalidRequest."""
    capacity = body.read_capacity if isinstance(body, RestoreBodyV27) else None
    return RestoreSettings(
        name=body.name,
        tags=body.tags,
        deletion_protection=protection(body.deletion_protection) or False,
        read_capacity=capacity_change(capacity),
    )


# --- backups ---------------------------------------------------------------------------------------------------------

# NOTE: "(e.g., Initializing, Ready, Failed)" before 2026-07, an enumeration there (BackupModel.status).
_BACKUP_STATES = {
    CopyStatus.INITIALIZING: "Initializing",
    CopyStatus.READY: "Ready",
    CopyStatus.FAILED: "Failed",
    CopyStatus.TERMINATING: "Terminating",
}


def backup_model(record: BackupRecord, version: str) -> dict[str, Any]:
    """Keys without a value are left out, but that at 2026-07 `tags` are null if there are none."""
    settings = record.settings
    cloud, region = _place(settings.deployment)
    state = _BACKUP_STATES[record.status]
    model: dict[str, Any] = {
        "backup_id": record.id,
        "source_index_name": record.source_index_name,
        "source_index_id": record.source_index_id,
        "name": record.name,
        "description": record.description,
        "status": "InitializationFailed" if state == "Failed" and version >= REDESIGN else state,
        "cloud": cloud,
        "region": region,
        "record_count": record.record_count,
        "namespace_count": record.namespace_count,
        "size_bytes": record.size_bytes,
        "created_at": timestamp(record.created_at),
    }
    if version >= REDESIGN:
        deleted = None if record.source_deleted_at is None else timestamp(record.source_deleted_at)
        newer: dict[str, Any] = {"schema": {"fields": schema_fields(settings)}, "source_index_deleted_at": deleted}
        return present(model | newer) | {"tags": dict(record.tags) or None}
    # NOTE: 2025-04 has no schema here either.
    schema = {"fields": dict(settings.schema)} if version > "2025-04" and settings.schema else None
    vectors = {"dimension": settings.dimension, "metric": settings.metric.value}
    return present(model | vectors | {"schema": schema, "tags": dict(record.tags)})


def _place(deployment: Deployment) -> tuple[str, str]:
    """The cloud and the region that a backup is said to be in: those of its index."""
    match deployment:
        case Serverless(cloud, region):
            return cloud, region
        case Byoc(environment) | Pod(environment):
            # Environments are named as "aws-us-east-1-b921".
            cloud, _, region = environment.partition("-")
            return (cloud, region) if cloud in CLOUDS and region else ("byoc", environment)


# --- restore jobs ----------------------------------------------------------------------------------------------------

# NOTE: one that runs is Pending too (RestoreJobModel.status at 2026-07: Pending, Completed, Failed, Cancelled).
_JOB_STATES = {
    JobStatus.PENDING: "Pending",
    JobStatus.RUNNING: "Pending",
    JobStatus.COMPLETED: "Completed",
    JobStatus.FAILED: "Failed",
    JobStatus.CANCELLED: "Cancelled",
}


def restore_job_model(job: JobRecord, version: str) -> dict[str, Any]:
    percent: float | None = round(job.percent, 2)
    if version >= REDESIGN:
        # NOTE: a whole number now, and 100 is the only one that there is.
        percent = 100 if job.status is JobStatus.COMPLETED else None
    return present(
        {
            "restore_job_id": job.id,
            "backup_id": job.request["backup_id"],
            "target_index_name": job.index_name,
            "target_index_id": job.index_id,
            "status": _JOB_STATES[job.status],
            "created_at": timestamp(job.created_at),
            "completed_at": None if job.finished_at is None else timestamp(job.finished_at),
            "percent_complete": percent,
        }
    )


def listed(page: Page[T], model: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    # NOTE: null on the last page (the examples of list_restore_jobs), and never empty: SDKs would loop for ever.
    return {
        "data": [model(item) for item in page.items],
        "pagination": None if page.next is None else {"next": page.next},
    }


# --- collections -----------------------------------------------------------------------------------------------------

# NOTE: there is no word for one that could not be made; Terminated is there from 2026-07 on (CollectionModel.status).
_COLLECTION_STATES = {
    CopyStatus.INITIALIZING: "Initializing",
    CopyStatus.READY: "Ready",
    CopyStatus.FAILED: "Terminated",
    CopyStatus.TERMINATING: "Terminating",
}


def collection_model(record: CollectionRecord, version: str) -> dict[str, Any]:
    state = _COLLECTION_STATES[record.status]
    return present(
        {
            "name": record.name,
            "size": record.size_bytes,
            "status": "Terminating" if state == "Terminated" and version < REDESIGN else state,
            "dimension": record.dimension,
            "vector_count": record.vector_count,
            "environment": record.environment,
        }
    )


def collection_list(records: Sequence[CollectionRecord], version: str) -> dict[str, Any]:
    return {"collections": [collection_model(record, version) for record in records]}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond: "2025-05-14T17:00:45.803146Z"."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
