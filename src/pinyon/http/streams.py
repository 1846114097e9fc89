"""A request over HTTP/2 between the connection that it came on, and the call that it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from pinyon.http.frames import Headers


class Answering(Protocol):
    """What a stream needs of its connection."""

    port: int
    tasks: set[asyncio.Task[None]]

    def answer(self, stream: Stream, headers: Headers, body: bytes, trailers: Headers | None) -> None: ...


class Call(Protocol):
    """What becomes of one stream. All of it is called from the event loop, and none of it raises."""

    def data(self, part: bytes) -> None: ...
    def end(self) -> None:
        """The request is whole."""

    def stalled(self) -> None:
        """No part came for too long. It must be answered."""

    def cancel(self) -> None:
        """The client took it back, or is gone. It must not be answered any more."""


class Stream:
    """One request's stream, as its call sees it."""

    __slots__ = ("_connection", "call", "id", "is_whole", "rest", "send_window", "touched", "trailers", "unsaid")

    def __init__(self, connection: Answering, id: int, send_window: int) -> None:
        self._connection = connection
        self.id = id
        self.call: Call | None = None  # None before it is opened, and once it was answered
        self.is_whole = False
        self.touched = time.monotonic()
        self.unsaid = 0  # bytes that came, and that the client was not told of
        self.send_window = send_window
        self.rest = memoryview(b"")  # of the answer's body
        self.trailers: Headers = []

    @property
    def port(self) -> int:
        """Where the client connected to."""
        return self._connection.port

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """What the server waits for before it stops."""
        return self._connection.tasks

    def answer(self, headers: Headers, body: bytes = b"", trailers: Headers | None = None) -> None:
        """The whole answer, once. Without trailers the headers are all of it."""
        self._connection.answer(self, headers, body, trailers)


# Makes what becomes of a stream, by its headers; None if it has answered it.
OpenCall = Callable[[Stream, Headers], Call | None]
