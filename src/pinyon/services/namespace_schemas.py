"""Which metadata fields a namespace declares: the store knows none, so they are remembered beside it.

A schema changes no answer, since every field can be filtered here; it is kept to be described.
"""

from __future__ import annotations

from typing import Protocol

from pinyon.state.records import Schema


class NamespaceSchemas(Protocol):
    """What is needed of the control plane's memory. Both raise Unavailable."""

    async def namespace_schemas(self, index_id: str) -> dict[str, Schema]:
        """By the names of the namespaces that have one."""
        ...

    async def set_namespace_schema(self, index_id: str, namespace: str, schema: Schema | None) -> None:
        """None forgets. Raises NotFound if the index is gone."""
        ...


class MemorySchemas:
    """Remembers as long as it lives: for a store in memory."""

    def __init__(self) -> None:
        self._schemas: dict[str, dict[str, Schema]] = {}

    async def namespace_schemas(self, index_id: str) -> dict[str, Schema]:
        return dict(self._schemas.get(index_id, {}))

    async def set_namespace_schema(self, index_id: str, namespace: str, schema: Schema | None) -> None:
        schemas = self._schemas.setdefault(index_id, {})
        schemas.pop(namespace, None)
        if schema:
            schemas[namespace] = schema
