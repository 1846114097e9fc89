"""Ports that stand for a path: opened and closed while the server runs, by a real server on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pinyon.http.ports import Ports
from pinyon.http.server import Server, listen


def app() -> Starlette:
    async def show(request: Request) -> Response:
        return PlainTextResponse(f"{request.path_params['rest']} {request.scope['raw_path'].decode()}")

    return Starlette(routes=[Route("/{rest:path}", show, methods=["GET", "POST"])])


def free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


class _Server(Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # only a main thread can have signals
        yield


@contextlib.asynccontextmanager
async def serving(ports: Ports) -> AsyncIterator[str]:
    listener = listen("127.0.0.1", 0)
    server = _Server(ports, max_connections=100, shutdown_seconds=5, ports=ports)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                await client.get(url)
                break
    try:
        yield url
    finally:
        server.should_exit = True
        await task


async def text(url: str) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).text


def test_a_port_answers_as_its_path_from_when_it_is_opened_until_it_is_closed() -> None:
    async def check() -> None:
        ports = Ports(lambda port: listen("127.0.0.1", port), app())
        early, late = free_port(), free_port()
        await ports.open(early, "/i/early")
        async with serving(ports) as url:
            assert await text(f"{url}/query") == "query /query"
            assert await text(f"http://127.0.0.1:{early}/a%20b?x=1") == "i/early/a b /i/early/a%20b"
            await ports.open(late, "/i/late")
            assert await text(f"http://127.0.0.1:{late}/query") == "i/late/query /i/late/query"
            ports.close(late)
            with pytest.raises(httpx.ConnectError):
                await text(f"http://127.0.0.1:{late}/query")
            assert await text(f"http://127.0.0.1:{early}/x") == "i/early/x /i/early/x"
            # A port may be opened again, for another path.
            await ports.open(late, "/i/other")
            assert await text(f"http://127.0.0.1:{late}/x") == "i/other/x /i/other/x"
        with pytest.raises(httpx.ConnectError):
            await text(f"http://127.0.0.1:{early}/x")

    asyncio.run(check())


def test_a_port_that_is_taken_raises_and_is_not_kept() -> None:
    async def check() -> None:
        ports = Ports(lambda port: listen("127.0.0.1", port), app())
        async with serving(ports) as url:
            with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as holder:
                taken = holder.getsockname()[1]
                with pytest.raises(OSError):
                    await ports.open(taken, "/i/taken")
            assert await text(f"{url}/x") == "x /x"
            await ports.open(taken, "/i/free-now")
            assert await text(f"http://127.0.0.1:{taken}/x") == "i/free-now/x /i/free-now/x"

    asyncio.run(check())


def test_many_ports_at_once() -> None:
    async def check() -> None:
        ports = Ports(lambda port: listen("127.0.0.1", port), app())
        async with serving(ports):
            numbers = [free_port() for _ in range(20)]
            await asyncio.gather(*(ports.open(port, f"/i/{port}") for port in numbers))
            answers = await asyncio.gather(*(text(f"http://127.0.0.1:{port}/q") for port in numbers))
            assert answers == [f"i/{port}/q /i/{port}/q" for port in numbers]

    asyncio.run(check())
