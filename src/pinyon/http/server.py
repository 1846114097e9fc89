"""Listening, and stopping: uvicorn with our own signals, so that SIGTERM is an orderly end with exit status 0."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

logger = logging.getLogger("pinyon.server")


def is_loopback(host: str) -> bool:
    """Whether an address or name is only reached from this machine. A name counts only if it is `localhost`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Port 0 takes any free one. Raises OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn ends a process by the signal it got, which a supervisor reads as a crash. Here a signal asks it to stop;
    a second one stops waiting for requests in flight."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM)
        for number in handled:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        logger.info(
            "stopping", extra={"signal": signal.Signals(number).name, "in_flight": len(self.server_state.tasks)}
        )
        self.handle_exit(number, None)


async def serve(app: ASGIApp, listeners: list[socket.socket], *, max_connections: int, shutdown_seconds: int) -> None:
    """Answers on the listeners until SIGINT or SIGTERM, then finishes what is in flight and returns."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=shutdown_seconds,
        h11_max_incomplete_event_size=64 * 1024,
    )
    await _Server(config).serve(sockets=listeners)
