"""One stored backup, restore job and collection at four versions, and what is asked of them: golden pairs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pinyon.dialects.pinecone.control import convert_backups as convert
from pinyon.dialects.pinecone.control.schema import (
    CREATE_BACKUP_BODY,
    RESTORE_BODY,
    RESTORE_BODY_V27,
    CreateBackupBody,
)
from pinyon.errors import InvalidRequest
from pinyon.services.backups import Page, PageRequest, RestoreSettings
from pinyon.services.index_rules import OnDemand
from pinyon.state import (
    BackupRecord,
    Byoc,
    CollectionRecord,
    CopyStatus,
    Dedicated,
    Embed,
    IndexSettings,
    JobKind,
    JobRecord,
    JobStatus,
    Pod,
    VectorType,
)
from tests.dialects.pinecone.pinecone_index_goldens import SPARSE_FIELD, dense, settings

VERSIONS = ("2025-04", "2025-10", "2026-04", "2026-07")
MOMENT = datetime(2025, 5, 14, 17, 0, 45, 803146, tzinfo=UTC)
ID, INDEX = "8c85e612-ed1c-4f97-9f8c-8194e07bcf71", "f73b36c9-faf5-4a2c-b1d6-4013d8b1cc74"
GENRE = {"genre": {"filterable": True}}


def backup(made: IndexSettings, status: CopyStatus = CopyStatus.READY, **others: Any) -> BackupRecord:
    counts: dict[str, Any] = {"record_count": 98, "namespace_count": 3, "size_bytes": 1069169}
    if status is not CopyStatus.READY:
        counts = dict.fromkeys(counts)
    plain = {"name": None, "description": None, "tags": made.tags, "schemas": {}}
    return BackupRecord(
        id=ID, source_index_id=INDEX, source_index_name=made.name, settings=made, status=status, created_at=MOMENT,
        **counts | plain | others,
    )  # fmt: skip


# The keys that every backup has, whatever the version.
COMMON = {
    "backup_id": ID,
    "source_index_name": "notes",
    "source_index_id": INDEX,
    "status": "Ready",
    "cloud": "aws",
    "region": "us-east-1",
    "record_count": 98,
    "namespace_count": 3,
    "size_bytes": 1069169,
    "created_at": "2025-05-14T17:00:45.803146Z",
}
NO_COUNTS = ("record_count", "namespace_count", "size_bytes")
MADE_BY: dict[str, Any] = {"name": "nightly", "description": "Monthly backup of production index"}
# name -> a backup, and what 2025-04, 2025-10 (and 2026-04), 2026-07 have beside COMMON; None: not COMMON's.
BACKUPS: dict[str, tuple[BackupRecord, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "plain": (
        backup(settings("notes", 8, "cosine")),
        {"dimension": 8, "metric": "cosine", "tags": {}},
        {"dimension": 8, "metric": "cosine", "tags": {}},
        {"schema": {"fields": {"_values": dense(8, "cosine"), "_sparse_values": SPARSE_FIELD}}, "tags": None},
    ),
    "all that there is": (
        backup(settings("notes", 8, "dotproduct", tags={"a": "b"}, schema=GENRE), **MADE_BY),
        {"dimension": 8, "metric": "dotproduct", "tags": {"a": "b"}} | MADE_BY,
        {"dimension": 8, "metric": "dotproduct", "tags": {"a": "b"}, "schema": {"fields": GENRE}} | MADE_BY,
        {
            "schema": {"fields": {"_values": dense(8, "dotproduct"), "_sparse_values": SPARSE_FIELD} | GENRE},
            "tags": {"a": "b"},
        }
        | MADE_BY,
    ),
    "sparse, and its index is gone": (
        backup(
            settings("notes", None, "dotproduct", vector_type=VectorType.SPARSE),
            source_deleted_at=MOMENT + timedelta(days=1),
        ),
        {"metric": "dotproduct", "tags": {}},
        {"metric": "dotproduct", "tags": {}},
        {
            "schema": {"fields": {"_sparse_values": SPARSE_FIELD}},
            "source_index_deleted_at": "2025-05-15T17:00:45.803146Z",
            "tags": None,
        },
    ),
    "of a model": (
        backup(settings("notes", 4, "cosine", embed=Embed("m", {"text": "body"}))),
        {"dimension": 4, "metric": "cosine", "tags": {}},
        {"dimension": 4, "metric": "cosine", "tags": {}},
        {
            "schema": {
                "fields": {
                    "body": {
                        "type": "semantic_text",
                        "model": "m",
                        "dimension": 4,
                        "metric": "cosine",
                        "read_parameters": None,
                        "write_parameters": None,
                        "description": None,
                    }
                }
            },
            "tags": None,
        },
    ),
    "begun": (
        backup(settings("notes", 8, "cosine"), CopyStatus.INITIALIZING),
        {"status": "Initializing", "dimension": 8, "metric": "cosine", "tags": {}} | dict.fromkeys(NO_COUNTS),
        {"status": "Initializing", "dimension": 8, "metric": "cosine", "tags": {}} | dict.fromkeys(NO_COUNTS),
        {
            "status": "Initializing",
            "schema": {"fields": {"_values": dense(8, "cosine"), "_sparse_values": SPARSE_FIELD}},
            "tags": None,
        }
        | dict.fromkeys(NO_COUNTS),
    ),
}


@pytest.mark.parametrize("case", BACKUPS)
def test_a_backup(case: str) -> None:
    record, oldest, older, newest = BACKUPS[case]
    for version, own in zip(VERSIONS, (oldest, older, older, newest), strict=True):
        wanted = COMMON | own
        for name in NO_COUNTS:
            if wanted[name] is None:
                del wanted[name]
        assert convert.backup_model(record, version) == wanted


def test_a_backup_that_failed_is_called_otherwise_at_2026_07() -> None:
    record = backup(settings("notes", 8, "cosine"), CopyStatus.FAILED)
    states = [convert.backup_model(record, version)["status"] for version in VERSIONS]
    assert states == ["Failed", "Failed", "Failed", "InitializationFailed"]


@pytest.mark.parametrize(
    ("environment", "place"),
    [("aws-us-east-1-b921", ("aws", "us-east-1-b921")), ("own", ("byoc", "own")), ("aws", ("byoc", "aws"))],
)
def test_the_place_of_an_own_cloud(environment: str, place: tuple[str, str]) -> None:
    model = convert.backup_model(backup(settings("notes", 8, "cosine", deployment=Byoc(environment))), "2026-04")
    assert (model["cloud"], model["region"]) == place


# --- restore jobs ----------------------------------------------------------------------------------------------------


def job(status: JobStatus, percent: float, *, finished: bool) -> JobRecord:
    return JobRecord(
        id="69acc1d0-9105-4fcb-b1db-ebf97b285c5e", kind=JobKind.RESTORE, index_id=INDEX, index_name="restored",
        status=status, request={"backup_id": ID}, progress={"batches": 4}, percent=percent, error="it broke",
        cancelling=False, created_at=MOMENT, finished_at=MOMENT + timedelta(seconds=18.5) if finished else None,
        version=3,
    )  # fmt: skip


JOB = {
    "restore_job_id": "69acc1d0-9105-4fcb-b1db-ebf97b285c5e",
    "backup_id": ID,
    "target_index_name": "restored",
    "target_index_id": INDEX,
    "created_at": "2025-05-14T17:00:45.803146Z",
}
DONE = {"completed_at": "2025-05-14T17:01:04.303146Z"}


@pytest.mark.parametrize(
    ("made", "older", "newest"),
    [
        (
            job(JobStatus.PENDING, 0, finished=False),
            {"status": "Pending", "percent_complete": 0},
            {"status": "Pending"},
        ),
        (
            job(JobStatus.RUNNING, 42.23456, finished=False),
            {"status": "Pending", "percent_complete": 42.23},
            {"status": "Pending"},
        ),
        (
            job(JobStatus.COMPLETED, 100, finished=True),
            {"status": "Completed", "percent_complete": 100} | DONE,
            {"status": "Completed", "percent_complete": 100} | DONE,
        ),
        (
            job(JobStatus.FAILED, 7, finished=True),
            {"status": "Failed", "percent_complete": 7} | DONE,
            {"status": "Failed"} | DONE,
        ),
        (
            job(JobStatus.CANCELLED, 0, finished=True),
            {"status": "Cancelled", "percent_complete": 0} | DONE,
            {"status": "Cancelled"} | DONE,
        ),
    ],
)
def test_a_restore_job(made: JobRecord, older: dict[str, Any], newest: dict[str, Any]) -> None:
    for version in VERSIONS[:-1]:
        assert convert.restore_job_model(made, version) == JOB | older
    model = convert.restore_job_model(made, "2026-07")
    assert model == JOB | newest
    assert isinstance(model.get("percent_complete", 0), int)


def test_pages() -> None:
    assert convert.listed(Page([], None), dict) == {"data": [], "pagination": None}
    first = Page([{"a": 1}], "token")
    assert convert.listed(first, dict) == {"data": [{"a": 1}], "pagination": {"next": "token"}}


def test_times_are_in_utc_whatever_the_zone() -> None:
    there = timezone(timedelta(hours=2))
    assert convert.timestamp(datetime(2025, 1, 1, 1, tzinfo=there)) == "2024-12-31T23:00:00.000000Z"


# --- collections -----------------------------------------------------------------------------------------------------


def test_a_collection() -> None:
    made = settings("pods", 3, "cosine", deployment=Pod("us-east1-gcp"))
    record = CollectionRecord(
        id=ID, name="old", environment="us-east1-gcp", settings=made, dimension=3, vector_count=99, size_bytes=3126700,
        status=CopyStatus.READY, created_at=MOMENT,
    )  # fmt: skip
    shown = {"name": "old", "environment": "us-east1-gcp", "dimension": 3}
    for version in VERSIONS:
        ready = shown | {"size": 3126700, "status": "Ready", "vector_count": 99}
        assert convert.collection_model(record, version) == ready
        begun = replace(record, status=CopyStatus.INITIALIZING, vector_count=None, size_bytes=None)
        assert convert.collection_model(begun, version) == shown | {"status": "Initializing"}
        assert convert.collection_list([record, begun], version) == {
            "collections": [ready, shown | {"status": "Initializing"}]
        }
        assert convert.collection_list([], version) == {"collections": []}
    states = [
        [convert.collection_model(replace(record, status=status), version)["status"] for version in VERSIONS]
        for status in (CopyStatus.TERMINATING, CopyStatus.FAILED)
    ]
    assert states == [["Terminating"] * 4, ["Terminating"] * 3 + ["Terminated"]]


# --- requests --------------------------------------------------------------------------------------------------------


def test_how_long_a_page_is() -> None:
    assert convert.page_request({}, "2026-04") == PageRequest(None, None, 10, 100)
    assert convert.page_request({}, "2026-07") == PageRequest(None, None, 100, 1000)
    assert convert.page_request({"limit": "7", "paginationToken": "t"}, "2025-04") == PageRequest("t", 7, 10, 100)
    for text in ("", "x", "1.5", "1e3", "9" * 30):
        with pytest.raises(InvalidRequest):
            convert.page_request({"limit": text}, "2026-07")


def test_flags() -> None:
    assert not convert.flag_of({}, "include_deleted")
    assert convert.flag_of({"include_deleted": "true"}, "include_deleted")
    assert not convert.flag_of({"include_deleted": "False"}, "include_deleted")
    with pytest.raises(InvalidRequest):
        convert.flag_of({"include_deleted": "1"}, "include_deleted")


def test_names_of_backups() -> None:
    assert CREATE_BACKUP_BODY.decode(b"{}") == CreateBackupBody()
    free = CREATE_BACKUP_BODY.decode(b'{"name": "Nightly 2024_03_15", "description": null, "more": 1}')
    for version in VERSIONS[:-1]:
        assert convert.checked_backup_body(free, version) == CreateBackupBody("Nightly 2024_03_15")
    with pytest.raises(InvalidRequest) as caught:
        convert.checked_backup_body(free, "2026-07")
    assert caught.value.param == ("name",)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"name": "a"}', RestoreSettings("a")),
        (b'{"name": "a", "tags": {}}', RestoreSettings("a", {})),
        (
            b'{"name": "a", "tags": {"a": "b"}, "deletion_protection": "enabled"}',
            RestoreSettings("a", {"a": "b"}, True),
        ),
    ],
)
def test_what_may_differ_in_a_new_index(body: bytes, wanted: RestoreSettings) -> None:
    assert convert.restore_settings(RESTORE_BODY.decode(body)) == wanted
    assert convert.restore_settings(RESTORE_BODY_V27.decode(body)) == wanted


def test_read_capacity_is_new_at_2026_07() -> None:
    capacity = b'{"mode": "Dedicated", "dedicated": {"node_type": "b1", "scaling": "Manual"}}'
    for given, wanted in ((b'{"mode": "OnDemand"}', OnDemand()), (capacity, Dedicated("b1", "Manual"))):
        body = b'{"name": "a", "read_capacity": ' + given + b"}"
        assert convert.restore_settings(RESTORE_BODY_V27.decode(body)) == RestoreSettings("a", read_capacity=wanted)
        assert convert.restore_settings(RESTORE_BODY.decode(body)) == RestoreSettings("a")
