"""What namespaces declare: kept over a restart, and gone with their index."""

from __future__ import annotations

import asyncio

import pytest

from pinyon.errors import NotFound
from tests.state.making import make_ready, opened, remove

GENRE = {"genre": {"filterable": True}, "é \"'\0": {"filterable": True}}


def test_schemas_are_kept_until_they_are_forgotten(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            index = await make_ready(state)
            other = await make_ready(state, "other")
            await state.set_namespace_schema(index.id, "b", {"year": {"filterable": True}})
            await state.set_namespace_schema(index.id, "a", GENRE)
            await state.set_namespace_schema(index.id, "b", {})
            await state.set_namespace_schema(index.id, "never there", None)
            await state.set_namespace_schema(other.id, "a", {"year": {"filterable": True}})
        async with opened(url) as state:
            found = await state.namespace_schemas(index.id)
            assert found == {"a": GENRE}
            assert list(found["a"]) == list(GENRE)
            await state.set_namespace_schema(index.id, "a", None)
            assert await state.namespace_schemas(index.id) == {}
            assert list(await state.namespace_schemas(other.id)) == ["a"]

    asyncio.run(run())


def test_schemas_go_with_their_index(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            index = await make_ready(state)
            await state.set_namespace_schema(index.id, "a", GENRE)
            await remove(state, index.name)
            assert await state.namespace_schemas(index.id) == {}
            with pytest.raises(NotFound):
                await state.set_namespace_schema(index.id, "a", GENRE)
            await state.set_namespace_schema(index.id, "a", None)

    asyncio.run(run())
