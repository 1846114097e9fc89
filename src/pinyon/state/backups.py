"""Backups as rows: every function works inside the transaction of the connection it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pinyon.errors import NotFound
from pinyon.state.records import BackupRecord, CopyStatus, IndexRecord, IndexSettings, Schema
from pinyon.state.rows import (
    check_texts,
    is_storable,
    make_id,
    moment_of,
    next_moment,
    pack_settings,
    plain_settings,
    unpack_settings,
)
from pinyon.state.tables import backups

_NEVER_CHANGED = ("id", "source_index_id", "source_index_name", "created_at")


def create(
    connection: sa.Connection,
    source: IndexRecord,
    schemas: Mapping[str, Schema],
    name: str | None,
    description: str | None,
    tags: Mapping[str, str],
    now: datetime,
) -> BackupRecord:
    """A new backup, INITIALIZING. Raises InvalidRequest for text that no database keeps."""
    moment = next_moment(connection, backups.c.created_at, now)
    record = BackupRecord(
        id=make_id(moment),
        name=name,
        description=description,
        source_index_id=source.id,
        source_index_name=source.name,
        settings=plain_settings(source),
        schemas=schemas,
        status=CopyStatus.INITIALIZING,
        record_count=None,
        namespace_count=None,
        size_bytes=None,
        tags=tags,
        created_at=moment,
    )
    check_texts(record, "name", "description")
    connection.execute(backups.insert().values(_row(record)))
    return record


def get(connection: sa.Connection, id: str) -> BackupRecord:
    """Raises NotFound."""
    if is_storable(id):
        row = connection.execute(sa.select(backups).where(backups.c.id == id)).one_or_none()
        if row is not None:
            return _record(row)
    raise NotFound(f"Backup {id} not found", "backup", id)


def change(connection: sa.Connection, id: str, make: Callable[[BackupRecord], BackupRecord]) -> BackupRecord:
    """Reads, changes and writes in one. Raises what `get` and `make` raise, and InvalidRequest as `create`."""
    old = get(connection, id)
    new = replace(make(old), **{name: getattr(old, name) for name in _NEVER_CHANGED})
    check_texts(new, "name", "description")
    connection.execute(backups.update().where(backups.c.id == id).values(_row(new)))
    return new


def delete(connection: sa.Connection, id: str) -> None:
    """Raises NotFound."""
    get(connection, id)
    connection.execute(backups.delete().where(backups.c.id == id))


def page(
    connection: sa.Connection, index_name: str | None, index_id: str | None, after: str | None, limit: int | None
) -> list[BackupRecord]:
    """Newest first, from behind the backup whose id is `after`, which may be gone. Raises InvalidRequest if that is no
    id."""
    query = sa.select(backups).order_by(backups.c.created_at.desc()).limit(limit)
    if index_name is not None:
        if not is_storable(index_name):
            return []
        query = query.where(backups.c.source_index_name == index_name)
    if index_id is not None:
        query = query.where(backups.c.source_index_id == index_id)
    if after is not None:
        query = query.where(backups.c.created_at < moment_of(after))
    return [_record(row) for row in connection.execute(query)]


def _row(record: BackupRecord) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in fields(BackupRecord)}
    return row | {"settings": pack_settings(record.settings), "status": record.status.value}


def _record(row: sa.Row[Any]) -> BackupRecord:
    values = dict(row._mapping)
    settings = IndexSettings(**unpack_settings(values["settings"]))
    return BackupRecord(**values | {"settings": settings, "status": CopyStatus(values["status"])})
