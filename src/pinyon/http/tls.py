"""TLS on the port where plain text is spoken too: certificates, and the handshake of a connection that has begun."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

# NOTE: clients that can speak HTTP/1.1 get it, and HTTP/2 goes to those that know nothing else, which are gRPC's:
# REST's clients often offer both, and here HTTP/2 is for gRPC alone. OpenSSL takes the first that the client has too.
PROTOCOLS = ("http/1.1", "h2")


def context(certificate: str, key: str) -> ssl.SSLContext:
    """Of a server with this certificate, its chain included, and its key: PEM files. Raises OSError, which ssl.SSLError
    is too."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(PROTOCOLS)
    made.load_cert_chain(certificate, key)
    return made


async def secured(
    transport: asyncio.Transport, context: ssl.SSLContext, first: bytes, seconds: float
) -> tuple[asyncio.Transport, bytes]:
    """The transport inside a handshake, and what came through it already. `first` is what the client sent before.

    Raises OSError when the handshake fails or takes longer, and closes `transport`.
    """
    loop = asyncio.get_running_loop()
    early = _Early()
    handshake = loop.create_task(
        loop.start_tls(transport, early, context, server_side=True, ssl_handshake_timeout=seconds)
    )
    # By the first turn the loop has put its own protocol there, and by the second it has told it of the transport, as
    # it was asked to within the first. Nothing more is read from the client before the loop's next look at sockets.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    inner = cast(asyncio.BufferedProtocol | None, transport.get_protocol())
    while first and inner is not None and not handshake.done():
        room = memoryview(inner.get_buffer(len(first)))
        size = min(len(room), len(first))
        room[:size] = first[:size]
        inner.buffer_updated(size)
        first = first[size:]
    made = await handshake
    # uvloop gives a transport even where the connection was lost in the middle.
    if made is None or early.is_lost or transport.is_closing():
        raise ConnectionResetError
    return made, bytes(early.data)


class _Early(asyncio.Protocol):
    """Keeps what comes with the handshake's last message."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
