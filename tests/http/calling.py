"""A live server that answers calls over gRPC, with handlers of a test's own, and a client of h2's to speak to it.

h2 is another's HTTP/2: what it takes for a breach of the protocol is one. Bytes that it would not send go past it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from pinyon.app import asgi, dialects
from pinyon.errors import InvalidRequest, PinyonError
from pinyon.http.auth import KeyRing
from pinyon.http.endpoint import Surroundings
from pinyon.http.grpc import Calls
from pinyon.http.limits import BodyBudget
from pinyon.http.metrics import Metrics
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue
from tests.http.serving import Live, Wire, serving

Handle = Callable[[Mapping[str, str], str | None, bytes], Awaitable[tuple[bytes, Mapping[str, str]]]]


@dataclass
class Gate:
    """A handler that goes on when it is opened. It counts who came, and who was sent away."""

    entered: int = 0
    cancelled: int = 0
    _open: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def __call__(
        self, said: Mapping[str, str], root: str | None, message: bytes
    ) -> tuple[bytes, Mapping[str, str]]:
        if self._open is None:
            self._open, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.entered += 1
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return message, {}

    def open(self) -> None:
        assert self._open is not None and self._loop is not None
        self._loop.call_soon_threadsafe(self._open.set)


async def _echo(said: Mapping[str, str], root: str | None, message: bytes) -> tuple[bytes, Mapping[str, str]]:
    return message, {"x-size": str(len(message))}


async def _large(said: Mapping[str, str], root: str | None, message: bytes) -> tuple[bytes, Mapping[str, str]]:
    return b"x" * int(message), {}


async def _wrong(said: Mapping[str, str], root: str | None, message: bytes) -> tuple[bytes, Mapping[str, str]]:
    raise InvalidRequest('100% "wrong":\nä', ("a",))


async def _bug(said: Mapping[str, str], root: str | None, message: bytes) -> tuple[bytes, Mapping[str, str]]:
    raise ValueError(f"secret {message!r}")


@dataclass(frozen=True)
class ToyVendor:
    gate: Gate
    name: str = "toy"
    request_id_headers: tuple[str, ...] = ("x-toy-id",)

    @property
    def methods(self) -> Mapping[str, tuple[str, Handle]]:
        return {
            "/Toy/Echo": ("echo", _echo),
            "/Toy/Large": ("large", _large),
            "/Toy/Gate": ("gate", self.gate),
            "/Toy/Wrong": ("wrong", _wrong),
            "/Toy/Bug": ("bug", _bug),
        }

    def read_key(self, said: Mapping[str, str]) -> str | None:
        return said.get("api-key")

    def error(self, error: PinyonError) -> tuple[int, int, str, Mapping[str, str]]:
        return 9, 418, f"{type(error).__name__}: {error.reason}", {"x-more": "1"}


@dataclass
class Calling:
    """The server, its gate, and the bytes of messages that it may still hold."""

    live: Live
    gate: Gate
    budget: BodyBudget

    def client(self, **settings: int) -> Http2Wire:
        return Http2Wire(self.live.connect(), settings)


@contextlib.contextmanager
def calling(folder: Path, *, keys: tuple[str, ...] = (), max_message: int = 1 << 22, held: int = 1 << 24,
            **more: Any) -> Iterator[Calling]:  # fmt: skip
    """`more` is Server's: limits, max_connections, tls."""
    engine, metrics, gate, budget = FakeEngine(), Metrics(), Gate(), BodyBudget(held)
    app = asgi(
        dialects(InferenceService(fake_catalogue(folder), engine)),
        keys=keys,
        metrics=metrics,
        max_body_bytes=1 << 20,
        budget=budget,
        is_ready=lambda: True,
    )
    calls = Calls(Surroundings(KeyRing(keys), metrics, max_message, budget), ToyVendor(gate), lambda port: None)
    with serving(app, engine, metrics, open_call=calls.open, **more) as live:
        yield Calling(live, gate, budget)


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@dataclass
class Outcome:
    """How a stream ended. `reset` is an error code of HTTP/2."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    is_over: bool = False

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    @property
    def message(self) -> bytes:
        assert self.body[:5] == framed(self.body[5:])[:5]
        return self.body[5:]


class Http2Wire:
    """A client on one connection."""

    def __init__(self, wire: Wire, settings: Mapping[str, int]) -> None:
        self.wire = wire
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.outcomes: dict[int, Outcome] = {}
        self.farewell: ConnectionTerminated | None = None
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings({getattr(_Codes, name): value for name, value in settings.items()})
        self.flush()

    def flush(self) -> None:
        self.wire.send(self.h2.data_to_send())

    def begin(self, path: str = "/Toy/Echo", *more: tuple[str, str], **instead: str) -> int:
        """Sends the headers of a call. Gives its stream."""
        id = self.h2.get_next_available_stream_id()
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "here",
                   "content-type": "application/grpc", "te": "trailers"} | instead  # fmt: skip
        self.outcomes[id] = Outcome()
        self.h2.send_headers(id, [*headers.items(), *more])
        self.flush()
        return id

    def send(self, id: int, data: bytes, *, end: bool = True) -> None:
        """As the server lets it."""
        while True:
            size = min(self.h2.local_flow_control_window(id), self.h2.max_outbound_frame_size, len(data))
            self.h2.send_data(id, data[:size], end_stream=end and size == len(data))
            self.flush()
            data = data[size:]
            if not data:
                return
            while not self.h2.local_flow_control_window(id):
                self.read()

    def start(self, path: str = "/Toy/Echo", message: bytes = b"hello", *more: tuple[str, str]) -> int:
        id = self.begin(path, *more)
        self.send(id, framed(message))
        return id

    def call(self, path: str = "/Toy/Echo", message: bytes = b"hello", *more: tuple[str, str]) -> Outcome:
        return self.outcome(self.start(path, message, *more))

    def outcome(self, id: int) -> Outcome:
        """Once the stream has ended."""
        while not self.outcomes[id].is_over:
            self.read()
        return self.outcomes[id]

    def read(self) -> None:
        data = self.wire.socket.recv(1 << 20)
        assert data, "the connection ended"
        for event in self.h2.receive_data(data):
            self._take(event)
        self.wire.send_all_it_takes(self.h2.data_to_send())

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.farewell = event
            return
        outcome = self.outcomes.get(getattr(event, "stream_id", 0) or 0)
        if outcome is None:
            return
        if isinstance(event, ResponseReceived | TrailersReceived):
            outcome.headers |= dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            outcome.body += event.data or b""
            assert event.stream_id is not None
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, StreamEnded):
            outcome.is_over = True
        elif isinstance(event, StreamReset):
            outcome.is_over = True
            outcome.reset = int(event.error_code or 0)

    def until_farewell(self) -> int:
        """The error code that the server ends the connection with, once it has."""
        with contextlib.suppress(AssertionError, ConnectionResetError):
            while True:
                self.read()
        assert self.farewell is not None
        return int(self.farewell.error_code or 0)


class _Codes:
    from h2.settings import SettingCodes

    window = SettingCodes.INITIAL_WINDOW_SIZE
    frame = SettingCodes.MAX_FRAME_SIZE
