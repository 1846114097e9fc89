"""OpenAI's verbs over the inference service: /v1/embeddings and /v1/models."""

from __future__ import annotations

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
from pinyon.dialects.openai import convert
from pinyon.dialects.openai.schema import EmbeddingsRequest
from pinyon.errors import NotFound, PinyonError
from pinyon.services.inference import InferenceService

_DECODER = msgspec.json.Decoder(EmbeddingsRequest)


def openai(inference: InferenceService) -> Dialect:
    """OpenAI's dialect over one inference service. It claims no model: it takes what no other vendor claims."""

    async def embed(request: Request, body: bytes) -> Response:
        wanted = decode(_DECODER, body)
        record_model(request, wanted.model)
        core = convert.embed_request(wanted)
        if core.dimension is not None:
            convert.check_dimensions(core.dimension, inference.get_model(core.model))
        with named_on_the_wire(lambda param: convert.wire_param(param, wanted)):
            result = await inference.embed(core)
        record_use(request, model=core.model, inputs=len(core.inputs), tokens=int(result.tokens.sum()))
        return json_response(convert.embed_response(result, wanted.encoding_format))

    async def list_models(request: Request, body: bytes) -> Response:
        return json_response(convert.models_response(inference.catalogue))

    async def get_model(request: Request, body: bytes) -> Response:
        return json_response(convert.model_response(inference.catalogue, request.path_params["model"]))

    return Dialect(
        name="openai",
        prefix="/openai",
        routes=(
            Route("POST", "/v1/embeddings", "embed", embed),
            Route("GET", "/v1/models", "list_models", list_models),
            # A name may hold a slash: a hub repository's does.
            Route("GET", "/v1/models/{model:path}", "get_model", get_model),
        ),
        read_key=bearer_key,
        error=_error,
        internal_error=lambda request: json_response(convert.INTERNAL_ERROR, 500),
    )


def _error(request: Request, error: PinyonError) -> Response:
    if isinstance(error, NotFound) and error.kind == "path":
        # NOTE: the words of OpenAI's API for a path that it does not have.
        error = NotFound(f"Invalid URL ({request.method} {request.url.path})", kind="path", name=error.name)
    status, body, headers = convert.error_response(error)
    return json_response(body, status, headers)
