"""A live server on a free port, as `pinyon.http.server` serves it, and a socket to speak to it byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from pinyon.catalog import ModelSpec
from pinyon.http.metrics import Metrics
from pinyon.http.room import ConnectionLimits
from pinyon.http.server import Server, listen
from pinyon.testing import FakeEngine
from pinyon.types import EmbedRequest, EmbedResult

DEADLINE = 20.0  # seconds, for what should take milliseconds


def eventually(condition: Callable[[], bool], what: str = "") -> None:
    """Waits until `condition` holds. Fails after the deadline."""
    until = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, f"did not come about in {DEADLINE} s: {what or condition}"
        pause.wait(0.005)


class GatedEngine(FakeEngine):
    """An engine that embeds only when its gate is open; `entered` and `cancelled` count requests."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = 0
        self.cancelled = 0
        self._gate: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        if self._gate is None:
            self._gate, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.entered += 1
        try:
            await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().embed(spec, request)

    def open(self) -> None:
        assert self._loop is not None
        assert self._gate is not None
        self._loop.call_soon_threadsafe(self._gate.set)


class ThreadedServer(Server):
    """The real server without its signals, which only a main thread can have."""

    def __init__(self, app: ASGIApp, *, max_connections: int, limits: ConnectionLimits | None, **more: Any) -> None:
        super().__init__(app, max_connections=max_connections, shutdown_seconds=20, limits=limits, **more)
        self.up = threading.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self.up.set()
        await super().main_loop()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A client's socket. What arrives past one answer is kept for the next."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_all_it_takes(self, data: bytes) -> None:
        """Sends as much as the server lets us."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer. Fails if the connection ends in the middle of it."""
        while b"\r\n\r\n" not in self._held:
            self._receive()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", lines[0])
        assert match is not None, lines[0]
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} twice"
            headers[name] = value
        length = 0 if to_head else int(headers["content-length"])
        while len(self._held) < length:
            self._receive()
        body, self._held = self._held[:length], self._held[length:]
        return Answer(int(match[1]), headers, body)

    def is_ended(self) -> bool:
        """Waits for the server to end the connection. False if it says something first."""
        assert not self._held, self._held
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()

    def _receive(self) -> None:
        part = self.socket.recv(65536)
        assert part, f"the connection ended, after {self._held!r}"
        self._held += part


@dataclass
class Live:
    """A running server. `connect` opens a socket, which the fixture closes."""

    port: int
    server: ThreadedServer
    engine: FakeEngine
    metrics: Metrics
    stack: contextlib.ExitStack

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> Wire:
        wire = Wire(self.port)
        self.stack.callback(wire.close)
        return wire

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


@contextlib.contextmanager
def serving(
    app: ASGIApp,
    engine: FakeEngine,
    metrics: Metrics,
    *,
    max_connections: int = 100,
    limits: ConnectionLimits | None = None,
    **more: Any,
) -> Iterator[Live]:
    """Serves `app` from a thread. `more` is Server's."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = ThreadedServer(app, max_connections=max_connections, limits=limits, **more)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    with contextlib.ExitStack() as stack:
        try:
            assert server.up.wait(DEADLINE), "the server did not start"
            yield Live(port, server, engine, metrics, stack)
        finally:
            stack.close()
            server.should_exit = True
            thread.join(DEADLINE)
            assert not thread.is_alive(), "the server did not stop"


def request(
    method: str = "POST", path: str = "/v1/embeddings", body: bytes = b"", *headers: str, length: int | None = None
) -> bytes:
    """The bytes of a request. `length` is what it says of its body, where that is not the truth."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join((*lines, "", "")).encode() + body


def chunked(path: str, *parts: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


EMBED_BODY = b'{"model": "all-minilm-l6-v2", "input": "three short words"}'
EMBED = request(body=EMBED_BODY)
