"""Perplexity's body to a core request, and core results and errors to Perplexity's bodies. Pure functions."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy.typing as npt

from pinyon.dialects import fastapi_errors, wire
from pinyon.dialects.base import renamed
from pinyon.dialects.perplexity.schema import MAX_CHUNKS, ContextualizedEmbeddingsRequest, EmbeddingsRequest
from pinyon.errors import InvalidRequest, Param, PayloadTooLarge, PinyonError
from pinyon.types import EmbedDocumentsRequest, EmbedDocumentsResult, EmbedRequest, EmbedResult, Encoding, Truncate

# All of these: Perplexity OpenAPI document, `EmbeddingsRequest`.
MAX_TOTAL_TOKENS = 120_000
MIN_DIMENSIONS, MAX_DIMENSIONS = 128, 2560
ENCODINGS = {"base64_int8": Encoding.INT8, "base64_binary": Encoding.BINARY}


def is_perplexity_model(name: str) -> bool:
    return name.startswith("pplx-")


def embed_request(wanted: EmbeddingsRequest) -> EmbedRequest:
    """Raises InvalidRequest, in wire names. Whether the model has the dimension is the service's to check."""
    encoding, dimension = _numbers(wanted)
    return EmbedRequest(
        model=wanted.model,
        inputs=[wanted.input] if isinstance(wanted.input, str) else wanted.input,
        truncate=Truncate.NONE,
        dimension=dimension,
        encoding=encoding,
        max_total_tokens=MAX_TOTAL_TOKENS,
    )


def embed_documents_request(wanted: ContextualizedEmbeddingsRequest) -> EmbedDocumentsRequest:
    """Raises InvalidRequest as `embed_request` does, and for more chunks than all documents may have."""
    encoding, dimension = _numbers(wanted)
    if (chunks := sum(map(len, wanted.input))) > MAX_CHUNKS:
        raise InvalidRequest(f"must hold at most {MAX_CHUNKS} chunks together, and holds {chunks}", ("input",))
    return EmbedDocumentsRequest(
        model=wanted.model,
        documents=wanted.input,
        dimension=dimension,
        encoding=encoding,
        max_total_tokens=MAX_TOTAL_TOKENS,
    )


def _numbers(wanted: EmbeddingsRequest | ContextualizedEmbeddingsRequest) -> tuple[Encoding, int | None]:
    encoding = ENCODINGS.get(wanted.encoding_format)
    if encoding is None:
        raise InvalidRequest("must be 'base64_int8' or 'base64_binary'", ("encoding_format",))
    dimension = None if wanted.dimensions is msgspec.UNSET else wanted.dimensions
    if dimension is not None:
        if is_perplexity_model(wanted.model):
            if dimension < MIN_DIMENSIONS:
                raise InvalidRequest(f"Expected `int` >= {MIN_DIMENSIONS}", ("dimensions",))
            if dimension > MAX_DIMENSIONS:
                raise InvalidRequest(f"Expected `int` <= {MAX_DIMENSIONS}", ("dimensions",))
        if encoding is Encoding.BINARY and dimension % 8:
            raise InvalidRequest("must be a multiple of 8 for base64_binary, which packs 8 to a byte", ("dimensions",))
    return encoding, dimension


def wire_param(param: Param, wanted: EmbeddingsRequest) -> Param:
    """A path of the core in the words of this request: `input` alone where there was one text and no list."""
    param = renamed(param, {"inputs": "input", "dimension": "dimensions"})
    return ("input",) if param[:1] == ("input",) and isinstance(wanted.input, str) else param


def documents_param(param: Param) -> Param:
    return renamed(param, {"documents": "input", "dimension": "dimensions"})


def embed_response(result: EmbedResult) -> bytes:
    """`result.vectors` is [inputs, dimension] int8, or [inputs, dimension / 8] uint8."""
    return wire.to_json(
        {"object": "list", "data": _embeddings(result.vectors), "model": result.model, **_usage(result)}
    )


def embed_documents_response(result: EmbedDocumentsResult) -> bytes:
    """As `embed_response`, with a list for each document."""
    data = [
        {"object": "list", "index": index, "data": _embeddings(vectors)} for index, vectors in enumerate(result.vectors)
    ]
    return wire.to_json({"object": "list", "data": data, "model": result.model, **_usage(result)})


def _embeddings(vectors: npt.NDArray[Any]) -> list[dict[str, object]]:
    rows = wire.base64_rows(vectors)
    return [{"object": "embedding", "index": index, "embedding": text} for index, text in enumerate(rows)]


def _usage(result: EmbedResult | EmbedDocumentsResult) -> dict[str, object]:
    tokens = int(result.tokens.sum())
    cost = {"input_cost": result.cost, "total_cost": result.cost, "currency": "USD"}
    return {"usage": {"prompt_tokens": tokens, "total_tokens": tokens, "cost": cost}}


# NOTE: the OpenAPI document describes the 422 alone; the rest follows what Perplexity's API answers to a wrong key:
# {"error": {"message", "type", "code"}} with the status as the code.
_TYPES = {
    401: "invalid_api_key",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    409: "already_exists",
    412: "failed_precondition",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "internal_server_error",
    501: "not_implemented",
    503: "service_unavailable",
}


def error_response(error: PinyonError) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an error; its param is in wire names."""
    status = fastapi_errors.status(error)
    if isinstance(error, InvalidRequest) and not isinstance(error, PayloadTooLarge):
        body = fastapi_errors.detail(error)
    else:
        body = _error_body(status, error.reason)
    return status, body, fastapi_errors.headers(error)


def _error_body(status: int, message: str) -> bytes:
    return wire.to_json({"error": {"message": message, "type": _TYPES[status], "code": status}})


INTERNAL_ERROR = _error_body(500, "Internal server error")
