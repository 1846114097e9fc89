"""embed, embed_documents, embed_sparse, rerank, list_models, get_model: the verbs that need a model.

Checks what every vendor's request has in common (something to embed, whole texts, a dimension that the model has) and
hands the rest to the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.services import stand_ins
from pinyon.types import (
    EmbedDocumentsRequest,
    EmbedDocumentsResult,
    EmbedRequest,
    EmbedResult,
    Input,
    IntArray,
    RerankRequest,
    RerankResult,
    SparseEmbedResult,
)


class EmbeddingEngine(Protocol):
    """What the services need of an engine. `pinyon.engine.engine.Engine` is the real one."""

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        """Vectors of `request.inputs` in their order. Raises InputTooLong, InvalidRequest, Overloaded, Unavailable."""
        ...

    async def embed_documents(self, spec: ModelSpec, request: EmbedDocumentsRequest) -> EmbedDocumentsResult:
        """Vectors of the chunks of documents. Raises as `embed` does, at ("documents", ...) and ("model",)."""
        ...

    async def embed_sparse(self, spec: ModelSpec, request: EmbedRequest) -> SparseEmbedResult:
        """As `embed`, for a model of sparse vectors."""
        ...

    async def rerank(self, spec: ModelSpec, request: RerankRequest) -> RerankResult:
        """By a cross-encoder. Raises InputTooLong at ("query",) or ("documents", position), and as `embed` does."""
        ...


@dataclass(frozen=True, slots=True)
class InferenceService:
    """The inference verbs over one catalogue and one engine. `prices` are USD a million tokens."""

    catalogue: Catalogue
    engine: EmbeddingEngine
    prices: Mapping[str, float] = field(default_factory=dict)

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        """Texts to dense vectors. Raises NotFound, InvalidRequest, InputTooLong, Overloaded, Unavailable."""
        spec = self._dense(request.model)
        check_inputs(request.inputs)
        if request.dimension is not None:
            spec.check_dimension(request.dimension, ("dimension",))
        self.catalogue.folder(spec)  # the clear error, if the weights are not here
        local = self.catalogue.stand_in(spec)
        if local is None:
            result = await self.engine.embed(spec, request)
            vectors = result.vectors
        else:
            result = await self.engine.embed(local, stand_ins.dense_request(request, spec, local))
            vectors = stand_ins.dense_vectors(result, request, spec)
        return EmbedResult(request.model, vectors, result.tokens, self._cost(spec, result.tokens))

    async def embed_documents(self, request: EmbedDocumentsRequest) -> EmbedDocumentsResult:
        """Documents to vectors of their chunks. Raises as `embed` does."""
        spec = self._dense(request.model)
        check_documents(request.documents)
        if request.dimension is not None:
            spec.check_dimension(request.dimension, ("dimension",))
        self.catalogue.folder(spec)
        local = self.catalogue.stand_in(spec)
        if local is None:
            result = await self.engine.embed_documents(spec, request)
        else:
            result = await self._stand_in_documents(request, spec, local)
        return EmbedDocumentsResult(request.model, result.vectors, result.tokens, self._cost(spec, result.tokens))

    async def _stand_in_documents(
        self, request: EmbedDocumentsRequest, spec: ModelSpec, local: ModelSpec
    ) -> EmbedDocumentsResult:
        """Each chunk as a text of its own: a stand-in reads too little for a document."""
        asked = stand_ins.chunks_request(request)
        try:
            found = await self.engine.embed(local, stand_ins.dense_request(asked, spec, local))
        except InvalidRequest as error:
            error.param = stand_ins.chunk_param(error.param, request)
            raise
        return stand_ins.chunk_vectors(found, request, stand_ins.dense_vectors(found, asked, spec))

    async def embed_sparse(self, request: EmbedRequest) -> SparseEmbedResult:
        """Texts to sparse vectors. Raises as `embed` does."""
        spec = self._embedder(request.model)
        if spec.vector_type != "sparse":
            reason = f"must be a model of sparse vectors; {request.model!r} gives dense vectors"
            raise InvalidRequest(reason, ("model",))
        check_inputs(request.inputs)
        self.catalogue.folder(spec)
        local = self.catalogue.stand_in(spec)
        if local is None:
            result = await self.engine.embed_sparse(spec, request)
        else:
            result = await self.engine.embed_sparse(local, stand_ins.sparse_request(request, spec, local))
        return SparseEmbedResult(request.model, result.embeddings, result.tokens, self._cost(spec, result.tokens))

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Documents by their relevance to a query, best first; equal scores keep the request's order."""
        spec = self.catalogue.get(request.model)
        if spec.task != "rerank":
            raise InvalidRequest(f"must be a reranking model; {request.model!r} is an embedding model", ("model",))
        check_text(request.query, ("query",))
        if not request.documents:
            raise InvalidRequest("must hold at least one document", ("documents",))
        for position, document in enumerate(request.documents):
            check_text(document, ("documents", position))
        if request.top_n is not None and request.top_n < 1:
            raise InvalidRequest("must be 1 or more", ("top_n",))
        self.catalogue.folder(spec)
        local = self.catalogue.stand_in(spec)
        if (local or spec).ranks_with is not None:
            asked = EmbedRequest(request.model, [request.query, *request.documents], truncate=request.truncate)
            embedder = self.catalogue.carrier(spec)
            if local is not None:
                asked = stand_ins.dense_request(asked, spec, embedder)
            return await self._rank_by_cosine(embedder, replace(asked, model=embedder.name), request)
        if local is None:
            result = await self.engine.rerank(spec, request)
        else:
            result = await self.engine.rerank(local, stand_ins.rerank_request(request, local))
        return replace(result, model=request.model)

    async def _rank_by_cosine(self, embedder: ModelSpec, asked: EmbedRequest, request: RerankRequest) -> RerankResult:
        """`asked` are the request's query and its documents."""
        try:
            embedded = await self.engine.embed(embedder, asked)
        except InputTooLong as error:
            place = error.param[1]
            assert isinstance(place, int)
            param = ("query",) if place == 0 else ("documents", place - 1)
            raise InputTooLong(error.tokens, error.limit, param) from None
        vectors = embedded.vectors.astype(np.float32, copy=False)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        cosines = vectors[1:] @ vectors[0]  # [documents]
        # Clipped after ranking, so that documents of negative cosine keep their order.
        scores = np.clip(cosines, 0.0, 1.0).astype(np.float32)
        return RerankResult.ranked(request.model, cosines, scores, request.top_n, int(embedded.tokens.sum()))

    def list_models(self, task: str | None = None, vector_type: str | None = None) -> dict[str, ModelSpec]:
        """Every name, aliases too, with the model it stands for, here or not.

        `vector_type` leaves only embedding models of that kind.

        An alias may have the name of a model: then it hides that model, as it does everywhere.
        """
        named = {name: self.catalogue.get(name) for name in (*self.catalogue.specs, *self.catalogue.aliases)}
        return {
            name: spec
            for name, spec in named.items()
            if (task is None or spec.task == task) and (vector_type is None or spec.vector_type == vector_type)
        }

    def get_model(self, name: str) -> ModelSpec:
        """Raises NotFound."""
        return self.catalogue.get(name)

    def _dense(self, name: str) -> ModelSpec:
        spec = self._embedder(name)
        if spec.vector_type == "sparse":
            raise InvalidRequest(f"must be a model of dense vectors; {name!r} gives sparse vectors", ("model",))
        return spec

    def stand_in(self, name: str) -> str | None:
        """The local model that is run in the place of the model of this name or alias, if there is one."""
        spec = self.catalogue.specs.get(self.catalogue.aliases.get(name, name))
        return None if spec is None else self.catalogue.stand_ins.get(spec.name)

    def _embedder(self, name: str) -> ModelSpec:
        spec = self.catalogue.get(name)
        if spec.task != "embed":
            raise InvalidRequest(f"must be an embedding model; {name!r} is a reranking model", ("model",))
        return spec

    def _cost(self, spec: ModelSpec, tokens: IntArray) -> float:
        return float(tokens.sum()) * self.prices.get(spec.name, 0.0) / 1e6


def check_inputs(inputs: Sequence[Input]) -> None:
    """Raises InvalidRequest for no input at all, an empty one, or a text that no tokenizer should see."""
    if not inputs:
        raise InvalidRequest("must hold at least one input", ("inputs",))
    for position, text in enumerate(inputs):
        if isinstance(text, str):
            check_text(text, ("inputs", position))
        elif len(text) == 0:
            raise InvalidRequest("must not be empty", ("inputs", position))


def check_documents(documents: Sequence[Sequence[str]]) -> None:
    """Raises InvalidRequest for no document, one without chunks, and a chunk that no tokenizer should see."""
    if not documents:
        raise InvalidRequest("must hold at least one document", ("documents",))
    for position, chunks in enumerate(documents):
        if not chunks:
            raise InvalidRequest("must hold at least one chunk", ("documents", position))
        for number, chunk in enumerate(chunks):
            check_text(chunk, ("documents", position, number))


def check_text(text: str, param: tuple[str | int, ...]) -> None:
    """Raises InvalidRequest for an empty text and for one with NUL, which tokenizers and C strings end at."""
    if not text:
        raise InvalidRequest("must not be empty", param)
    if "\0" in text:
        raise InvalidRequest("must not contain the NUL character", param)
