"""Indexes and released ports."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "indexes",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("vector_type", sa.String, nullable=False),
        sa.Column("metric", sa.String, nullable=False),
        sa.Column("dimension", sa.Integer),
        sa.Column("deployment", sa.JSON, nullable=False),
        sa.Column("read_capacity", sa.JSON),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("deletion_protection", sa.Boolean, nullable=False),
        sa.Column("schema", sa.JSON, nullable=False),
        sa.Column("embed", sa.JSON),
        sa.Column("source_collection", sa.String),
        sa.Column("source_backup_id", sa.String),
        sa.Column("cmek_id", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("port", sa.Integer),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_indexes"),
        sa.UniqueConstraint("name", name="uq_indexes_name"),
        sa.UniqueConstraint("port", name="uq_indexes_port"),
    )
    op.create_table(
        "released_ports",
        sa.Column("port", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("port", name="pk_released_ports"),
    )
