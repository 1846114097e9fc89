"""Every PinyonError as Pinecone's ErrorResponse: `{"error": {"code", "message"}, "status"}`.

This is the shape of the control plane and of inference, at every version (the `ErrorResponse` schema of Pinecone's
OpenAPI files). No Starlette here: the routes make the response.
"""

from __future__ import annotations

from typing import NamedTuple

from pinyon.dialects.base import dotted, error_headers
from pinyon.dialects.wire import to_json
from pinyon.errors import (
    AlreadyExists,
    FailedPrecondition,
    InputTooLong,
    InvalidRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    PinyonError,
    Protected,
    Unauthenticated,
    Unavailable,
    Unsupported,
    WrongMethod,
)

# NOTE: inference's `code` has no value for a body that is too large, nor for a wrong method (ErrorResponse in
# inference_2025-04.oas.yaml to 2026-07): the nearest that it has stand here.
CODES: dict[type[PinyonError], tuple[int, str]] = {
    InvalidRequest: (400, "INVALID_ARGUMENT"),
    InputTooLong: (400, "INVALID_ARGUMENT"),
    PayloadTooLarge: (413, "INVALID_ARGUMENT"),
    Unauthenticated: (401, "UNAUTHENTICATED"),
    PermissionDenied: (403, "PERMISSION_DENIED"),
    NotFound: (404, "NOT_FOUND"),
    WrongMethod: (405, "UNIMPLEMENTED"),
    AlreadyExists: (409, "ALREADY_EXISTS"),
    FailedPrecondition: (412, "FAILED_PRECONDITION"),
    Overloaded: (429, "RESOURCE_EXHAUSTED"),
    PinyonError: (500, "INTERNAL"),
    Unsupported: (501, "UNIMPLEMENTED"),
    Unavailable: (503, "UNAVAILABLE"),
}


class Unprocessable(InvalidRequest):
    """The body is JSON, and not of the shape that the verb takes: a key is missing, unknown or of another type."""


# The control plane tells bodies that do not deserialise from those that are wrong, and protected from not permitted.
CONTROL_CODES = CODES | {Unprocessable: (422, "UNPROCESSABLE_ENTITY"), Protected: (403, "FORBIDDEN")}
# NOTE: 2026-07 has codes of its own, and UNIMPLEMENTED and UNAVAILABLE no more (ErrorResponse in db_control_2026-07).
CONTROL_CODES_V27 = CONTROL_CODES | {
    PayloadTooLarge: (413, "PAYLOAD_TOO_LARGE"),
    WrongMethod: (405, "INVALID_ARGUMENT"),
    Unsupported: (501, "INVALID_ARGUMENT"),
    Unavailable: (503, "SERVICE_UNAVAILABLE"),
}

INVALID_KEY = "Invalid API key"

# The longest field name that an error repeats: a name can be as long as the body.
MAX_FIELD_NAME = 200


class ErrorAnswer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]
    media_type: str = "application/json"


def error_answer(error: PinyonError) -> ErrorAnswer:
    """The answer to `error`. A class that is not in CODES is answered as the nearest base that is."""
    status, code = next(CODES[base] for base in type(error).__mro__ if base in CODES)
    return ErrorAnswer(status, error_response(status, code, message(error)), error_headers(error))


def control_error_answer(error: PinyonError, version: str) -> ErrorAnswer:
    """`error_answer` of the control plane, whose codes depend on the version."""
    if version >= "2026-07" and isinstance(error, Unauthenticated):
        # NOTE: a bare text, as on the data plane (401 of every operation in db_control_2026-07).
        return ErrorAnswer(401, INVALID_KEY.encode(), error_headers(error), "text/plain")
    codes = CONTROL_CODES_V27 if version >= "2026-07" else CONTROL_CODES
    status, code = next(codes[base] for base in type(error).__mro__ if base in codes)
    return ErrorAnswer(status, error_response(status, code, message(error)), error_headers(error))


def internal_error_answer() -> ErrorAnswer:
    """The answer to a bug, with nothing of it inside."""
    return ErrorAnswer(500, error_response(500, "UNKNOWN", "Internal server error"), {})


def error_response(status: int, code: str, message: str) -> bytes:
    # A name or a text that the client sent may hold a lone surrogate, which JSON text in UTF-8 cannot.
    message = message.encode("utf-8", "replace").decode("utf-8")
    return to_json({"error": {"code": code, "message": message}, "status": status})


def message(error: PinyonError) -> str:
    """What is wrong, with the field's name in front where there is one."""
    if isinstance(error, Unauthenticated) and not error.reason.startswith(INVALID_KEY):
        # NOTE: the vendor says "Invalid API key" for a key that is missing too (the 401 examples of the OpenAPI files).
        return f"{INVALID_KEY}: {error.reason}"
    if isinstance(error, InvalidRequest) and error.param:
        name = dotted(error.param)
        if len(name) > MAX_FIELD_NAME:
            name = name[:MAX_FIELD_NAME] + "..."
        return f"Invalid value for '{name}': {error.reason}"
    return error.reason
