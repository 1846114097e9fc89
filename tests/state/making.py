"""Index settings for tests, and ways to look at a database past the `State`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from pinyon.state import IndexRecord, IndexSettings, IndexStatus, Serverless, State, VectorType
from pinyon.state.database import Database
from pinyon.types import Metric


def settings(name: str = "notes", **others: Any) -> IndexSettings:
    plain: dict[str, Any] = {
        "vector_type": VectorType.DENSE,
        "metric": Metric.COSINE,
        "dimension": 8,
        "deployment": Serverless("aws", "us-east-1"),
    }
    return IndexSettings(name=name, **plain | others)


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[State]:
    state = await State.open(url, **options)
    try:
        yield state
    finally:
        await state.close()


async def make_ready(state: State, name: str = "notes", **others: Any) -> IndexRecord:
    """Creates an index, and says that its store is there."""
    await state.create_index(settings(name, **others))
    return await state.change_index(name, _ready)


async def remove(state: State, name: str) -> None:
    await state.delete_index((await state.terminate_index(name)).id)


@contextlib.contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection as the State has them, in a transaction."""
    database = Database(url, lock_seconds=1)
    try:
        with database._engine.begin() as connection:
            yield connection
    finally:
        database.close()


def _ready(record: IndexRecord) -> IndexRecord:
    return replace(record, status=IndexStatus.READY)
