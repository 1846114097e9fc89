"""Indexes as rows: every function works inside the transaction of the connection it is given.

Writers run one at a time (see `database`), so what a function reads stays true until it commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pinyon.errors import AlreadyExists, FailedPrecondition, NotFound
from pinyon.state.ports import release_port, take_port
from pinyon.state.records import IndexRecord, IndexSettings, IndexStatus
from pinyon.state.rows import check_texts, is_storable, pack_settings, unpack_settings
from pinyon.state.tables import backups, indexes

_SETTINGS = tuple(setting.name for setting in fields(IndexSettings))


def create(connection: sa.Connection, settings: IndexSettings, ports: range, now: datetime) -> IndexRecord:
    """Raises AlreadyExists, InvalidRequest for text that no database keeps, FailedPrecondition when ports run out."""
    check_texts(settings, "name", "source_collection", "source_backup_id", "cmek_id")
    if connection.scalar(sa.select(indexes.c.id).where(indexes.c.name == settings.name)) is not None:
        raise AlreadyExists(f"Index {settings.name} already exists")
    record = IndexRecord(
        **{setting: getattr(settings, setting) for setting in _SETTINGS},
        id=str(uuid.uuid4()),
        status=IndexStatus.INITIALIZING,
        port=take_port(connection, ports),
        created_at=now,
        version=1,
    )
    connection.execute(indexes.insert().values(pack_settings(record)))
    return record


def get(connection: sa.Connection, name: str) -> IndexRecord:
    """Raises NotFound."""
    if is_storable(name):
        row = connection.execute(sa.select(indexes).where(indexes.c.name == name)).one_or_none()
        if row is not None:
            return _record(row)
    raise NotFound(f"Index {name} not found", "index", name)


def list_all(connection: sa.Connection) -> list[IndexRecord]:
    """Every index, by rising name."""
    # Sorted here: PostgreSQL would sort by its locale, in which "-" may not count.
    return sorted((_record(row) for row in connection.execute(sa.select(indexes))), key=lambda record: record.name)


def update(connection: sa.Connection, record: IndexRecord) -> IndexRecord:
    """Writes the record over the version that it was made from. Raises NotFound; FailedPrecondition if it was changed
    meanwhile, is terminating, or is protected and would terminate."""
    if record.deletion_protection and record.status is IndexStatus.TERMINATING:
        raise FailedPrecondition(f"Deletion protection is enabled for index {record.name}")
    row = pack_settings(record) | {"version": record.version + 1}
    for never_changed in ("id", "name", "created_at", "port"):
        del row[never_changed]
    return _write(connection, record, row)


def change(connection: sa.Connection, name: str, make: Callable[[IndexRecord], IndexRecord]) -> IndexRecord:
    """Reads, changes and writes in one. Raises what `get`, `make` and `update` raise."""
    return update(connection, make(get(connection, name)))


def terminating(record: IndexRecord) -> IndexRecord:
    return replace(record, status=IndexStatus.TERMINATING)


def change_port(connection: sa.Connection, record: IndexRecord, ports: range, now: datetime) -> IndexRecord:
    """Gives the index another port. Raises as `update`, and FailedPrecondition when there is no other."""
    old = connection.scalar(sa.select(indexes.c.port).where(indexes.c.id == record.id))
    # Taken while the old one is not among the free ones.
    port = take_port(connection, ports)
    changed = _write(connection, record, {"port": port, "version": record.version + 1})
    release_port(connection, old, now)
    return changed


def delete(connection: sa.Connection, id: str, now: datetime) -> None:
    """Forgets the index, and releases its name and port. Raises NotFound; FailedPrecondition if it is ready."""
    row = connection.execute(sa.select(indexes).where(indexes.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"Index {id} not found", "index", id)
    record = _record(row)
    if record.status is IndexStatus.READY:
        raise FailedPrecondition(f"Index {record.name} is ready, and was not told to terminate")
    connection.execute(indexes.delete().where(indexes.c.id == id))
    connection.execute(backups.update().where(backups.c.source_index_id == id).values(source_deleted_at=now))
    release_port(connection, record.port, now)


def _write(connection: sa.Connection, record: IndexRecord, row: dict[str, Any]) -> IndexRecord:
    written = connection.execute(
        indexes.update()
        .where(indexes.c.id == record.id)
        .where(indexes.c.version == record.version)
        .where(indexes.c.status != IndexStatus.TERMINATING.value)
        .values(row)
    )
    current = connection.execute(sa.select(indexes).where(indexes.c.id == record.id)).one_or_none()
    if current is None:
        raise NotFound(f"Index {record.name} not found", "index", record.name)
    if written.rowcount == 1:
        return _record(current)
    if current.status == IndexStatus.TERMINATING:
        raise FailedPrecondition(f"Index {record.name} is being deleted")
    raise FailedPrecondition(f"Index {record.name} was changed by another request")


def _record(row: sa.Row[Any]) -> IndexRecord:
    values = unpack_settings(dict(row._mapping))
    return IndexRecord(**values | {"status": IndexStatus(values["status"])})
