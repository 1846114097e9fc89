"""Reading a request's body without reading more than the limit."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from pinyon.errors import InvalidRequest, Overloaded, PayloadTooLarge
from pinyon.http.connection import STALLED


class BodyStalled(Exception):
    """The client stopped sending in the middle of its request's body."""


class BodyBudget:
    """The bytes of body that all requests of a server may hold together: right alone, many are too much at once.

    Used from one event loop.
    """

    def __init__(self, limit: int) -> None:
        self.free = limit

    def take(self, size: int) -> None:
        """Raises Overloaded if so many more are not free."""
        if size > self.free:
            raise Overloaded("Too many large requests are being answered", retry_after=1.0)
        self.free -= size

    def give_back(self, size: int) -> None:
        self.free += size


async def read_body(request: Request, limit: int, budget: BodyBudget) -> bytes:
    """The whole body; its bytes are taken from `budget`, and `request.state.held` says how many are to be given back.

    Raises PayloadTooLarge as soon as it is known to be over `limit` bytes, Overloaded, ClientDisconnect, BodyStalled,
    and InvalidRequest for a compressed body: what it grows to is not known before it has grown."""
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
        budget.take(len(part))
        request.state.held = size
        if not message.get("more_body", False):
            if STALLED in request.scope.get("state", ()):
                raise BodyStalled
            return part if not parts else b"".join((*parts, part))
        parts.append(part)
