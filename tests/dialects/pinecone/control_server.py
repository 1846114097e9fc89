"""A live control plane for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.applications import Starlette

from pinyon.app import asgi
from pinyon.dialects.pinecone.control.routes import control_routes
from pinyon.dialects.pinecone.inference.routes import pinecone
from pinyon.http.metrics import Metrics
from pinyon.services.indexes import IndexService
from pinyon.services.inference import InferenceService
from pinyon.state import State
from pinyon.stores.base import Store
from pinyon.testing import FakeEngine, fake_catalogue
from tests.conftest import running
from tests.grounds import ground


@dataclass
class ControlServer:
    url: str
    store: Store
    indexes: IndexService


@contextlib.contextmanager
def control_server(folder: Path, keys: tuple[str, ...] = (), on: str = "memory sqlite") -> Iterator[ControlServer]:
    """Indexes answer, so they say, at `http://localhost:PORT`. `on`: one of GROUNDS."""
    with ground(on, folder) as (store, url), _served(store, url, folder, keys) as made:
        yield made


@contextlib.contextmanager
def _served(store: Store, state_url: str, folder: Path, keys: tuple[str, ...]) -> Iterator[ControlServer]:
    state = asyncio.run(State.open(state_url))
    catalogue = fake_catalogue(folder)
    service = IndexService(state, store, catalogue)
    # Without the planes that the composition root may have joined to it already.
    dialect = pinecone(InferenceService(catalogue, FakeEngine()))
    routes = tuple(route for route in dialect.routes if not route.path.startswith("/indexes"))
    dialect = replace(
        dialect, routes=control_routes(service, lambda record: f"http://localhost:{record.port}") + routes
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()
        await store.close()
        await state.close()

    app = asgi(
        [dialect],
        keys=keys,
        metrics=Metrics(),
        max_body_bytes=1 << 16,
        is_ready=lambda: True,
        lifespan=lifespan,
    )
    with running(app) as url:
        yield ControlServer(url, store, service)
