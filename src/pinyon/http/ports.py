"""More ports that lead into the same application: each is the same as a path of it.

Vendors' clients want a host of its own for each of their things, and cannot be told a path. A port that is opened here
answers as the path that it stands for: a request for `/query` on the port of `/i/movies` is one for `/i/movies/query`.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from pinyon.errors import NotFound
from pinyon.http.streams import OpenCall

# Opens a socket to clients; gives what closes it to new ones.
Accept = Callable[[socket.socket], Awaitable[Callable[[], None]]]


class Ports:
    """An ASGI application around another one, `app`, and the ports that stand for paths of it.

    Used from one event loop. `app` is set before the first request, and `open_call` before the server starts, if HTTP/2
    is spoken at these ports and the main one.
    """

    def __init__(self, listen: Callable[[int], socket.socket], app: ASGIApp | None = None) -> None:
        """`listen` gives a listening socket for a port. Raises OSError."""
        self.app = app
        self.open_call: OpenCall | None = None
        self._listen = listen
        self._accept: Accept | None = None
        self._paths: dict[int, str] = {}
        self._closed: set[int] = set()  # at which connections may still be open
        self._waiting: dict[int, socket.socket] = {}
        self._closers: dict[int, Callable[[], None]] = {}

    async def start(self, accept: Accept) -> None:
        """From now on ports answer, those that were opened before too."""
        self._accept = accept
        while self._waiting:
            port, listener = self._waiting.popitem()
            self._closers[port] = await accept(listener)

    async def open(self, port: int, path: str) -> None:
        """Takes a port, to answer on it as `path` does. Once `start` was called, it answers when this returns.

        Opening it again changes its path. Raises OSError if the port cannot be had.
        """
        if port not in self._paths:
            listener = self._listen(port)
            if self._accept is None:
                self._waiting[port] = listener
            else:
                self._closers[port] = await self._accept(listener)
        self._paths[port] = path
        self._closed.discard(port)

    def close(self, port: int) -> None:
        """Stops answering. Connections that are open end with their next request: it is not found."""
        if self._paths.pop(port, None) is not None:
            self._closed.add(port)
        if (listener := self._waiting.pop(port, None)) is not None:
            listener.close()
        if (closer := self._closers.pop(port, None)) is not None:
            closer()

    def path_of(self, port: int) -> str | None:
        """The path that a port stands for; None for one that was never opened here, such as the main one. Raises
        NotFound for one that was closed."""
        if (path := self._paths.get(port)) is None and port in self._closed:
            raise NotFound("There is nothing here any more", kind="port", name=str(port))
        return path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if scope["type"] == "http" and (path := self._paths.get((scope["server"] or ("", 0))[1])) is not None:
            scope["path"] = path + scope["path"]
            scope["raw_path"] = path.encode() + scope.get("raw_path", b"")
        await self.app(scope, receive, send)
