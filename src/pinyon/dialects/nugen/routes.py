"""Nugen's one verb over the inference service: /api/v3/inference/embeddings."""

from __future__ import annotations

import secrets
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.base import (
    Dialect,
    Route,
    bearer_key,
    decode,
    json_response,
    named_on_the_wire,
    record_model,
    record_use,
)
from pinyon.dialects.nugen import convert
from pinyon.dialects.nugen.schema import EmbeddingsRequest
from pinyon.errors import PinyonError
from pinyon.services.inference import InferenceService

_DECODER = msgspec.json.Decoder(EmbeddingsRequest)


def nugen(inference: InferenceService) -> Dialect:
    """Nugen's dialect over one inference service."""

    async def embed(request: Request, body: bytes) -> Response:
        wanted = decode(_DECODER, body)
        record_model(request, wanted.model)
        core = convert.embed_request(wanted)
        with named_on_the_wire(lambda param: convert.wire_param(param, wanted)):
            result = await inference.embed(core)
        record_use(request, model=core.model, inputs=len(core.inputs), tokens=int(result.tokens.sum()))
        return json_response(convert.embed_response(result, unique=secrets.token_hex(12), created=time.time()))

    return Dialect(
        name="nugen",
        prefix="/nugen",
        routes=(Route("POST", "/api/v3/inference/embeddings", "embed", embed),),
        read_key=bearer_key,
        error=_error,
        internal_error=lambda request: json_response(convert.INTERNAL_ERROR, 500),
    )


def _error(request: Request, error: PinyonError) -> Response:
    status, body, headers = convert.error_response(error)
    return json_response(body, status, headers)
