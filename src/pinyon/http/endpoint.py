"""What happens around every handler: request id, key, body limit, errors, disconnects, access log, metrics."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pinyon.errors import PinyonError
from pinyon.http.auth import KeyRing
from pinyon.http.limits import BodyBudget, BodyStalled, read_body
from pinyon.http.logging import where_raised
from pinyon.http.metrics import Metrics

logger = logging.getLogger("pinyon.access")
bug_logger = logging.getLogger("pinyon.bug")

# nginx's status for a client that went away before its answer; seen only in logs and metrics.
CLIENT_CLOSED_REQUEST = 499
# Of a request that was cut off when the server's time for stopping had run out.
STOPPED = 503
# How long a handler runs before its client's connection is watched.
WATCH_AFTER_SECONDS = 0.02


class Vendor(Protocol):
    """What an endpoint needs to know of a dialect."""

    @property
    def name(self) -> str: ...
    @property
    def read_key(self) -> Callable[[Request], str | None]: ...
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
    budget: BodyBudget
    # The local model that is run in the place of the one of this name, if there is one.
    stand_in: Callable[[str], str | None] = lambda model: None


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as one vendor calls it: what answers a request, and who is named in its log line."""

    vendor: Vendor
    name: str
    handle: Callable[[Request, bytes], Awaitable[Response]]
    error: Callable[[Request, PinyonError], Response]
    internal_error: Callable[[Request], Response]


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
        state = request.state
        request_id = state.request_id = secrets.token_hex(12)
        state.verb = self._verb
        started = time.perf_counter()
        metrics = self._around.metrics
        metrics.started()
        status = CLIENT_CLOSED_REQUEST
        try:
            response = await self._answer(request)
            if response is not None:
                value = request_id.encode()
                response.raw_headers.append((b"x-request-id", value))
                for header in state.verb.vendor.request_id_headers:
                    response.raw_headers.append((header.encode(), value))
                if stand_ins := self._stand_ins(request):
                    response.raw_headers.append((b"x-pinyon-stand-in", ", ".join(stand_ins).encode()))
                status = response.status_code
                await response(scope, receive, send)
        except asyncio.CancelledError:
            status = STOPPED  # by the server's end: a client's own going away is not raised up to here
            raise
        finally:
            self._around.budget.give_back(getattr(state, "held", 0))
            seconds = time.perf_counter() - started
            verb: Verb = state.verb
            used: Usage = getattr(state, "used", UNUSED)
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

    def _stand_ins(self, request: Request) -> Iterable[str]:
        """Of the models that the handler said were asked for."""
        found = map(self._around.stand_in, getattr(request.state, "models", ()))
        return dict.fromkeys(local for local in found if local is not None)

    async def _answer(self, request: Request) -> Response | None:
        """The handler's response or an error's; None if the client went away."""
        keys, limit, budget = self._around.keys, self._around.max_body_bytes, self._around.budget
        verb = self._verb
        try:
            if self._choose is not None:
                body = await read_body(request, limit, budget)
                request.state.verb = verb = self._choose(body)
                keys.check(verb.vendor.read_key(request))
            else:
                keys.check(verb.vendor.read_key(request))
                body = await read_body(request, limit, budget)
            return await _unless_disconnected(request, verb.handle(request, body))
        except ClientDisconnect:
            return None
        except BodyStalled:
            return Response(b"Request Timeout", 408, {"connection": "close"}, "text/plain")
        except PinyonError as error:
            return verb.error(request, error)
        except Exception as error:
            # Not the exception itself: its message may hold a user's text.
            where = {"request_id": request.state.request_id, "exception": where_raised(error)}
            bug_logger.error("unexpected error", extra=where)
            return verb.internal_error(request)


async def _unless_disconnected(request: Request, work: Awaitable[Response]) -> Response:
    """Awaits `work`, and cancels it when the client closes its connection. Raises ClientDisconnect then."""
    watch = _Watch(request.receive)
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.is_gone:
            raise
        watch.answering.uncancel()
        raise ClientDisconnect from None
    finally:
        watch.stop()


class _Watch:
    """Cancels the task that made it when the client goes away.

    It begins to look a moment later: a task to look from costs as much as a small request, which is over by then.
    """

    __slots__ = ("_looking", "_receive", "_timer", "answering", "is_gone")

    def __init__(self, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        answering = asyncio.current_task(loop)
        assert answering is not None
        self.answering = answering
        self.is_gone = False
        self._receive = receive
        self._looking: asyncio.Task[None] | None = None
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._start)

    def stop(self) -> None:
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _start(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self.answering.cancel()
