"""What is driven over HTTP: an index of Pinyon's, and Chroma's collection. Requests as bytes; answers as rows."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench import load
from bench.client import post
from bench.server import Server, family, name, peak_memory
from bench.store_data import DIMENSION, TOP_K, Data, Filter, Floats
from bench.store_peers import BATCH

NAME = "bench"
_QUIET = 3.0  # seconds without a compaction, after which none is about to begin: the server waits for one itself


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and which: JSON, as a client of the vendor's writes it."""

    url: str

    def job(self, requests: Sequence[bytes], count: int, connections: int, **more: Any) -> load.Job:
        parts = urlsplit(self.url)
        assert parts.hostname is not None and parts.port is not None
        return load.Job(parts.hostname, parts.port, list(requests), count, connections, **more)

    def post(self, path: str, body: object) -> bytes:
        return post(self.url, path, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


class PineconeIndex(Target):
    """An index as Pinecone's clients talk to it."""

    def upserts(self, data: Data) -> list[bytes]:
        return [
            self.post("/vectors/upsert", {"vectors": [
                {"id": data.id(row), "values": data.vectors[row], "metadata": data.metadata(row)}
                for row in range(at, min(at + BATCH, len(data.vectors)))
            ]})
            for at in range(0, len(data.vectors), BATCH)
        ]  # fmt: skip

    def queries(self, vectors: Floats, filter: Filter | None = None) -> list[bytes]:
        only = {} if filter is None else {"filter": filter.pinecone()}
        return [self.post("/query", {"vector": vector, "topK": TOP_K, **only}) for vector in vectors]

    @staticmethod
    def rows(data: Data, body: bytes) -> list[int]:
        return [data.row(match["id"]) for match in orjson.loads(body)["matches"]]


@dataclass(frozen=True, slots=True)
class ChromaCollection(Target):
    path: str

    def upserts(self, data: Data) -> list[bytes]:
        found = []
        for at in range(0, len(data.vectors), BATCH):
            rows = range(at, min(at + BATCH, len(data.vectors)))
            ids, metadatas = [data.id(row) for row in rows], [data.metadata(row) for row in rows]
            body = {"ids": ids, "embeddings": data.vectors[at : at + BATCH], "metadatas": metadatas}
            found.append(self.post(f"{self.path}/upsert", body))
        return found

    def queries(self, vectors: Floats, filter: Filter | None = None) -> list[bytes]:
        only = {} if filter is None else {"where": filter.pinecone()}
        body = {"n_results": TOP_K, "include": [], **only}
        return [self.post(f"{self.path}/query", {"query_embeddings": vector[None], **body}) for vector in vectors]

    @staticmethod
    def rows(data: Data, body: bytes) -> list[int]:
        return [data.row(id) for id in orjson.loads(body)["ids"][0]]


def call(url: str, method: str, path: str, body: object = None) -> Any:
    """One request of the control plane. Raises OSError."""
    request = urllib.request.Request(
        url + path,
        method=method,
        data=None if body is None else orjson.dumps(body),
        headers={"content-type": "application/json", "x-pinecone-api-version": "2025-10"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        data = answer.read()
    return orjson.loads(data) if data else None


def create(server: Server) -> PineconeIndex:
    """A new index, at the address of its own."""
    spec = {"serverless": {"cloud": "aws", "region": "us-east-1"}}
    body = {"name": NAME, "dimension": DIMENSION, "metric": "cosine", "spec": spec}
    return PineconeIndex(call(server.url, "POST", "/indexes", body)["host"])


class Folder:
    """The folder of the only index of a server, from which its compactions can be told."""

    def __init__(self, server: Server) -> None:
        (manifest,) = server.folder.glob("indexes/*/index.json")
        self._manifest = manifest
        self._pid = server.pid

    @property
    def compacting(self) -> bool:
        return len(list(self._manifest.parent.glob("shard-*"))) > 1

    @property
    def shard(self) -> str:
        """The one in force. Each compaction makes a new one."""
        return str(orjson.loads(self._manifest.read_bytes())["shard"])

    @property
    def compacted_writes(self) -> int:
        """How many writes the graph has been built over."""
        return int(orjson.loads(self._manifest.read_bytes())["sequence"])

    def settle(self) -> None:
        """Waits until no compaction is under way, nor about to begin."""
        quiet = time.monotonic()
        while time.monotonic() - quiet < _QUIET:
            if self.compacting:
                quiet = time.monotonic()
            time.sleep(0.02)

    def child_memory(self) -> int:
        """Bytes that the compaction's process has had at its most so far; 0 if there is none."""
        for pid in family(self._pid):
            with contextlib.suppress(OSError, StopIteration):
                if name(pid) == "compaction":
                    return peak_memory(pid)
        return 0


def found_rows(target: PineconeIndex | ChromaCollection, data: Data, outcome: load.Outcome) -> list[list[int]]:
    return [target.rows(data, body) for body in outcome.bodies]
