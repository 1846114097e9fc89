"""Nugen's body to a core request, and core results and errors to Nugen's bodies. Pure functions."""

from __future__ import annotations

import msgspec

from pinyon.dialects import fastapi_errors, wire
from pinyon.dialects.base import renamed
from pinyon.dialects.nugen.schema import EmbeddingsRequest
from pinyon.errors import InvalidRequest, Param, PayloadTooLarge, PinyonError
from pinyon.types import EmbedRequest, EmbedResult, Truncate


def embed_request(wanted: EmbeddingsRequest) -> EmbedRequest:
    """A text that is too long is refused: Nugen's page says that it "must not exceed the max input tokens"."""
    return EmbedRequest(
        model=wanted.model,
        inputs=[wanted.input] if isinstance(wanted.input, str) else wanted.input,
        truncate=Truncate.NONE,
        dimension=None if wanted.dimensions is msgspec.UNSET else wanted.dimensions,
    )


def wire_param(param: Param, wanted: EmbeddingsRequest) -> Param:
    """A path of the core in the words of this request: `input` alone where there was one text and no list."""
    param = renamed(param, {"inputs": "input", "dimension": "dimensions"})
    return ("input",) if param[:1] == ("input",) and isinstance(wanted.input, str) else param


def embed_response(result: EmbedResult, *, unique: str, created: float) -> bytes:
    """`result.vectors` is [inputs, dimension] float32; `unique` ends the id; `created` is in Unix seconds."""
    return wire.to_json(
        {
            "id": f"embed-{unique}",
            "object": "embedding",
            "data": [
                {"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(result.vectors)
            ],
            "model": result.model,
            "created": created,
            "usage": {"total_tokens": int(result.tokens.sum())},
        }
    )


def error_response(error: PinyonError) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an error; its param is in wire names."""
    if isinstance(error, InvalidRequest) and not isinstance(error, PayloadTooLarge):
        body = fastapi_errors.detail(error)
    else:
        body = wire.to_json({"detail": error.reason})
    return fastapi_errors.status(error), body, fastapi_errors.headers(error)


INTERNAL_ERROR = wire.to_json({"detail": "Internal Server Error"})
