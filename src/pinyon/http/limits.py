"""Reading a request's body without reading more than the limit."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from pinyon.errors import InvalidRequest, PayloadTooLarge
from pinyon.http.connection import STALLED


class BodyStalled(Exception):
    """The client stopped sending in the middle of its request's body."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises PayloadTooLarge as soon as it is known to be over `limit` bytes, ClientDisconnect,
    BodyStalled, and InvalidRequest for a compressed body: what it grows to is not known before it has grown."""
    headers = request.headers
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequest("The request body must not be compressed (Content-Encoding)")
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise PayloadTooLarge(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise PayloadTooLarge(limit)
        if not message.get("more_body", False):
            if STALLED in request.scope.get("state", ()):
                raise BodyStalled
            return part if not parts else b"".join((*parts, part))
        parts.append(part)
