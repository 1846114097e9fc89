"""A live server over a MemoryStore, with the data plane of Pinecone alone, and requests to it at any version."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from pinyon.app import asgi
from pinyon.dialects.pinecone.data.routes import data_routes
from pinyon.dialects.pinecone.inference.routes import pinecone
from pinyon.errors import NotFound
from pinyon.http.metrics import Metrics
from pinyon.services.indexes import OpenIndex
from pinyon.services.inference import InferenceService
from pinyon.services.records import RecordsService
from pinyon.state.records import Embed, IndexRecord, IndexStatus, Pod, Serverless, VectorType
from pinyon.stores.base import Layout
from pinyon.stores.memory import MemoryStore
from pinyon.testing import FakeEngine, fake_catalogue
from pinyon.types import Metric
from tests.conftest import running

MODEL = "all-minilm-l6-v2"
RANKER = "all-minilm-l6-v2-rerank"
VERSIONS = ("2025-04", "2025-10", "2026-04", "2026-07")


def index_record(name: str, **changes: Any) -> IndexRecord:
    record = IndexRecord(
        name=name,
        vector_type=VectorType.DENSE,
        metric=Metric.COSINE,
        dimension=3,
        deployment=Serverless("aws", "us-east-1"),
        id=name,
        status=IndexStatus.READY,
        port=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        version=1,
    )
    return replace(record, **changes)


# What every test may ask: one index of each kind.
RECORDS = (
    index_record("dense"),
    index_record("hybrid", metric=Metric.DOTPRODUCT),
    index_record("far", metric=Metric.EUCLIDEAN),
    index_record("sparse", vector_type=VectorType.SPARSE, metric=Metric.DOTPRODUCT, dimension=None),
    index_record("pods", deployment=Pod("us-east1-gcp")),
    index_record(
        "texts",
        dimension=384,
        embed=Embed(MODEL, {"text": "body"}, Metric.COSINE, 384, None, {"input_type": "passage"}),
    ),
    index_record(
        "words",
        vector_type=VectorType.SPARSE,
        metric=Metric.DOTPRODUCT,
        dimension=None,
        embed=Embed("pinecone-sparse-english-v0", {"text": "body"}),
    ),
)


@dataclass
class MemoryIndexes:
    """The control plane's stand-in."""

    store: MemoryStore = field(default_factory=MemoryStore)
    records: dict[str, IndexRecord] = field(default_factory=dict)

    async def add(self, record: IndexRecord) -> None:
        await self.store.create(record.id, Layout(record.dimension, record.metric))
        self.records[record.name] = record

    async def open_index(self, name: str) -> OpenIndex:
        if name not in self.records:
            raise NotFound(f"Index {name} not found", "index", name)
        return OpenIndex(self.records[name], await self.store.open(name))


def records_service(folder: Path, engine: FakeEngine) -> RecordsService:
    indexes = MemoryIndexes()

    async def fill() -> None:
        for record in RECORDS:
            await indexes.add(record)

    asyncio.run(fill())
    return RecordsService(indexes, InferenceService(fake_catalogue(folder), engine))


@dataclass
class DataServer:
    url: str
    engine: FakeEngine
    client: httpx.Client

    def host(self, index: str) -> str:
        return f"{self.url}/i/{index}"

    def post(self, index: str, path: str, body: object, version: str = "2026-07") -> httpx.Response:
        return self.ask("POST", index, path, version, json=body)

    def get(self, index: str, path: str, version: str = "2026-07", **params: Any) -> httpx.Response:
        return self.ask("GET", index, path, version, params=params)

    def ask(self, method: str, index: str, path: str, version: str = "2026-07", **more: Any) -> httpx.Response:
        return self.client.request(method, self.host(index) + path, headers={"X-Pinecone-Api-Version": version}, **more)


@contextlib.contextmanager
def data_server(folder: Path, *, keys: tuple[str, ...] = (), max_body_bytes: int = 4 << 20) -> Iterator[DataServer]:
    engine = FakeEngine()
    records = records_service(folder, engine)
    plain = pinecone(records.inference)
    app = asgi(
        [replace(plain, routes=plain.routes + data_routes(records))],
        keys=keys,
        metrics=Metrics(),
        max_body_bytes=max_body_bytes,
        is_ready=lambda: True,
    )
    with running(app) as url, httpx.Client(headers={"Api-Key": keys[0]} if keys else {}) as client:
        yield DataServer(url, engine, client)
