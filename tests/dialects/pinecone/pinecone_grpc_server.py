"""REST and gRPC on one port, over the indexes of `pinecone_data_server`, and a client for each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
from google.protobuf.message import Message

from pinyon.app import asgi
from pinyon.app.indexes import index_at
from pinyon.config import Config
from pinyon.dialects.pinecone.data.grpc import pinecone_grpc
from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb
from pinyon.dialects.pinecone.data.routes import data_routes
from pinyon.dialects.pinecone.inference.routes import pinecone
from pinyon.http.auth import KeyRing
from pinyon.http.endpoint import Surroundings
from pinyon.http.grpc import Calls
from pinyon.http.limits import BodyBudget
from pinyon.http.metrics import Metrics
from pinyon.services.records import RecordsService
from pinyon.testing import FakeEngine
from tests.dialects.pinecone.pinecone_data_server import records_service
from tests.http.serving import serving

T = TypeVar("T", bound=Message)
ANSWERS: dict[str, type[Message]] = {
    "Upsert": pb.UpsertResponse,
    "Query": pb.QueryResponse,
    "Fetch": pb.FetchResponse,
    "FetchByMetadata": pb.FetchByMetadataResponse,
    "List": pb.ListResponse,
    "Update": pb.UpdateResponse,
    "Delete": pb.DeleteResponse,
    "DescribeIndexStats": pb.DescribeIndexStatsResponse,
    "ListNamespaces": pb.ListNamespacesResponse,
    "CreateNamespace": pb.NamespaceDescription,
    "DescribeNamespace": pb.NamespaceDescription,
    "DeleteNamespace": pb.DeleteResponse,
}


@dataclass
class BothServer:
    url: str
    client: httpx.Client
    channel: Any
    records: RecordsService
    key: str | None

    def call(
        self,
        index: str | None,
        method: str,
        message: Message | bytes,
        version: str = "2026-07",
        timeout: float = 20.0,
        host: str | None = None,
    ) -> tuple[Any, dict[str, str]]:
        """The answer and its metadata. Raises grpc.RpcError. `host` is what `:authority` says."""
        sent = message if isinstance(message, bytes) else message.SerializeToString()
        metadata: list[tuple[str, str]] = [("x-pinecone-api-version", version)]
        metadata += [("service-name", index)] if index is not None else []
        metadata += [("api-key", self.key)] if self.key is not None else []
        path = f"/VectorService/{method}"
        with contextlib.ExitStack() as stack:
            channel = self.channel
            if host is not None:
                options = (("grpc.default_authority", host),)
                channel = stack.enter_context(grpc.insecure_channel(self.url.removeprefix("http://"), options))
            answer, call = channel.unary_unary(path).with_call(sent, metadata=metadata, timeout=timeout)
            found = ANSWERS[method]()
            found.ParseFromString(answer)
            return found, dict(call.initial_metadata())

    def ask(self, index: str, method: str, path: str, version: str = "2026-07", **more: Any) -> httpx.Response:
        return self.client.request(
            method, f"{self.url}/i/{index}{path}", headers={"X-Pinecone-Api-Version": version}, **more
        )


@contextlib.contextmanager
def both_server(
    folder: Path, *, keys: Sequence[str] = (), max_message: int = 128 << 20, index_hosts: str = "ports"
) -> Iterator[BothServer]:
    engine, metrics, budget = FakeEngine(), Metrics(), BodyBudget(256 << 20)
    records = records_service(folder, engine)
    plain = pinecone(records.inference)
    app = asgi(
        [replace(plain, routes=plain.routes + data_routes(records))],
        keys=keys,
        metrics=metrics,
        max_body_bytes=4 << 20,
        budget=budget,
        is_ready=lambda: True,
    )
    around = Surroundings(KeyRing(keys), metrics, max_message, budget)
    spoken = pinecone_grpc(records, index_at(Config(index_hosts=index_hosts)))
    calls = Calls(around, spoken, lambda port: None)
    largest = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    key = keys[0] if keys else None
    with (
        serving(app, engine, metrics, open_call=calls.open) as live,
        httpx.Client(headers={"Api-Key": key} if key else {}) as client,
        grpc.insecure_channel(f"127.0.0.1:{live.port}", largest) as channel,
    ):
        yield BothServer(live.url, client, channel, records, key)
