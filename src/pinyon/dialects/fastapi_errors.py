"""The 422 body of a FastAPI service, which Perplexity's and Nugen's clients know, and the statuses that go with it.

Knows nothing of either vendor. Params are in wire names by the time they come here.
"""

from __future__ import annotations

import re

from pinyon.dialects import wire
from pinyon.dialects.base import error_headers
from pinyon.errors import (
    AlreadyExists,
    FailedPrecondition,
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

# By class: an error that is not here has the status of its nearest base.
_STATUSES: dict[type[BaseException], int] = {
    InvalidRequest: 422,
    PayloadTooLarge: 413,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    WrongMethod: 405,
    AlreadyExists: 409,
    FailedPrecondition: 412,
    Unsupported: 501,
    Overloaded: 429,
    Unavailable: 503,
}

# What was wrong, in the words of msgspec, `dialects.base` and the core -> pydantic's type and message for it.
# NOTE: types and messages are those of https://docs.pydantic.dev/latest/errors/validation_errors/
_KINDS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind, message)
    for pattern, kind, message in (
        (r"is required", "missing", "Field required"),
        (r"is not a known field", "extra_forbidden", "Extra inputs are not permitted"),
        (r"Expected `str`, got .*", "string_type", "Input should be a valid string"),
        (r"Expected `str \| array`, got .*", "string_type", "Input should be a valid string or a valid list"),
        (r"Expected `array`, got .*", "list_type", "Input should be a valid list"),
        (r"Expected `int`, got .*", "int_type", "Input should be a valid integer"),
        (
            r"Expected `object`, got .*",
            "model_attributes_type",
            "Input should be a valid dictionary or object to extract fields from",
        ),
        (
            r"Expected `str` of length >= 1|must not be empty",
            "string_too_short",
            "String should have at least 1 character",
        ),
        (
            r"Expected `array` of length >= 1|must hold at least one input",
            "too_short",
            "List should have at least 1 item after validation, not 0",
        ),
        (r"Expected `array` of length <= (\d+)", "too_long", r"List should have at most \1 items after validation"),
        (r"Expected `int` >= (\d+)", "greater_than_equal", r"Input should be greater than or equal to \1"),
        (r"Expected `int` <= (\d+)", "less_than_equal", r"Input should be less than or equal to \1"),
        (r"must be ('\w+'(?:(?:, | or )'\w+')*)", "enum", r"Input should be \1"),
        # The names that a model may have are an enumeration in Perplexity's OpenAPI document.
        (r"(Model .* not found.*)", "enum", r"\1"),
        (r"(The request body is not valid JSON.*)", "json_invalid", r"\1"),
        (r"must be valid Unicode text.*", "string_unicode", "Input should be a valid string, it is not valid Unicode"),
    )
)


def status(error: PinyonError) -> int:
    """The HTTP status of an error."""
    return next(_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES)


def headers(error: PinyonError) -> dict[str, str]:
    """The HTTP headers that go with an error, beside its body."""
    return {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else error_headers(error)


def detail(error: InvalidRequest) -> bytes:
    """The 422 body: `{"detail": [{"loc": ["body", "input", 3], "msg": "...", "type": "..."}]}`."""
    kind, message = _kind(error.reason)
    return wire.to_json({"detail": [{"loc": ["body", *error.param], "msg": message, "type": kind}]})


def _kind(reason: str) -> tuple[str, str]:
    for pattern, kind, message in _KINDS:
        if (match := pattern.fullmatch(reason)) is not None:
            return kind, match.expand(message)
    return "value_error", f"Value error, {reason}"
