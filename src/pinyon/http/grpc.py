"""What happens around every gRPC call, as `endpoint` is for REST: request id, key, bounded message, deadline, errors,
access log, metrics. Knows gRPC over HTTP/2, unary calls alone, and nothing of what a message holds.

Messages are neither taken nor given compressed: what one grows to is not known before it has grown.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from pinyon.errors import InvalidRequest, PayloadTooLarge, PinyonError, Unavailable, Unsupported
from pinyon.http.endpoint import CLIENT_CLOSED_REQUEST, STOPPED, Surroundings
from pinyon.http.frames import Headers
from pinyon.http.logging import where_raised
from pinyon.http.streams import Stream

logger = logging.getLogger("pinyon.access")
bug_logger = logging.getLogger("pinyon.bug")

CONTENT_TYPES = ("application/grpc", "application/grpc+proto")
ACCEPTED = (b"grpc-accept-encoding", b"identity")
PREFIX = 5  # bytes before a message: whether it is compressed, and its length
MAX_REASON = 1024  # characters of an error's text: its headers must fit into a frame

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")  # grpc-timeout ("gRPC over HTTP2", Requests)
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_HEAD: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_DONE: Headers = [(b"grpc-status", b"0")]
_ESCAPED = re.compile(rb"[^ -$&-~]")  # what a grpc-message may not hold as it is, and the percent sign

# What a call is given: its metadata with ":authority" among them, the path that its port stands for (None: the main
# port), the message. It gives the answer's message and metadata.
Handler = Callable[[Mapping[str, str], str | None, bytes], Awaitable[tuple[bytes, Mapping[str, str]]]]


class Vendor(Protocol):
    """What is needed of a dialect that is spoken over gRPC. `methods`: path -> verb and handler. `error` gives gRPC's
    code, REST's status for the log and the metrics, a text, and metadata."""

    @property
    def name(self) -> str: ...
    @property
    def methods(self) -> Mapping[str, tuple[str, Handler]]: ...
    @property
    def request_id_headers(self) -> tuple[str, ...]: ...
    @property
    def read_key(self) -> Callable[[Mapping[str, str]], str | None]: ...
    @property
    def error(self) -> Callable[[PinyonError], tuple[int, int, str, Mapping[str, str]]]: ...


class _Late(NamedTuple):
    """An end that is no PinyonError: only a wire has it."""

    http: int
    reason: str


_DEADLINE = _Late(504, "Deadline exceeded")
_STALLED = _Late(408, "Request Timeout")
_DEADLINE_EXCEEDED = 4


class Calls:
    """Opens the calls of one server."""

    def __init__(self, around: Surroundings, vendor: Vendor, root: Callable[[int], str | None]) -> None:
        """`around` bounds a message as it does a body. `root` gives the path that a port stands for, None for the
        main one, and raises NotFound for one that is closed."""
        self.around = around
        self.vendor = vendor
        self.root = root

    def open(self, stream: Stream, headers: Headers) -> Call | None:
        """None if it was answered: it is no call, or was refused."""
        said: dict[str, str] = {}
        for name, value in headers:
            said.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        kind = said.get("content-type", "").partition(";")[0].strip()
        if said.get(":method") != "POST" or ":path" not in said or kind not in CONTENT_TYPES:
            # NOTE: 415 for what is not gRPC ("gRPC over HTTP2", Responses).
            text = b"HTTP/2 is spoken here for gRPC alone: use HTTP/1.1 for REST"
            stream.answer([(b":status", b"415"), (b"content-type", b"text/plain; charset=utf-8")], text, [])
            return None
        call = Call(self, stream, said)
        return call if call.begin() else None


class Call:
    """One call, from its headers on. What ends it does so once: an answer, the deadline, the client."""

    def __init__(self, calls: Calls, stream: Stream, said: Mapping[str, str]) -> None:
        self._calls = calls
        self._stream = stream
        self._said = said
        self._id = secrets.token_hex(12)
        self._started = time.perf_counter()
        self._verb, self._handle = calls.vendor.methods.get(said[":path"], ("not_found", _unknown))
        self._root: str | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._declared: int | None = None  # the message's length, once its prefix is here
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    # --- what the connection calls

    def begin(self) -> bool:
        """Before any of the message is here. False if the call was refused."""
        self._calls.around.metrics.started()
        try:
            self._calls.around.keys.check(self._calls.vendor.read_key(self._said))
            if self._handle is _unknown:
                raise Unsupported(f"There is no method {self._said[':path']!r}")
            if self._said.get("grpc-encoding", "identity") != "identity":
                raise Unsupported("The message must not be compressed (grpc-encoding)")
            self._root = self._calls.root(self._stream.port)
            seconds = _seconds(self._said.get("grpc-timeout"))
        except PinyonError as error:
            self._refuse(error)
            return False
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, _DEADLINE)
        return True

    def data(self, part: bytes) -> None:
        if self._is_over:
            return
        try:
            self._calls.around.budget.take(len(part))
            self._size += len(part)
            self._parts.append(part)
            if self._declared is None and self._size >= PREFIX:
                self._declared = self._read_prefix()
            if self._declared is not None and self._size > PREFIX + self._declared:
                raise Unsupported("A call takes one message")
        except PinyonError as error:
            self._refuse(error)

    def _read_prefix(self) -> int:
        head = b"".join(self._parts)
        self._parts = [head[PREFIX:]]
        if head[0] == 1:
            raise Unsupported("The message must not be compressed (grpc-encoding)")
        size = int.from_bytes(head[1:PREFIX], "big")
        if size > self._calls.around.max_body_bytes:
            raise PayloadTooLarge(self._calls.around.max_body_bytes)
        return size

    def end(self) -> None:
        if self._is_over:
            return
        if self._declared is None or self._size < PREFIX + self._declared:
            self._refuse(InvalidRequest("The message is not whole"))
            return
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._stream.tasks.add(self._task)
        self._task.add_done_callback(self._stream.tasks.discard)

    def stalled(self) -> None:
        self._expire(_STALLED)

    def cancel(self) -> None:
        if not self._is_over:
            self._close(CLIENT_CLOSED_REQUEST)
            if self._task is not None:
                self._task.cancel()

    # --- the work

    async def _run(self) -> None:
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        try:
            message, metadata = await self._handle(self._said, self._root, whole)
        except asyncio.CancelledError:
            # By the server's end, if not by what has closed the call before.
            self._refuse(Unavailable("The server is stopping"), STOPPED)
            raise
        except PinyonError as error:
            self._refuse(error)
        except Exception as error:
            # Not the exception itself: its message may hold a user's text.
            where = {"request_id": self._id, "exception": where_raised(error)}
            bug_logger.error("unexpected error", extra=where)
            self._refuse(PinyonError("Internal server error"))
        else:
            if not self._is_over:
                self._close(200)
                head = [*_HEAD, ACCEPTED, *self._ids(), *_headers(metadata)]
                self._stream.answer(head, b"\0%b%b" % (len(message).to_bytes(4, "big"), message), _DONE)

    def _expire(self, late: _Late) -> None:
        if self._is_over:
            return
        self._close(late.http)
        self._stream.answer(self._trailers_only(_DEADLINE_EXCEEDED, late.reason))
        if self._task is not None:
            self._task.cancel()

    def _refuse(self, error: PinyonError, status: int | None = None) -> None:
        if self._is_over:
            return
        code, http, reason, metadata = self._calls.vendor.error(error)
        self._close(status or http)
        self._stream.answer(self._trailers_only(code, reason) + _headers(metadata))

    def _trailers_only(self, code: int, reason: str) -> Headers:
        text = _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], reason[:MAX_REASON].encode("utf-8", "replace"))
        status = [(b"grpc-status", b"%d" % code), (b"grpc-message", text)]
        return [*_HEAD, *status, ACCEPTED, *self._ids()]

    def _ids(self) -> Headers:
        id = self._id.encode()
        return [(b"x-request-id", id), *((name.encode(), id) for name in self._calls.vendor.request_id_headers)]

    def _close(self, status: int) -> None:
        """Gives back what is held, and counts and logs the call."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._parts = []
        around, vendor = self._calls.around, self._calls.vendor
        around.budget.give_back(self._size)
        seconds = time.perf_counter() - self._started
        around.metrics.answered(vendor.name, self._verb, status, seconds, None, 0, 0)
        logger.info(
            "request",
            extra={
                "request_id": self._id,
                "dialect": vendor.name,
                "verb": self._verb,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "transport": "grpc",
            },
        )


async def _unknown(said: Mapping[str, str], root: str | None, message: bytes) -> tuple[bytes, Mapping[str, str]]:
    raise AssertionError  # it was refused before


def _seconds(timeout: str | None) -> float | None:
    """Raises InvalidRequest."""
    if timeout is None:
        return None
    found = _TIMEOUT.fullmatch(timeout)
    if found is None:
        raise InvalidRequest("must be digits and a unit", ("grpc-timeout",))
    return int(found[1]) * _UNITS[found[2]]


def _headers(pairs: Mapping[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in pairs.items()]
