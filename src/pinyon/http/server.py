"""Listening, and stopping: uvicorn with our own signals, so that SIGTERM is an orderly end with exit status 0."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pinyon.http.connection import Connection
from pinyon.http.http2 import Http2Connection
from pinyon.http.ports import Ports
from pinyon.http.room import ConnectionLimits, Room
from pinyon.http.streams import OpenCall

try:
    import resource
except ImportError:  # pragma: no cover - not on Windows
    resource = None  # type: ignore[assignment]

logger = logging.getLogger("pinyon.server")

# Files that the process has open beside its clients' connections: models, the loop, the standard streams, a margin.
OTHER_FILES = 256


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


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn ends a process by the signal it got, which a supervisor reads as a crash. Here a signal asks it to stop;
    a second one stops waiting for requests in flight."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_connections: int,
        shutdown_seconds: int,
        limits: ConnectionLimits | None = None,
        ports: Ports | None = None,
        open_call: OpenCall | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`open_call` makes what becomes of a stream of HTTP/2: without it, HTTP/1.1 alone is spoken."""
        self._ports = ports
        http2 = functools.partial(Http2Connection, open=open_call) if open_call is not None else None
        self._room = Room(max_connections, limits or ConnectionLimits(), http2, tls)
        waits = (getattr(self._room.limits, name) for name in ("head_seconds", "body_seconds", "reader_seconds"))
        # In uvicorn's ticks of 0.1 s: a second, less where a limit is short.
        self._sweep_every = max(1, min(10, int(min(*waits, self._room.limits.idle_seconds) * 10 / 4)))
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=functools.partial(Connection, room=self._room),  # type: ignore[arg-type]
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ports is not None and self.started:
            await self._ports.start(self._accept)

    async def _accept(self, listener: socket.socket) -> Callable[[], None]:
        """Answers on one more socket; gives what ends that."""

        def connection() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        server = await asyncio.get_running_loop().create_server(connection, sock=listener)
        self.servers.append(server)

        def close() -> None:
            self.servers.remove(server)
            server.close()

        return close

    async def on_tick(self, counter: int) -> bool:
        if counter % self._sweep_every == 0:
            self._room.sweep(self.server_state.connections)
        return await super().on_tick(counter)

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
            "stopping" if not self.should_exit else "stopping at once",
            extra={"signal": signal.Signals(number).name, "in_flight": len(self.server_state.tasks)},
        )
        if self.should_exit:
            self.force_exit = True
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        self.should_exit = True


async def serve(
    app: ASGIApp,
    listeners: list[socket.socket],
    *,
    max_connections: int,
    shutdown_seconds: int,
    limits: ConnectionLimits | None = None,
    ports: Ports | None = None,
    open_call: OpenCall | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Answers on the listeners, and on `ports`, until SIGINT or SIGTERM, then finishes what is in flight and returns.

    Each of them speaks HTTP/1.1, HTTP/2 where there is `open_call`, and both inside TLS too where there is `tls`.

    `shutdown_seconds` bounds the finishing. Past `max_connections`, a new connection takes the place of the one that
    has been idle for longest, or is answered 503 if none is idle.
    """
    _allow_files(max_connections + OTHER_FILES)
    asyncio.get_running_loop().set_exception_handler(_log_stray_error)
    server = Server(
        app,
        max_connections=max_connections,
        shutdown_seconds=shutdown_seconds,
        limits=limits,
        ports=ports,
        open_call=open_call,
        tls=tls,
    )
    await server.serve(sockets=listeners)


def _allow_files(number: int) -> None:
    """Raises the number of files that this process may have open, as far as the system lets it."""
    if resource is None:  # pragma: no cover
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number:
        return
    allowed = number if hard == resource.RLIM_INFINITY else min(number, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < number:
        logger.warning("few open files allowed", extra={"allowed": allowed, "wanted": number})


def _log_stray_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's own handler prints what the failed call was given, which may be a user's text."""
    logger.error("an error outside any request", exc_info=context.get("exception"))
