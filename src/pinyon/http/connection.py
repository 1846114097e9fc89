"""One client's connection: uvicorn's, with bounds on what a client can send, hold open, and leave unread.

It begins as HTTP/1.1. Where the first bytes are those of HTTP/2 or of TLS, it hands its transport over, and is done.

uvicorn bounds neither a request's head nor the time that a head, a body or the reading of an answer takes. Here every
wait has an end. The times are watched by one sweep over all connections and not by a timer each, so that a request that
arrives and is answered as it should pays almost nothing for them.
"""

from __future__ import annotations

import asyncio
import http
import logging
import secrets
import ssl
import time
from enum import Enum
from typing import Any, Literal

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pinyon.http.first_bytes import Speaks, spoken
from pinyon.http.room import Room
from pinyon.http.tls import secured

logger = logging.getLogger("pinyon.server")

# In the `state` of a request's scope: its body stopped arriving, and what came of it is not the whole.
STALLED = "pinyon_stalled"


class _Part(Enum):
    NOTHING = 0
    HEAD = 1
    BODY = 2


# What a connection waits for, and a number that changes when some of it comes.
_Wait = tuple[Literal["head", "body", "drain", "reader"], int]


class _Refused(Exception):
    """Stops the parser. It hides the reason, which is in `Connection._verdict`."""


class Connection(HttpToolsProtocol):
    """The protocol of one connection. NOTE: written against uvicorn 0.54, whose attributes it uses."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        room: Room,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._room = room
        self._limits = room.limits
        self._first: bytes | None = b""  # what came before it was clear what is spoken; None: it is
        self._securing: asyncio.Task[None] | None = None
        self._part = _Part.NOTHING
        self._running: RequestResponseCycle | None = None  # `cycle` is the latest request, this the one being answered
        self._unseen = 0  # bytes since the last head or part of a body: what the parser holds, or throws away
        self._progress = 0  # heads begun and parts of bodies
        self._drained = 0
        self._deaf = False  # nothing that still comes will be answered
        self._lingering = False  # our side is closed
        self._verdict = 400
        self._wait: _Wait | None = None
        self._wait_since = 0.0

    # --- what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._room.max_connections and not self._room.spare_one():
            self._answer(503)
            self.end()
            return
        self._room.idle[self] = time.monotonic()

    def _hand_over(self, protocol: asyncio.Protocol, data: bytes) -> None:
        """To what answers on this connection from now on, and has these first bytes still to read."""
        self._deaf = True
        self._room.idle.pop(self, None)
        self.connections.discard(self)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(data)

    async def _secure(self, context: ssl.SSLContext, first: bytes) -> None:
        """Goes on inside TLS, as a new connection. Until then this one stands for it where connections are counted."""
        try:
            transport, data = await secured(self.transport, context, first, self._limits.head_seconds)
        except OSError:
            return  # the client's mistake: it does not trust us, or speaks something else
        finally:
            self.connections.discard(self)
        inner = Connection(self.config, self.server_state, self.app_state, self.loop, room=self._room)
        transport.set_protocol(inner)
        inner.connection_made(transport)
        if data and not transport.is_closing():
            inner.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.idle.pop(self, None)
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._drain(len(data))
            return
        if self._first is not None:
            first = self._first + data
            if (speaks := spoken(first)) is None:
                self._first = first
                # As the beginning of a head, for which the client has so long as for one.
                self._room.idle.pop(self, None)
                self._part = _Part.HEAD
                return
            self._first, self._part = None, _Part.NOTHING
            if speaks is Speaks.HTTP2 and self._room.http2 is not None:
                self._hand_over(self._room.http2(self.server_state, self._room), first)
                return
            if speaks is Speaks.TLS and self._room.tls is not None and self.scheme == "http":
                self._deaf = True
                self._room.idle.pop(self, None)
                self.transport.pause_reading()  # what follows is the handshake's
                self._securing = self.loop.create_task(self._secure(self._room.tls, first))
                return
            data = first
        self._unseen += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._verdict)
            return
        if self._unseen > self._limits.head_bytes:
            self._refuse(431 if self._part is _Part.HEAD else 400)

    # --- what the parser calls

    def on_message_begin(self) -> None:
        self._room.idle.pop(self, None)
        if len(self.pipeline) >= self._limits.pipelined:
            raise _Refused
        self._part = _Part.HEAD
        self._progress += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # see _decline
        # `_unseen` may count some of the body, or of a request before: the exact sum is only taken where it matters.
        if self._unseen > self._limits.head_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._limits.head_bytes:
                self._verdict = 431
                raise _Refused
        super().on_headers_complete()
        self._part = _Part.BODY
        self._unseen = 0
        self.cycle.transport = _Answer(self, self.cycle)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._unseen = 0
        self._progress += 1
        if self.cycle.response_complete:
            self._drain(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._part = _Part.NOTHING
        self._unseen = 0
        super().on_message_complete()
        if self.cycle.response_complete and not self._deaf:
            self._room.idle[self] = time.monotonic()

    def _decline(self, rest: bytes) -> None:
        """Reads a request on that offers to go over to another protocol, as if it did not.

        Some clients offer HTTP/2 with each first request (Java's does). The parser stops after such a head, and takes
        no body; so a new one is given the head without the offer, and `rest`, which followed it.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400)
            return
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"upgrade")]
        head = b"".join(b"%s: %s\r\n" % header for header in kept)
        line = b"%s %s HTTP/%s\r\n" % (method, self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self._unseen = 0
        self.data_received(b"%s%s\r\n%s" % (line, head, rest))

    # --- what uvicorn's request cycle calls

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """As uvicorn's, without its keep-alive timer: the sweep is ours."""
        self.server_state.total_requests += 1
        if (answered := self._running) is not None:
            answered.transport.flush()  # type: ignore[attr-defined]
        if self.transport.is_closing() or self._lingering:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._part is _Part.NOTHING and not self._deaf:
            self._room.idle[self] = time.monotonic()

    def shutdown(self) -> None:
        """Called once, when the server stops: an idle connection ends now, another one after its last answer."""
        if self._securing is not None:
            self.transport.abort()
        elif self._lingering:
            self.end()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400)

    # --- ends

    def end(self) -> None:
        """Closes the connection once what was written to it has gone out."""
        self._room.idle.pop(self, None)
        self._deaf = True
        self.transport.close()

    def linger(self) -> None:
        """Closes our side, and waits for the client to close its own.

        To close both while the client still sends would make the kernel send a reset, which can take the answer away
        from a client that has not read it yet.
        """
        if self._part is _Part.NOTHING:
            self.end()
            return
        self._deaf = self._lingering = True
        self.pipeline.clear()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def check_wait(self, now: float) -> None:
        """Ends the connection, or its request, if what it waits for has not come in time. `now` is monotonic."""
        wait = self._waits_for()
        if wait is None or wait != self._wait:
            self._wait, self._wait_since = wait, now
            return
        waited = now - self._wait_since
        match wait[0]:
            case "reader" if waited > self._limits.reader_seconds:
                self.transport.abort()
            case "drain" if waited > self._limits.body_seconds:
                self.transport.abort()
            case "head" if waited > self._limits.head_seconds:
                self._refuse(408)
            case "body" if waited > self._limits.body_seconds:
                # The request is being answered: whoever reads its body is woken and says what is wrong.
                self._deaf = True
                self.cycle.scope["state"][STALLED] = True
                self.cycle.more_body = False
                self.cycle.message_event.set()

    def _waits_for(self) -> _Wait | None:
        if unread := self.transport.get_write_buffer_size():
            return "reader", unread
        if self._deaf:
            return ("drain", 0) if self._lingering else None
        if self._part is _Part.HEAD:
            return "head", self._progress
        if self._part is _Part.BODY and not self.flow.read_paused:
            # What is left of a body that was answered has one deadline, and not one for each part of it.
            return ("drain", 0) if self.cycle.response_complete else ("body", self._progress)
        return None

    def _drain(self, size: int) -> None:
        self._drained += size
        if self._drained > self._limits.drain_bytes:
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answers what no handler will see, and closes. Requests before it that are whole are answered first."""
        self._deaf = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._part is not _Part.BODY:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or cycle is not self._running:
                self.end()
                return
        self._answer(status)
        self._part = _Part.HEAD  # more of it may come
        self.linger()

    def _answer(self, status: int) -> None:
        phrase = http.HTTPStatus(status).phrase
        request_id = secrets.token_hex(12)
        lines = [f"HTTP/1.1 {status} {phrase}".encode()]
        lines += [name + b": " + value for name, value in self.server_state.default_headers]
        lines += [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(phrase)]
        lines += [b"retry-after: 1"] if status in (429, 503) else []
        lines += [b"connection: close", b"x-request-id: " + request_id.encode(), b"", phrase.encode()]
        self.transport.write(b"\r\n".join(lines))
        logger.warning("refused", extra={"request_id": request_id, "status": status, "reason": phrase})


class _Answer:
    """The transport that one request is answered on. Head and body go out in one write: each is a system call, which
    costs as much as a small request's handler. Closing it, after the last request of a connection, lingers."""

    __slots__ = ("_connection", "_cycle", "_head", "_transport")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self._transport = connection.transport
        self._head: bytes | None = None  # None before it is written; empty once it went out

    def write(self, data: bytes) -> None:
        if self._head is None and self._cycle.response_started:
            self._head = data
            return
        # before the head: "100 Continue", which is waited for
        self._transport.write(self._head + data if self._head else data)
        if self._head:
            self._head = b""

    def flush(self) -> None:
        """For an answer without a body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.flush()
        self._connection.linger()
