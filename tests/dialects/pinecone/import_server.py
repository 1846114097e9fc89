"""A live server with indexes and imports: a MemoryStore, SQLite, and files below `files` of its folder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from starlette.applications import Starlette

from pinyon.app import asgi
from pinyon.dialects.pinecone.data.routes import data_routes, import_routes
from pinyon.dialects.pinecone.inference.routes import pinecone
from pinyon.http.metrics import Metrics
from pinyon.services.import_sources import Sources
from pinyon.services.imports import ImportService
from pinyon.services.indexes import IndexService
from pinyon.services.inference import InferenceService
from pinyon.services.jobs import Jobs
from pinyon.services.records import RecordsService
from pinyon.state import JobKind, State
from pinyon.stores.memory import MemoryStore
from pinyon.testing import FakeEngine, fake_catalogue
from tests.conftest import running
from tests.services.import_files import DIMENSION
from tests.state.making import settings

T = TypeVar("T")
TIMEOUT = 60  # seconds; nothing here takes one


@dataclass
class ImportServer:
    url: str
    files: Path
    client: httpx.Client

    def host(self, index: str = "i") -> str:
        return f"{self.url}/i/{index}"

    @property
    def uri(self) -> str:
        return f"file://{self.files}"

    def ask(self, method: str, path: str, version: str = "2026-07", **more: Any) -> httpx.Response:
        """Of the index `i`."""
        headers = {"X-Pinecone-Api-Version": version}
        return self.client.request(method, f"{self.host()}/bulk/imports{path}", headers=headers, **more)

    def started(self, uri: str, version: str = "2026-07", **body: Any) -> dict[str, Any]:
        """Starts an import, and describes it once it has ended."""
        answer = self.ask("POST", "", version, json={"uri": uri, **body})
        assert answer.status_code == 200, answer.text
        return until(
            lambda: self.ask("GET", f"/{answer.json()['id']}", version).json(),
            lambda found: found["status"] not in ("Pending", "InProgress"),
        )


def until(look: Callable[[], T], is_so: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + TIMEOUT
    while not is_so(found := look()):
        assert time.monotonic() < deadline, found
    return found


@contextlib.contextmanager
def import_server(folder: Path) -> Iterator[ImportServer]:
    """With the index `i`, of DIMENSION dimensions."""
    files = folder / "files"
    files.mkdir()
    store, catalogue = MemoryStore(), fake_catalogue(folder)
    state = asyncio.run(State.open(f"sqlite:///{folder}/state.db"))
    indexes = IndexService(state, store, catalogue)
    asyncio.run(indexes.create_index(settings("i", dimension=DIMENSION)))
    jobs = Jobs(state, running=2)
    imports = ImportService(jobs, indexes, Sources([str(files)]))
    jobs.handle(JobKind.IMPORT, imports.run)
    records = RecordsService(indexes, InferenceService(catalogue, FakeEngine()), state)
    plain = pinecone(records.inference)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await jobs.start()
        yield
        await jobs.close()
        await indexes.close()
        await store.close()
        await state.close()

    app = asgi(
        [replace(plain, routes=(*plain.routes, *data_routes(records), *import_routes(imports)))],
        keys=(),
        metrics=Metrics(),
        max_body_bytes=1 << 16,
        is_ready=lambda: True,
        lifespan=lifespan,
    )
    with running(app) as url, httpx.Client(timeout=TIMEOUT) as client:
        yield ImportServer(url, files, client)
