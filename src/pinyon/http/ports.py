"""More ports that lead into the same application: each is the same as a path of it.

Vendors' clients want a host of its own for each of their things, and cannot be told a path. A port that is opened here
answers as the path that it stands for: a request for `/query` on the port of `/i/movies` is one for `/i/movies/query`.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

# Opens a socket to clients; gives what closes it to new ones.
Accept = Callable[[socket.socket], Awaitable[Callable[[], None]]]


class Ports:
    """An ASGI application around another one, and the ports that stand for paths of it. Used from one event loop."""

    def __init__(self, app: ASGIApp, listen: Callable[[int], socket.socket]) -> None:
        """`listen` gives a listening socket for a port. Raises OSError."""
        self._app = app
        self._listen = listen
        self._accept: Accept | None = None
        self._paths: dict[int, str] = {}
        self._closers: dict[int, Callable[[], None]] = {}

    async def start(self, accept: Accept) -> None:
        """From now on ports answer, those that were opened before too. Raises OSError."""
        self._accept = accept
        for port in list(self._paths):
            await self._answer(port)

    async def open(self, port: int, path: str) -> None:
        """Answers on a port as `path` does; when this returns, a client can connect. Raises OSError."""
        self._paths[port] = path
        if self._accept is not None:
            await self._answer(port)

    def close(self, port: int) -> None:
        """Stops answering. Connections that are open end with their next request: it is not found."""
        self._paths.pop(port, None)
        if (closer := self._closers.pop(port, None)) is not None:
            closer()

    async def _answer(self, port: int) -> None:
        assert self._accept is not None
        if port in self._closers:
            return
        try:
            self._closers[port] = await self._accept(self._listen(port))
        except OSError:
            self._paths.pop(port, None)
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (path := self._paths.get((scope["server"] or ("", 0))[1])) is not None:
            scope["path"] = path + scope["path"]
            scope["raw_path"] = path.encode() + scope.get("raw_path", b"")
        await self._app(scope, receive, send)
