"""Pinecone's inference routes: decode, ask the service, encode. The one file of this plane that knows Starlette."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pinyon.catalog import ModelSpec
from pinyon.dialects.base import (
    Dialect,
    Handler,
    Route,
    decode,
    json_response,
    named_on_the_wire,
    record_model,
    record_use,
)
from pinyon.dialects.pinecone.errors import error_answer, internal_error_answer
from pinyon.dialects.pinecone.inference import convert
from pinyon.dialects.pinecone.inference.schema import (
    DOCUMENT,
    EMBED_BODY,
    RERANK_BODY,
    ModelInfo,
    ModelInfoList,
    RerankBody,
)
from pinyon.dialects.pinecone.routes import respond, version_of
from pinyon.errors import InvalidRequest
from pinyon.services.inference import InferenceService
from pinyon.types import EmbedResult, SparseEmbedResult


def pinecone(inference: InferenceService) -> Dialect:
    """Pinecone as a dialect: so far its inference plane."""

    async def embed(request: Request, body: bytes) -> Response:
        call = decode(EMBED_BODY, body)
        record_model(request, call.model)
        spec = inference.get_model(call.model)
        wanted = convert.embed_request(call, spec)
        result: EmbedResult | SparseEmbedResult
        with named_on_the_wire(convert.embed_param):
            if spec.vector_type == "sparse":
                result = await inference.embed_sparse(wanted)
                answer = convert.embed_sparse_response(result)
            else:
                result = await inference.embed(wanted)
                answer = convert.embed_response(result)
        record_use(request, model=result.model, inputs=len(call.inputs), tokens=int(result.tokens.sum()))
        return json_response(answer)

    async def rerank(request: Request, body: bytes) -> Response:
        call = decode(RERANK_BODY, body)
        record_model(request, call.model)
        spec = inference.get_model(call.model)
        wanted = convert.rerank_request(call, _documents(call), spec)
        with named_on_the_wire(lambda param: convert.rerank_param(param, convert.rank_fields(call))):
            result = await inference.rerank(wanted)
        record_use(request, model=result.model, inputs=len(call.documents), tokens=result.tokens)
        return json_response(convert.rerank_response(result, call))

    def _info(name: str, spec: ModelSpec) -> ModelInfo:
        is_here = inference.catalogue.is_here(spec)
        return convert.model_info(spec, name=name, is_here=is_here, stand_in=inference.stand_in(name))

    async def list_models(request: Request, body: bytes) -> Response:
        task, vector_type = convert.models_filter(request.query_params)
        models = [_info(name, spec) for name, spec in inference.list_models(task, vector_type).items()]
        return json_response(convert.model_info_response(ModelInfoList(models)))

    async def get_model(request: Request, body: bytes) -> Response:
        name = request.path_params["model_name"]
        spec = inference.get_model(name)
        return json_response(convert.model_info_response(_info(name, spec)))

    return Dialect(
        name="pinecone",
        prefix="/pinecone",
        routes=(
            Route("POST", "/embed", "embed", _versioned(embed)),
            Route("POST", "/rerank", "rerank", _versioned(rerank)),
            Route("GET", "/models", "list_models", _versioned(list_models)),
            # The operator may give a model a name with a slash in it, as hub repositories have.
            Route("GET", "/models/{model_name:path}", "get_model", _versioned(get_model)),
        ),
        read_key=_read_key,
        error=lambda request, error: respond(error_answer(error)),
        internal_error=lambda request: respond(internal_error_answer()),
        request_id_headers=("x-pinecone-request-id",),
    )


def _read_key(request: Request) -> str | None:
    return request.headers.get("api-key") or None


def _versioned(handle: Handler) -> Handler:
    """Refuses a version header that is not a version. Inference has the same shapes at all of them."""

    async def checked(request: Request, body: bytes) -> Response:
        version_of(request)
        return await handle(request, body)

    return checked


def _documents(call: RerankBody) -> list[dict[str, object]]:
    """The documents, decoded. Raises InvalidRequest for one that is not an object, or not JSON text."""
    documents: list[dict[str, object]] = []
    for position, raw in enumerate(call.documents):
        try:
            documents.append(decode(DOCUMENT, bytes(raw)))
        except InvalidRequest as error:
            error.param = ("documents", position, *error.param)
            raise
    return documents
