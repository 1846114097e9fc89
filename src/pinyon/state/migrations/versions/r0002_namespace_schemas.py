"""Schemas of namespaces."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "namespace_schemas",
        sa.Column("index_id", sa.String, nullable=False),
        sa.Column("namespace", sa.String, nullable=False),
        sa.Column("schema", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("index_id", "namespace", name="pk_namespace_schemas"),
        sa.ForeignKeyConstraint(["index_id"], ["indexes.id"], name="fk_namespace_schemas_index_id", ondelete="CASCADE"),
    )
