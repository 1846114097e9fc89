"""Jobs as rows: every function works inside the transaction of the connection it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pinyon.errors import FailedPrecondition, NotFound
from pinyon.state.records import JobKind, JobRecord, JobStatus
from pinyon.state.rows import check_texts, is_storable, make_id, moment_of, next_moment
from pinyon.state.tables import jobs

_UNFINISHED = [status.value for status in JobStatus if not status.is_final]
_NEVER_CHANGED = ("id", "kind", "index_id", "index_name", "request", "created_at")


def create(
    connection: sa.Connection,
    kind: JobKind,
    request: Mapping[str, Any],
    index_id: str | None,
    index_name: str | None,
    now: datetime,
) -> JobRecord:
    """A new job, PENDING. Raises InvalidRequest for text that no database keeps."""
    moment = next_moment(connection, jobs.c.created_at, now)
    record = JobRecord(
        id=make_id(moment),
        kind=kind,
        index_id=index_id,
        index_name=index_name,
        status=JobStatus.PENDING,
        request=request,
        progress={},
        percent=0.0,
        error=None,
        cancelling=False,
        created_at=moment,
        finished_at=None,
        version=1,
    )
    check_texts(record, "index_id", "index_name")
    connection.execute(jobs.insert().values(_row(record)))
    return record


def get(connection: sa.Connection, id: str) -> JobRecord:
    """Raises NotFound."""
    if is_storable(id):
        row = connection.execute(sa.select(jobs).where(jobs.c.id == id)).one_or_none()
        if row is not None:
            return _record(row)
    raise NotFound(f"Job {id} not found", "job", id)


def change(
    connection: sa.Connection, id: str, make: Callable[[JobRecord], JobRecord], now: Callable[[], datetime]
) -> JobRecord:
    """Reads, changes and writes in one. A status that is final is given the time. Raises NotFound, what `make` raises,
    and FailedPrecondition for a job that has finished."""
    old = get(connection, id)
    if old.status.is_final:
        raise FailedPrecondition(f"Job {id} has finished")
    new = make(old)
    unchanging = {name: getattr(old, name) for name in _NEVER_CHANGED}
    new = replace(
        new,
        **unchanging,
        finished_at=max(now(), old.created_at) if new.status.is_final else None,
        version=old.version + 1,
    )
    row = _row(new)
    for name in _NEVER_CHANGED:
        del row[name]
    connection.execute(jobs.update().where(jobs.c.id == id).values(row))
    return new


def page(
    connection: sa.Connection, kind: JobKind | None, index_id: str | None, after: str | None, limit: int
) -> list[JobRecord]:
    """Newest first, from behind the job whose id is `after`. Raises InvalidRequest if that is no id."""
    query = sa.select(jobs).order_by(jobs.c.created_at.desc()).limit(limit)
    if kind is not None:
        query = query.where(jobs.c.kind == kind.value)
    if index_id is not None:
        query = query.where(jobs.c.index_id == index_id)
    if after is not None:
        query = query.where(jobs.c.created_at < moment_of(after))
    return [_record(row) for row in connection.execute(query)]


def unfinished(connection: sa.Connection) -> list[JobRecord]:
    """Oldest first."""
    query = sa.select(jobs).where(jobs.c.status.in_(_UNFINISHED)).order_by(jobs.c.created_at)
    return [_record(row) for row in connection.execute(query)]


def forget(connection: sa.Connection, before: datetime, keep: int) -> int:
    """Those that finished before a moment, and of the others all but the newest `keep` that have finished. Gives how
    many it were."""
    is_final = jobs.c.status.not_in(_UNFINISHED)
    is_old = jobs.c.finished_at < before
    newest = sa.select(jobs.c.created_at).where(is_final).order_by(jobs.c.created_at.desc())
    if (last := connection.scalar(newest.offset(keep).limit(1))) is not None:
        is_old |= jobs.c.created_at <= last
    return connection.execute(jobs.delete().where(is_final, is_old)).rowcount


def _row(record: JobRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "kind": record.kind.value,
        "index_id": record.index_id,
        "index_name": record.index_name,
        "status": record.status.value,
        "request": dict(record.request),
        "progress": dict(record.progress),
        "percent": record.percent,
        "error": record.error,
        "cancelling": record.cancelling,
        "created_at": record.created_at,
        "finished_at": record.finished_at,
        "version": record.version,
    }


def _record(row: sa.Row[Any]) -> JobRecord:
    values = dict(row._mapping)
    return JobRecord(**values | {"kind": JobKind(values["kind"]), "status": JobStatus(values["status"])})
