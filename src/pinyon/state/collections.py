"""Collections as rows: every function works inside the transaction of the connection it is given."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pinyon.errors import AlreadyExists, NotFound
from pinyon.state.records import CollectionRecord, CopyStatus, IndexRecord, IndexSettings
from pinyon.state.rows import check_texts, is_storable, pack_settings, plain_settings, unpack_settings
from pinyon.state.tables import collections

_NEVER_CHANGED = ("id", "name", "created_at")


def create(
    connection: sa.Connection, name: str, source: IndexRecord, environment: str, now: datetime
) -> CollectionRecord:
    """A new collection, INITIALIZING. Raises AlreadyExists, InvalidRequest for text that no database keeps."""
    record = CollectionRecord(
        id=str(uuid.uuid4()),
        name=name,
        environment=environment,
        settings=plain_settings(source),
        dimension=source.dimension,
        vector_count=None,
        size_bytes=None,
        status=CopyStatus.INITIALIZING,
        created_at=now,
    )
    check_texts(record, "name", "environment")
    if connection.scalar(sa.select(collections.c.id).where(collections.c.name == name)) is not None:
        raise AlreadyExists(f"Collection {name} already exists")
    connection.execute(collections.insert().values(_row(record)))
    return record


def get(connection: sa.Connection, name: str) -> CollectionRecord:
    """Raises NotFound."""
    if is_storable(name):
        row = connection.execute(sa.select(collections).where(collections.c.name == name)).one_or_none()
        if row is not None:
            return _record(row)
    raise NotFound(f"Collection {name} not found", "collection", name)


def change(
    connection: sa.Connection, name: str, make: Callable[[CollectionRecord], CollectionRecord]
) -> CollectionRecord:
    """Reads, changes and writes in one. Raises what `get` and `make` raise."""
    old = get(connection, name)
    new = replace(make(old), **{name: getattr(old, name) for name in _NEVER_CHANGED})
    connection.execute(collections.update().where(collections.c.id == old.id).values(_row(new)))
    return new


def delete(connection: sa.Connection, name: str) -> None:
    """Raises NotFound."""
    record = get(connection, name)
    connection.execute(collections.delete().where(collections.c.id == record.id))


def list_all(connection: sa.Connection) -> list[CollectionRecord]:
    """Every collection, by rising name."""
    # Sorted here, as indexes are: PostgreSQL would sort by its locale.
    found = (_record(row) for row in connection.execute(sa.select(collections)))
    return sorted(found, key=lambda record: record.name)


def _row(record: CollectionRecord) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in fields(CollectionRecord)}
    return row | {"settings": pack_settings(record.settings), "status": record.status.value}


def _record(row: sa.Row[Any]) -> CollectionRecord:
    values = dict(row._mapping)
    settings = IndexSettings(**unpack_settings(values["settings"]))
    return CollectionRecord(**values | {"settings": settings, "status": CopyStatus(values["status"])})
