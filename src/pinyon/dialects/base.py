"""What every dialect is: its routes, how it reads a key, and how it writes an error.

A dialect is plain data. The ASGI application around it (keys, limits, metrics, logs) is made in `pinyon.app` and
`pinyon.http`, which know dialects only by this shape.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pinyon.errors import InvalidRequest, Overloaded, Param, PinyonError, WrongMethod

# The body is read and bounded before the handler runs; b"" for GET.
Handler = Callable[[Request, bytes], Awaitable[Response]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    """A verb of a dialect. `verb` is the core verb's name, for metrics and logs; `path` has Starlette's `{name}`
    form."""

    method: str
    path: str
    verb: str
    handle: Handler
    # How this verb's errors are written, where that differs from the dialect's way.
    error: Callable[[Request, PinyonError], Response] | None = None
    internal_error: Callable[[Request], Response] | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """A vendor's way of saying things.

    `prefix` is where all of it is mounted beside the root. `read_key` takes the key out of a request's headers, or
    None.
    `error` writes any PinyonError, and `internal_error` writes the answer to a bug: no internals in it. Both take the
    request, since a vendor's error body may depend on its headers. `request_id_headers` are the names under which the
    vendor sends the request's id back, beside `x-request-id`.
    """

    name: str
    prefix: str
    routes: tuple[Route, ...]
    read_key: Callable[[Request], str | None]
    error: Callable[[Request, PinyonError], Response]
    internal_error: Callable[[Request], Response]
    request_id_headers: tuple[str, ...] = ()
    # Whether a request for this model is this vendor's, on a path of the root that another vendor has too.
    claims: Callable[[str], bool] = lambda model: False


# What a call over gRPC says beside its message: metadata, with the host that it was sent to as ":authority".
Said = Mapping[str, str]
# Given what was said, the path that the port stands for (None: the main port), and the message; gives the answer's
# message, and metadata.
GrpcHandler = Callable[[Said, str | None, bytes], Awaitable[tuple[bytes, Mapping[str, str]]]]


class GrpcMethod(NamedTuple):
    """`verb` is the core verb's name, for metrics and logs."""

    verb: str
    handle: GrpcHandler


class GrpcStatus(NamedTuple):
    """An error's answer. `code` is gRPC's, `http` what REST answers, for metrics and logs."""

    code: int
    http: int
    reason: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GrpcDialect:
    """What a vendor says over gRPC. `methods` are by their path. `error` writes any PinyonError. The rest is as in
    Dialect."""

    name: str
    methods: Mapping[str, GrpcMethod]
    read_key: Callable[[Said], str | None]
    error: Callable[[PinyonError], GrpcStatus]
    request_id_headers: tuple[str, ...] = ()


def bearer_key(request: Request) -> str | None:
    """The key of `Authorization: Bearer KEY`, the scheme in any case."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    return key if scheme.lower() == "bearer" and key else None


@dataclass(frozen=True, slots=True)
class Used:
    """What a request used, for the access log and the metrics. `model` is a name of the catalogue, or an alias."""

    model: str
    inputs: int
    tokens: int


def record_model(request: Request, model: str) -> None:
    """Leaves the name of a model that a request asks for where what is around the handler finds it: what stands in for
    the model is said in the answer, whatever the answer is."""
    state = request.state
    state.models = (*getattr(state, "models", ()), model)


def record_use(request: Request, *, model: str, inputs: int, tokens: int) -> None:
    """Leaves what a request used where the access log and the metrics find it. Call it for answered requests only."""
    record_model(request, model)
    request.state.used = Used(model, inputs, tokens)


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """JSON bytes to a vendor's schema. Raises InvalidRequest with the path of the field that is wrong, in wire
    names."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        reason, param = validation_reason(str(error))
        raise InvalidRequest(reason, param) from None
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(*_malformed_reason(body, error)) from None


def _malformed_reason(body: bytes, error: Exception) -> tuple[str, Param]:
    """Why these bytes are not JSON text.

    msgspec says "truncated" of a lone surrogate and gives no path for bytes that are not UTF-8. Both are mistakes in
    one string of an otherwise right body, so the slow, lenient parser of the standard library is asked which one.
    """
    try:
        lenient = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        # msgspec's text tells the position and what was expected, never the content.
        detail = str(error) if isinstance(error, msgspec.DecodeError) else "it is not UTF-8"
        return f"The request body is not valid JSON: {detail}", ()
    for param, text in _strings(lenient, ()):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "must be valid Unicode text: it holds a lone surrogate or bytes that are not UTF-8", param
    return "The request body is not valid JSON", ()


def _strings(value: object, param: Param) -> Iterator[tuple[Param, str]]:
    """Every string of a JSON value, with its path; a key counts as a string at its own path."""
    pending: list[tuple[Param, object]] = [(param, value)]
    while pending:
        param, value = pending.pop()
        if isinstance(value, str):
            yield param, value
        elif isinstance(value, list):
            pending.extend(((*param, index), item) for index, item in reversed(list(enumerate(value))))
        elif isinstance(value, dict):
            for key, item in value.items():
                yield param, key
                pending.append(((*param, key), item))


_AT = re.compile(r"^(?P<reason>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_FIELD = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)


def validation_reason(message: str) -> tuple[str, Param]:
    """Splits msgspec's `Expected `str`, got `int` - at `$.inputs[0].text`` into a reason and a path.

    A missing or unknown field is named in the text instead: its name ends the path.
    """
    match = _AT.match(message)
    assert match is not None
    reason, path = match["reason"], match["path"] or ""
    param: Param = tuple(
        int(step["index"]) if step["index"] is not None else step["name"]
        for step in _STEP.finditer(path)
        if step["index"] is not None or step["name"] is not None
    )
    if (field := _FIELD.match(reason)) is not None:
        param = (*param, field["name"])
        reason = "is required" if "missing" in reason else "is not a known field"
    return reason, param


def dotted(param: Param) -> str:
    """`("inputs", 3, "text")` as `inputs[3].text`."""
    text = ""
    for step in param:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def renamed(param: Param, names: dict[str, str]) -> Param:
    """The path with its first name as the vendor calls it: core `inputs` is OpenAI's `input`."""
    if not param or not isinstance(param[0], str):
        return param
    return (names.get(param[0], param[0]), *param[1:])


@contextmanager
def named_on_the_wire(rename: Callable[[Param], Param]) -> Iterator[None]:
    """Puts the wire's names for fields into what the core raises inside. Not for `decode`, which gives them already."""
    try:
        yield
    except InvalidRequest as error:
        error.param = rename(error.param)
        raise


def error_headers(error: PinyonError) -> dict[str, str]:
    """The HTTP headers that an error asks for, whoever the vendor is."""
    if isinstance(error, Overloaded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, WrongMethod):
        return {"allow": ", ".join(error.allowed)}
    return {}
