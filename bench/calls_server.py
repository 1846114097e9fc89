"""`pinyon serve`, with a listener beside it that speaks HTTP/1.1 alone, and one that speaks HTTP/2 alone.

python -m bench.calls_server FOLDER     prints the three ports
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from typing import Any

import uvloop

from pinyon.app import build
from pinyon.config import Config
from pinyon.http.connection import Connection
from pinyon.http.server import Server, listen


class _Known(Connection):
    """It does not look what is spoken."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._first = None


class _Beside(Server):
    def __init__(self, *arguments: Any, direct: tuple[socket.socket, socket.socket], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._direct = direct

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        known = functools.partial(_Known, self.config, self.server_state, self.lifespan.state, room=self._room)
        assert self._room.http2 is not None
        http2 = functools.partial(self._room.http2, self.server_state, self._room)
        self.servers.append(await loop.create_server(known, sock=self._direct[0]))
        self.servers.append(await loop.create_server(http2, sock=self._direct[1]))
        assert sockets is not None
        print(*(each.getsockname()[1] for each in (*sockets, *self._direct)), flush=True)


async def main(folder: str) -> None:
    listener, *direct = (listen("127.0.0.1", 0) for _ in range(3))
    app = await build(Config(data_dir=folder, index_hosts="path", preload=()), listener.getsockname()[1])
    server = _Beside(
        app, max_connections=100, shutdown_seconds=5, ports=app, open_call=app.open_call, direct=(direct[0], direct[1])
    )
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    sys.setswitchinterval(0.001)
    uvloop.run(main(sys.argv[1]))
