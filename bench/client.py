"""A small HTTP client, so that what is measured is the server: one request at a time on kept-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._missing = -1  # bytes of the body that are still to come; -1: the head is not whole
        self._waiter: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._missing < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            start = head.index(b"content-length:") + 15
            length = int(head[start:].split(b"\r\n", 1)[0])
            self._missing = end + 4 + length
        if len(self._buffer) >= self._missing:
            assert self._waiter is not None
            self._waiter.set_result(bytes(self._buffer))
            self._buffer.clear()
            self._missing = -1

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error or ConnectionError("the server closed the connection"))

    async def request(self, raw: bytes) -> bytes:
        """The whole answer, head and body. Raises RuntimeError unless it is a 200."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        answer = await self._waiter
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:500].decode("utf-8", "replace"))
        return answer

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of requests took."""

    seconds: float
    latencies: list[float]  # seconds, of each request
    last: bytes  # body of the last answer


def post(url: str, path: str, body: bytes) -> bytes:
    """A request's bytes."""
    host = urlsplit(url).netloc
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def drive(url: str, requests: Iterable[bytes], connections: int) -> Load:
    """Sends the requests over so many connections, each taking the next one as soon as it has its answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(_Connection, parts.hostname, parts.port) for _ in range(connections)]
    pending = iter(requests)
    latencies: list[float] = []
    last = b""

    async def work(connection: _Connection) -> None:
        nonlocal last
        for raw in pending:
            started = time.perf_counter()
            last = await connection.request(raw)
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(work(protocol) for _, protocol in made))
    seconds = time.perf_counter() - started
    for _, protocol in made:
        protocol.close()
    return Load(seconds, latencies, last.partition(b"\r\n\r\n")[2])


async def drive_beside(url: str, bulk: Iterable[bytes], connections: int, single: bytes) -> tuple[Load, Load]:
    """Bulk requests, and one single request after the other on a connection of its own for as long as they last."""
    background = asyncio.create_task(drive(url, bulk, connections))

    def meanwhile() -> Iterator[bytes]:
        while not background.done():
            yield single

    singles = await drive(url, meanwhile(), 1)
    return await background, singles
