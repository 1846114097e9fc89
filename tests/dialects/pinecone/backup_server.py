"""A live server for tests with Pinecone's control and data planes: indexes, backups, collections, vectors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from starlette.applications import Starlette

from pinyon.app import asgi
from pinyon.dialects.pinecone.control.routes import control_routes
from pinyon.dialects.pinecone.control.routes_backups import backup_routes, collection_routes
from pinyon.dialects.pinecone.data.routes import data_routes
from pinyon.dialects.pinecone.inference.routes import pinecone
from pinyon.http.metrics import Metrics
from pinyon.services.inference import InferenceService
from pinyon.services.records import RecordsService
from pinyon.state import State
from pinyon.testing import FakeEngine, fake_catalogue
from tests.conftest import running
from tests.grounds import ground
from tests.services.copying import Copying


@contextlib.contextmanager
def backup_server(folder: Path, on: str = "memory sqlite", keys: tuple[str, ...] = ()) -> Iterator[str]:
    """Its URL. Indexes answer below `/i/`. `on`: one of GROUNDS."""
    with ground(on, folder) as (store, state_url):
        state = asyncio.run(State.open(state_url))
        made = Copying(state, store, folder)
        inference = InferenceService(fake_catalogue(folder), FakeEngine())
        plain = pinecone(inference)
        routes = (
            *control_routes(made.indexes, lambda record: f"http://localhost/i/{record.name}", made.collections),
            *backup_routes(made.backups),
            *collection_routes(made.collections),
            *data_routes(RecordsService(made.indexes, inference, state)),
        )

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            await made.start()
            yield
            await made.close()
            await store.close()
            await state.close()

        app = asgi(
            [replace(plain, routes=(*plain.routes, *routes))],
            keys=keys,
            metrics=Metrics(),
            max_body_bytes=1 << 16,
            is_ready=lambda: True,
            lifespan=lifespan,
        )
        with running(app) as url:
            yield url
