"""Every PinyonError as the data plane says it: rpcStatus, `{"code", "message", "details"}`, by gRPC's code.

NOTE: at 2026-07 a 401 is the bare text "Unauthorized", and the operations under /records answer with ErrorResponse, as
the control plane does; before, with rpcStatus (the data plane's OpenAPI files). No Starlette here.
"""

from __future__ import annotations

from pinyon.dialects.base import error_headers
from pinyon.dialects.pinecone.data.convert import REDESIGN
from pinyon.dialects.pinecone.errors import ErrorAnswer, control_error_answer, internal_error_answer, message
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
    Unauthenticated,
    Unavailable,
    Unsupported,
    WrongMethod,
)

INTERNAL = 13

# The HTTP status, and google.rpc.Code.
CODES: dict[type[PinyonError], tuple[int, int]] = {
    InvalidRequest: (400, 3),
    InputTooLong: (400, 3),
    PayloadTooLarge: (413, 11),  # gRPC's own code for a message that is too long: OUT_OF_RANGE
    Unauthenticated: (401, 16),
    PermissionDenied: (403, 7),
    NotFound: (404, 5),
    WrongMethod: (405, 12),
    AlreadyExists: (409, 6),
    FailedPrecondition: (412, 9),
    Overloaded: (429, 8),
    PinyonError: (500, INTERNAL),
    Unsupported: (501, 12),
    Unavailable: (503, 14),
}


def status_answer(error: PinyonError, version: str) -> ErrorAnswer:
    """The answer to `error`. A class that is not in CODES is answered as the nearest base that is."""
    if version >= REDESIGN and isinstance(error, Unauthenticated):
        return ErrorAnswer(401, b"Unauthorized", error_headers(error), "text/plain")
    status, code = next(CODES[base] for base in type(error).__mro__ if base in CODES)
    return ErrorAnswer(status, rpc_status(code, message(error)), error_headers(error))


def records_answer(error: PinyonError, version: str) -> ErrorAnswer:
    """`status_answer` of what stands under /records."""
    if version < REDESIGN or isinstance(error, Unauthenticated):
        return status_answer(error, version)
    return control_error_answer(error, version)


def internal_status_answer() -> ErrorAnswer:
    """The answer to a bug, with nothing of it inside."""
    return ErrorAnswer(500, rpc_status(INTERNAL, "Internal server error"), {})


def internal_records_answer(version: str) -> ErrorAnswer:
    return internal_status_answer() if version < REDESIGN else internal_error_answer()


def rpc_status(code: int, text: str) -> bytes:
    # A name or a text that the client sent may hold a lone surrogate, which JSON text in UTF-8 cannot.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return to_json({"code": code, "message": text, "details": []})
