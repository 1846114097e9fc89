"""Perplexity's verbs over the inference service: /v1/embeddings and /v1/contextualizedembeddings."""

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
from pinyon.dialects.perplexity import convert
from pinyon.dialects.perplexity.schema import ContextualizedEmbeddingsRequest, EmbeddingsRequest
from pinyon.errors import InvalidRequest, NotFound, PinyonError
from pinyon.services.inference import InferenceService

_DECODER = msgspec.json.Decoder(EmbeddingsRequest)
_DOCUMENTS_DECODER = msgspec.json.Decoder(ContextualizedEmbeddingsRequest)


def perplexity(inference: InferenceService) -> Dialect:
    """Perplexity's dialect over one inference service. At the root it claims the models named pplx-..."""

    async def embed(request: Request, body: bytes) -> Response:
        wanted = decode(_DECODER, body)
        record_model(request, wanted.model)
        core = convert.embed_request(wanted)
        check_model(core.model)
        with named_on_the_wire(lambda param: convert.wire_param(param, wanted)):
            result = await inference.embed(core)
        record_use(request, model=core.model, inputs=len(core.inputs), tokens=int(result.tokens.sum()))
        return json_response(convert.embed_response(result))

    async def embed_documents(request: Request, body: bytes) -> Response:
        wanted = decode(_DOCUMENTS_DECODER, body)
        record_model(request, wanted.model)
        core = convert.embed_documents_request(wanted)
        check_model(core.model)
        with named_on_the_wire(convert.documents_param):
            result = await inference.embed_documents(core)
        chunks = sum(map(len, core.documents))
        record_use(request, model=core.model, inputs=chunks, tokens=int(result.tokens.sum()))
        return json_response(convert.embed_documents_response(result))

    def check_model(name: str) -> None:
        try:
            inference.get_model(name)
        except NotFound as error:
            # NOTE: Perplexity OpenAPI document: `model` is an enumeration, so an unknown name is a 422. A known name
            # whose weights are not here is the 404 that the service raises.
            raise InvalidRequest(error.reason, ("model",)) from None

    return Dialect(
        name="perplexity",
        prefix="/perplexity",
        routes=(
            Route("POST", "/v1/embeddings", "embed", embed),
            Route("POST", "/v1/contextualizedembeddings", "embed_documents", embed_documents),
        ),
        read_key=bearer_key,
        error=_error,
        internal_error=lambda request: json_response(convert.INTERNAL_ERROR, 500),
        claims=convert.is_perplexity_model,
    )


def _error(request: Request, error: PinyonError) -> Response:
    status, body, headers = convert.error_response(error)
    return json_response(body, status, headers)
