"""Jobs, backups and collections."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("index_id", sa.String),
        sa.Column("index_name", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("percent", sa.Double, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("created_at", name="uq_jobs_created_at"),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"])
    op.create_table(
        "backups",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String),
        sa.Column("description", sa.String),
        sa.Column("source_index_id", sa.String, nullable=False),
        sa.Column("source_index_name", sa.String, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("schemas", sa.JSON, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("record_count", sa.BigInteger),
        sa.Column("namespace_count", sa.BigInteger),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_deleted_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_backups"),
        sa.UniqueConstraint("created_at", name="uq_backups_created_at"),
    )
    op.create_table(
        "collections",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("environment", sa.String, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("dimension", sa.Integer),
        sa.Column("vector_count", sa.BigInteger),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("name", name="uq_collections_name"),
    )
