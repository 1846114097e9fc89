"""OpenAI's bodies to core requests, and core results and errors to OpenAI's bodies. Pure functions, no HTTP server."""

from __future__ import annotations

import re
from typing import cast

import msgspec

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.dialects import wire
from pinyon.dialects.base import dotted, error_headers, renamed
from pinyon.dialects.openai.schema import EmbeddingsRequest
from pinyon.errors import (
    AlreadyExists,
    FailedPrecondition,
    InputTooLong,
    InvalidRequest,
    NotFound,
    Overloaded,
    Param,
    PayloadTooLarge,
    PermissionDenied,
    PinyonError,
    Unauthenticated,
    Unavailable,
    Unsupported,
    WrongMethod,
)
from pinyon.types import EmbedRequest, EmbedResult, Input, Truncate

# Source of both: OpenAI API reference, "Create embeddings", `input`.
MAX_INPUTS = 2048
MAX_TOTAL_TOKENS = 300_000

ENCODING_FORMATS = ("float", "base64")


def embed_request(wanted: EmbeddingsRequest) -> EmbedRequest:
    """Raises InvalidRequest, in wire names."""
    if wanted.encoding_format not in ENCODING_FORMATS:
        raise InvalidRequest("must be 'float' or 'base64'", ("encoding_format",))
    return EmbedRequest(
        model=wanted.model,
        inputs=_inputs(wanted.input),
        truncate=Truncate.NONE,
        dimension=None if wanted.dimensions is msgspec.UNSET else wanted.dimensions,
        max_total_tokens=MAX_TOTAL_TOKENS,
    )


def _inputs(value: str | list[str | int | list[int]]) -> list[Input]:
    if isinstance(value, str):
        return [value]
    kinds = set(map(type, value))
    if len(kinds) > 1:
        position = next(index for index, item in enumerate(value) if type(item) is not type(value[0]))
        raise InvalidRequest("must be of the same type as the first item of the array", ("input", position))
    if int in kinds:
        return [cast(list[int], value)]
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(
            f"array too long. Expected an array with maximum length {MAX_INPUTS}, "
            f"but got an array with length {len(value)} instead",
            ("input",),
        )
    return cast(list[Input], value)


def check_dimensions(dimensions: int, spec: ModelSpec) -> None:
    """OpenAI's own refusal for a model whose vectors cannot be cut; the range is the service's to check."""
    if not spec.matryoshka and dimensions != spec.default_dimension:
        raise InvalidRequest("this model does not support specifying dimensions", ("dimensions",))


def wire_param(param: Param, wanted: EmbeddingsRequest) -> Param:
    """A path of the core in the words of this request: `input` alone where there was one text and no array of them."""
    param = renamed(param, {"inputs": "input", "dimension": "dimensions"})
    is_one = isinstance(wanted.input, str) or (len(wanted.input) > 0 and isinstance(wanted.input[0], int))
    return ("input",) if is_one and param[:1] == ("input",) else param


def embed_response(result: EmbedResult, encoding_format: str) -> bytes:
    """`result.vectors` is [inputs, dimension] float32."""
    rows = wire.base64_rows(result.vectors) if encoding_format == "base64" else result.vectors
    tokens = int(result.tokens.sum())
    return wire.to_json(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
            "model": result.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def models_response(catalogue: Catalogue) -> bytes:
    """`GET /v1/models`: the names, aliases too, that `POST /v1/embeddings` answers now."""
    names = dict.fromkeys((*catalogue.specs, *catalogue.aliases))
    return wire.to_json(
        {
            "object": "list",
            "data": [_model(name, catalogue.get(name)) for name in names if _is_served(catalogue, catalogue.get(name))],
        }
    )


def model_response(catalogue: Catalogue, name: str) -> bytes:
    """`GET /v1/models/{model}`. Raises NotFound for what the list leaves out, saying why."""
    spec = catalogue.get(name)
    catalogue.folder(spec)
    if not _is_served(catalogue, spec):
        raise NotFound(f"Model {name!r} is not a dense embedding model", kind="model", name=name)
    return wire.to_json(_model(name, spec))


def _is_served(catalogue: Catalogue, spec: ModelSpec) -> bool:
    return spec.task == "embed" and spec.vector_type == "dense" and catalogue.is_here(spec)


def _model(name: str, spec: ModelSpec) -> dict[str, object]:
    # The catalogue does not know when a model was made.
    return {"id": name, "object": "model", "created": 0, "owned_by": spec.provider}


# By class: an error that is not here is answered as its nearest base. Status, type, code.
# NOTE: types and codes as in OpenAI's guide "Error codes" and its API's answers; it has no words for some of these.
_ERRORS: dict[type[BaseException], tuple[int, str, str | None]] = {
    InvalidRequest: (400, "invalid_request_error", None),
    InputTooLong: (400, "invalid_request_error", "context_length_exceeded"),
    PayloadTooLarge: (413, "invalid_request_error", "request_too_large"),
    Unauthenticated: (401, "invalid_request_error", "invalid_api_key"),
    PermissionDenied: (403, "invalid_request_error", "insufficient_permissions"),
    NotFound: (404, "invalid_request_error", None),
    WrongMethod: (405, "invalid_request_error", "method_not_supported"),
    AlreadyExists: (409, "invalid_request_error", "already_exists"),
    FailedPrecondition: (400, "invalid_request_error", "failed_precondition"),
    # Not 501: OpenAI's clients try anything from 500 up again, and this will not change by itself.
    Unsupported: (400, "invalid_request_error", "unsupported"),
    Overloaded: (429, "requests", "rate_limit_exceeded"),
    Unavailable: (503, "server_error", "service_unavailable"),
}

INTERNAL_ERROR = wire.to_json(
    {
        "error": {
            "message": "The server had an error while processing your request. Sorry about that!",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
)


def error_response(error: PinyonError) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an error; its param is in wire names."""
    status, kind, code = next(_ERRORS[cls] for cls in type(error).__mro__ if cls in _ERRORS)
    message, param = error.reason, None
    headers = error_headers(error)
    if isinstance(error, InvalidRequest):
        message, param = _message(error), dotted(error.param) or None
    elif isinstance(error, NotFound) and error.kind == "model":
        param, code = "model", "model_not_found"
    elif isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    body = wire.to_json({"error": {"message": message, "type": kind, "param": param, "code": code}})
    return status, body, headers


def _message(error: InvalidRequest) -> str:
    """What is wrong and where, in the words of OpenAI's API."""
    field = dotted(error.param)
    if isinstance(error, InputTooLong):
        return (
            f"This model's maximum context length is {error.limit} tokens, however you requested {error.tokens} tokens "
            f"({error.tokens} in '{field}'; 0 for the completion). Please reduce your prompt; or completion length."
        )
    if error.reason == "is required":
        return f"Missing required parameter: '{field}'."
    if error.reason == "is not a known field":
        return f"Unrecognized request argument supplied: {field}"
    if error.reason.startswith("Expected `"):
        expected = "expected " + _in_words(error.reason.removeprefix("Expected "))
        kind = "Invalid type for" if ", got `" in error.reason else "Invalid"
        return f"{kind} '{field or 'body'}': {expected}."
    # A reason that begins with a capital is a whole sentence about the body.
    if not field and error.reason[:1].isupper():
        return error.reason
    return f"Invalid '{field or 'body'}': {error.reason}."


_TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def _in_words(reason: str) -> str:
    """msgspec's `` `str | array`, got `int` `` as "a string or an array, got an integer"."""
    return re.sub(r"`([^`]*)`", lambda names: " or ".join(_TYPES.get(n, n) for n in names[1].split(" | ")), reason)
