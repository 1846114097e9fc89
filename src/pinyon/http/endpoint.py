"""What happens around every handler: request id, key, body limit, errors, disconnects, access log, metrics."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pinyon.errors import PinyonError
from pinyon.http.auth import KeyRing
from pinyon.http.limits import read_body
from pinyon.http.metrics import Metrics

logger = logging.getLogger("pinyon.access")
bug_logger = logging.getLogger("pinyon.bug")

# nginx's status for a client that went away before its answer; seen only in logs and metrics.
CLIENT_CLOSED_REQUEST = 499


class Vendor(Protocol):
    """What an endpoint needs to know of a dialect."""

    @property
    def name(self) -> str: ...
    @property
    def read_key(self) -> Callable[[Request], str | None]: ...
    @property
    def error(self) -> Callable[[Request, PinyonError], Response]: ...
    @property
    def internal_error(self) -> Callable[[Request], Response]: ...
    @property
    def request_id_headers(self) -> tuple[str, ...]: ...


class Usage(Protocol):
    """What a request used, as its handler left it in `request.state.used`."""

    @property
    def model(self) -> str | None: ...
    @property
    def inputs(self) -> int: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Unused:
    model: str | None = None
    inputs: int = 0
    tokens: int = 0


UNUSED = _Unused()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all endpoints of a server share."""

    keys: KeyRing
    metrics: Metrics
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as one vendor calls it: what answers a request, and who is named in its log line."""

    vendor: Vendor
    name: str
    handle: Callable[[Request, bytes], Awaitable[Response]]


class Endpoint:
    """An ASGI application for one method of one path.

    Where two vendors share a path, `choose` looks at the body and says whose request it is; the body is then read
    before the key is checked, so that the vendor's own error can be given.
    """

    def __init__(self, around: Surroundings, verb: Verb, choose: Callable[[bytes], Verb] | None = None) -> None:
        self._around = around
        self._verb = verb
        self._choose = choose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = secrets.token_hex(12)
        request.state.request_id = request_id
        request.state.verb = self._verb
        started = time.perf_counter()
        metrics = self._around.metrics
        metrics.started()
        status = CLIENT_CLOSED_REQUEST
        try:
            response = await self._answer(request)
            if response is not None:
                for header in ("x-request-id", *request.state.verb.vendor.request_id_headers):
                    response.headers[header] = request_id
                status = response.status_code
                await response(scope, receive, send)
        finally:
            seconds = time.perf_counter() - started
            verb: Verb = request.state.verb
            used: Usage = getattr(request.state, "used", UNUSED)
            metrics.answered(verb.vendor.name, verb.name, status, seconds, used.model, used.inputs, used.tokens)
            logger.info(
                "request",
                extra={
                    "request_id": request_id,
                    "dialect": verb.vendor.name,
                    "verb": verb.name,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "model": used.model,
                    "inputs": used.inputs,
                    "tokens": used.tokens,
                },
            )

    async def _answer(self, request: Request) -> Response | None:
        """The handler's response or an error's; None if the client went away."""
        keys, limit = self._around.keys, self._around.max_body_bytes
        verb = self._verb
        try:
            if self._choose is not None:
                body = await read_body(request, limit)
                request.state.verb = verb = self._choose(body)
                keys.check(verb.vendor.read_key(request))
            else:
                keys.check(verb.vendor.read_key(request))
                body = await read_body(request, limit)
            return await _unless_disconnected(request, verb.handle(request, body))
        except ClientDisconnect:
            return None
        except PinyonError as error:
            return verb.vendor.error(request, error)
        except Exception:
            bug_logger.exception("unexpected error", extra={"request_id": request.state.request_id})
            return verb.vendor.internal_error(request)


async def _unless_disconnected(request: Request, work: Awaitable[Response]) -> Response:
    """Awaits `work`, and cancels it when the client closes its connection. Raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        raise ClientDisconnect
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
