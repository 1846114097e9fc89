"""gRPC beside REST on one index, and what telling them apart by a connection's first bytes costs.

Both clients are raw sockets with ready bytes, one request at a time, so that what is measured is the server. `direct`
is a listener of the same process that knows what will be spoken, and does not look. Queries are over few records, so
that the search does not hide the wire.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from bench import load
from bench.client import post
from bench.figures import Aim, Figures
from bench.store_data import Floats
from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb
from pinyon.http.frames import PREFACE, Headers, headers_frame

DIMENSION = 384
BATCH = 200
NAME = "bench"
FEW = "few"  # the namespace of BATCH records that are asked for
_TOP_K = 10
_TURNS = 4  # that each way of asking has in a round, one after the other


class Rest:
    """One connection of HTTP/1.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._url = f"http://127.0.0.1:{port}"

    def upsert(self, ids: Sequence[str], vectors: Floats, namespace: str) -> bytes:
        rows = [{"id": id, "values": row} for id, row in zip(ids, vectors, strict=True)]
        return self._post("/vectors/upsert", {"vectors": rows, "namespace": namespace})

    def query(self, vector: Floats) -> bytes:
        return self._post("/query", {"vector": vector, "topK": _TOP_K, "namespace": FEW})

    def _post(self, path: str, body: object) -> bytes:
        return post(self._url, f"/i/{NAME}{path}", orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))

    def ask(self, request: bytes) -> None:
        self._socket.sendall(request)
        data = self._socket.recv(1 << 20)
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 20)
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(data[:500])
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(1 << 20)

    def close(self) -> None:
        self._socket.close()


class Grpc:
    """One connection of HTTP/2."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        window = b"\0\0\x04\x08\0\0\0\0\0" + (2**31 - 1 - 65_535).to_bytes(4, "big")
        self._socket.sendall(PREFACE + b"\0\0\0\x04\0\0\0\0\0" + window)
        self._stream = -1
        self._data = b""

    def upsert(self, ids: Sequence[str], vectors: Floats, namespace: str) -> bytes:
        rows = [pb.Vector(id=id, values=row.tobytes()) for id, row in zip(ids, vectors, strict=True)]
        return self._call("Upsert", pb.UpsertRequest(vectors=rows, namespace=namespace).SerializeToString())

    def query(self, vector: Floats) -> bytes:
        call = pb.QueryRequest(vector=vector.tobytes(), top_k=_TOP_K, namespace=FEW)
        return self._call("Query", call.SerializeToString())

    def _call(self, method: str, message: bytes) -> bytes:
        """With 0 for its stream."""
        headers: Headers = [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", f"/VectorService/{method}".encode()),
            (b":authority", b"bench"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
            (b"service-name", NAME.encode()), (b"x-pinecone-api-version", b"2026-07"),
        ]  # fmt: skip
        data = b"\0" + len(message).to_bytes(4, "big") + message
        frames = [headers_frame(0, headers, is_last=False)]
        for at in range(0, len(data), 1 << 16):
            part = data[at : at + (1 << 16)]
            is_last = at + len(part) == len(data)
            frames.append(len(part).to_bytes(3, "big") + b"\0" + bytes([is_last]) + b"\0\0\0\0" + part)
        return b"".join(frames)

    def ask(self, request: bytes) -> None:
        self._stream += 2
        numbered, at = bytearray(request), 0
        while at < len(numbered):
            numbered[at + 5 : at + 9] = self._stream.to_bytes(4, "big")
            at += 9 + int.from_bytes(numbered[at : at + 3], "big")
        self._socket.sendall(numbered)
        while True:
            while len(self._data) < 9 or len(self._data) < 9 + int.from_bytes(self._data[:3], "big"):
                self._data += self._socket.recv(1 << 20)
            size, kind, flags = 9 + int.from_bytes(self._data[:3], "big"), self._data[3], self._data[4]
            frame, self._data = self._data[:size], self._data[size:]
            if kind == 1 and flags & 1:
                if b"grpc-status\x010" not in frame:
                    raise RuntimeError(frame)
                return

    def close(self) -> None:
        self._socket.close()


Client = Rest | Grpc


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[tuple[int, int, int]]:
    """The ports of a server that tells protocols apart, and of its listeners that speak REST and gRPC alone."""
    command = [sys.executable, "-m", "bench.calls_server", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=load.ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        main, rest, grpc = map(int, line.split())
        yield main, rest, grpc
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def _create(port: int) -> None:
    body = orjson.dumps(
        {"name": NAME, "dimension": DIMENSION, "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}}}
    )
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/indexes", body, {"content-type": "application/json", "api-key": "any"}
    )
    with urllib.request.urlopen(request, timeout=60):
        pass


def _timed(client: Client, requests: Sequence[bytes]) -> list[float]:
    """Seconds of each."""
    taken = []
    for request in requests:
        started = time.perf_counter()
        client.ask(request)
        taken.append(time.perf_counter() - started)
    return taken


def measure(vectors: int, rounds: int, figures: Figures) -> list[Aim]:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((vectors // BATCH * BATCH, DIMENSION), dtype=np.float32)
    asked = rng.standard_normal((1000, DIMENSION), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder)) as (main, rest_port, grpc_port):
        _create(main)
        makers: dict[str, Callable[[], Client]] = {
            "REST": lambda: Rest(main),
            "gRPC": lambda: Grpc(main),
            "REST direct": lambda: Rest(rest_port),
            "gRPC direct": lambda: Grpc(grpc_port),
        }
        with contextlib.ExitStack() as stack:
            clients = {name: stack.enter_context(contextlib.closing(make())) for name, make in makers.items()}
            clients["REST"].ask(clients["REST"].upsert([f"{n}" for n in range(BATCH)], data[:BATCH], FEW))
            for turn in range(rounds):
                figures.heading(f"round {turn + 1}")
                _upserts(clients, data, figures)
                _queries(clients, asked, figures)
    return [
        Aim(f"upserts of {BATCH} x {DIMENSION}: gRPC against REST", figures.ratio("gRPC upsert, records/s",
            "REST upsert, records/s"), 1.5),
        Aim("REST query p50: the listener's part, %",
            100 * (figures.ratio("REST query p50, us", "REST direct query p50, us") - 1), 5, at_most=True),
        Aim("gRPC query p50: the listener's part, us",
            figures.value("gRPC query p50, us") - figures.value("gRPC direct query p50, us"), 30, at_most=True),
    ]  # fmt: skip


def _upserts(clients: dict[str, Client], data: Floats, figures: Figures) -> None:
    """Each writes its own records, a tenth of them at a time, so that the index grows for both alike. In the first
    round they are new, and then the same again."""
    part = max(BATCH, len(data) // 10 // BATCH * BATCH)
    taken = {"REST": 0.0, "gRPC": 0.0}
    for start in range(0, len(data), part):
        for name in taken:
            rows = range(start, min(start + part, len(data)), BATCH)
            requests = [
                clients[name].upsert([f"{at + n}" for n in range(BATCH)], data[at : at + BATCH], name) for at in rows
            ]
            taken[name] += sum(_timed(clients[name], requests))
    for name, seconds in taken.items():
        figures.add(f"{name} upsert, records/s", len(data) / seconds)


def _queries(clients: dict[str, Client], asked: Floats, figures: Figures) -> None:
    taken: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(_TURNS):
        for name, client in clients.items():
            requests = [client.query(vector) for vector in asked[: len(asked) // 2]]
            _timed(client, requests[:50])
            taken[name] += _timed(client, requests)
    for name, seconds in taken.items():
        figures.add(f"{name} query p50, us", load.quantile(sorted(seconds), 0.5) * 1e6)
        figures.add(f"{name} query, /s", len(seconds) / sum(seconds))
