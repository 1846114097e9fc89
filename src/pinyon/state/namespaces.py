"""What namespaces declare, as rows: every function works inside the transaction of the connection it is given."""

from __future__ import annotations

import sqlalchemy as sa

from pinyon.errors import NotFound
from pinyon.state.records import Schema
from pinyon.state.tables import indexes, namespace_schemas


def schemas(connection: sa.Connection, index_id: str) -> dict[str, Schema]:
    """Of every namespace that declares something."""
    columns = namespace_schemas.c
    found = connection.execute(sa.select(columns.namespace, columns.schema).where(columns.index_id == index_id))
    return {namespace: schema for namespace, schema in found}


def set_schema(connection: sa.Connection, index_id: str, namespace: str, schema: Schema | None) -> None:
    """None or an empty one forgets. Raises NotFound if the index is gone."""
    columns = namespace_schemas.c
    connection.execute(
        namespace_schemas.delete().where(columns.index_id == index_id).where(columns.namespace == namespace)
    )
    if not schema:
        return
    if connection.scalar(sa.select(indexes.c.id).where(indexes.c.id == index_id)) is None:
        raise NotFound(f"Index {index_id} not found", "index", index_id)
    connection.execute(namespace_schemas.insert().values(index_id=index_id, namespace=namespace, schema=dict(schema)))
