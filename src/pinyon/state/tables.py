"""The tables. A change here needs a migration beside it: a test compares the two.

Text is never compared or sorted by the database, except for equality: SQLite and PostgreSQL do not order it alike.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

# What `migrations` ends at. It stands here so that opening a database that is up to date does not import Alembic.
HEAD = "0003"
# NOTE: not Alembic's own name for it: a PostgreSQL database may be shared with another program that uses Alembic.
VERSION_TABLE = "pinyon_revision"

# Constraints have names on every database, so that a migration can drop them.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(sa.TypeDecorator[datetime]):
    """A time in UTC. SQLite forgets time zones: there it is kept as UTC without one."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Open parts: JSON as text, which keeps the order of keys. None is SQL's NULL.
_OPEN = sa.JSON(none_as_null=True)

indexes = sa.Table(
    "indexes",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("vector_type", sa.String, nullable=False),
    sa.Column("metric", sa.String, nullable=False),
    sa.Column("dimension", sa.Integer),
    sa.Column("deployment", _OPEN, nullable=False),  # {"kind": "serverless" | "pod" | "byoc", ...}
    sa.Column("read_capacity", _OPEN),
    sa.Column("tags", _OPEN, nullable=False),
    sa.Column("deletion_protection", sa.Boolean, nullable=False),
    sa.Column("schema", _OPEN, nullable=False),
    sa.Column("embed", _OPEN),
    sa.Column("source_collection", sa.String),
    sa.Column("source_backup_id", sa.String),
    sa.Column("cmek_id", sa.String),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("port", sa.Integer, unique=True),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

# Namespaces are the store's; here is what it does not know of them. One that declares nothing has no row.
namespace_schemas = sa.Table(
    "namespace_schemas",
    metadata,
    sa.Column("index_id", sa.String, sa.ForeignKey("indexes.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("namespace", sa.String, primary_key=True),
    sa.Column("schema", _OPEN, nullable=False),
)

# Ports that belonged to an index and belong to none now.
released_ports = sa.Table(
    "released_ports",
    metadata,
    sa.Column("port", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("released_at", Moment, nullable=False),
)

# What may take longer than a request. `created_at` is unique: it is the order of the listings, see `rows.next_moment`.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    # Not a foreign key: what was done is remembered when its index is gone.
    sa.Column("index_id", sa.String),
    sa.Column("index_name", sa.String),
    sa.Column("status", sa.String, nullable=False, index=True),
    sa.Column("request", _OPEN, nullable=False),
    sa.Column("progress", _OPEN, nullable=False),
    sa.Column("percent", sa.Double, nullable=False),
    sa.Column("error", _OPEN),  # JSON, though a string: it may quote what no database keeps as text
    sa.Column("cancelling", sa.Boolean, nullable=False),
    sa.Column("created_at", Moment, nullable=False, unique=True),
    sa.Column("finished_at", Moment),
    sa.Column("version", sa.Integer, nullable=False),
)

backups = sa.Table(
    "backups",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String),
    sa.Column("description", sa.String),
    # Not a foreign key: a backup outlives its index.
    sa.Column("source_index_id", sa.String, nullable=False),
    sa.Column("source_index_name", sa.String, nullable=False),
    sa.Column("settings", _OPEN, nullable=False),  # of the index, as `rows.pack_settings` gives them
    sa.Column("schemas", _OPEN, nullable=False),  # of its namespaces
    sa.Column("status", sa.String, nullable=False),
    sa.Column("record_count", sa.BigInteger),
    sa.Column("namespace_count", sa.BigInteger),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("tags", _OPEN, nullable=False),
    sa.Column("created_at", Moment, nullable=False, unique=True),
    sa.Column("source_deleted_at", Moment),
)

collections = sa.Table(
    "collections",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("environment", sa.String, nullable=False),
    sa.Column("settings", _OPEN, nullable=False),  # of the index that it was made from
    sa.Column("dimension", sa.Integer),
    sa.Column("vector_count", sa.BigInteger),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
)
