"""What the connections of one server share, whatever they speak: bounds, and who could be spared for a newcomer."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on one connection."""

    head_bytes: int = 64 * 1024  # request line and headers; also what may stand between the parts of a chunked body
    head_seconds: float = 30.0  # for all of a head, from its first byte
    body_seconds: float = 60.0  # for the next part of a body
    # Longer than the 5 s to 60 s for which clients keep an idle connection, so that it is they who close it.
    idle_seconds: float = 75.0
    reader_seconds: float = 60.0  # with an answer of which the client takes nothing
    drain_bytes: int = 64 * 1024 * 1024  # of a body that was answered before it had arrived
    pipelined: int = 32  # requests that wait on one connection for the answer to an earlier one
    spare_seconds: float = 1.0  # an idle connection is not closed for a new one before it has been idle so long


class Idler(Protocol):
    """A connection without a request."""

    def end(self) -> None: ...


@dataclass(slots=True)
class Room:
    """What the connections of one server share: how many there may be, which of them could be spared, and what is
    spoken beside HTTP/1.1."""

    max_connections: int
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    http2: Callable[[ServerState, Room], asyncio.Protocol] | None = None
    tls: ssl.SSLContext | None = None
    # Connections without a request, and since when; the longest idle first.
    idle: dict[Idler, float] = field(default_factory=dict)

    def spare_one(self) -> bool:
        """Closes the connection that has been idle for longest. False if there is none to spare."""
        oldest = next(iter(self.idle), None)
        if oldest is None or time.monotonic() - self.idle[oldest] < self.limits.spare_seconds:
            return False
        oldest.end()
        return True

    def sweep(self, connections: set[Any]) -> None:
        """Ends what has waited for too long. To be called every second or so."""
        now = time.monotonic()
        expired = [idler for idler, since in self.idle.items() if now - since > self.limits.idle_seconds]
        for connection in expired:
            connection.end()
        for connection in list(connections):
            connection.check_wait(now)
