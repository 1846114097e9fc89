"""Serving a vendor's model by a local one, for development without the weights: its name, limits and dimensions are the
vendor's, the numbers are not.

Pure: requests for the local model, and its vectors in the vendor's dimension.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import numpy as np

from pinyon.catalog import ModelSpec
from pinyon.engine import encoding
from pinyon.errors import InvalidRequest, Param
from pinyon.types import (
    EmbedDocumentsRequest,
    EmbedDocumentsResult,
    EmbedRequest,
    EmbedResult,
    Encoding,
    FloatArray,
    RerankRequest,
    Truncate,
)

# Of a text, for a model whose vendor says no limit.
_MOST_TOKENS = 32_768


def dense_request(request: EmbedRequest, spec: ModelSpec, local: ModelSpec) -> EmbedRequest:
    """What the local model is asked instead: texts up to the vendor's limit are taken, and read as far as it can.

    Raises InvalidRequest for token ids: they are of the vendor's vocabulary.
    """
    for position, given in enumerate(request.inputs):
        if not isinstance(given, str):
            reason = f"must be text: {request.model!r} is served by a stand-in, which does not know the vendor's tokens"
            raise InvalidRequest(reason, ("inputs", position))
    limit = spec.max_tokens or _MOST_TOKENS
    return replace(
        request,
        model=local.name,
        dimension=None,
        encoding=Encoding.FLOAT32,
        max_tokens=min(limit, request.max_tokens or limit),
        reads_less=True,
    )


def dense_vectors(found: EmbedResult, request: EmbedRequest, spec: ModelSpec) -> encoding.Vectors:
    """The local model's vectors, [inputs, any], as the vendor's: its dimension and the form that was asked for."""
    vectors = np.asarray(found.vectors, dtype=np.float32)
    fitted = with_dimension(vectors, request.dimension or spec.default_dimension or vectors.shape[1])
    return encoding.encode(fitted, dimension=None, encoding=request.encoding, normalise=True, int8="unit")


def with_dimension(vectors: FloatArray, dimension: int) -> FloatArray:
    """Cut or filled up with zeros: [n, any] -> [n, dimension], of unit length either way."""
    kept = vectors[:, :dimension]
    padded = np.zeros((len(vectors), dimension), np.float32)
    padded[:, : kept.shape[1]] = kept
    return encoding.unit(padded)


def chunks_request(request: EmbedDocumentsRequest) -> EmbedRequest:
    """The chunks of all documents as texts. A stand-in sees no chunk's neighbours."""
    return EmbedRequest(
        request.model,
        [chunk for chunks in request.documents for chunk in chunks],
        truncate=Truncate.NONE,
        dimension=request.dimension,
        encoding=request.encoding,
        max_total_tokens=request.max_total_tokens,
    )


def chunk_param(param: Param, request: EmbedDocumentsRequest) -> Param:
    """A path of `chunks_request` as one of the documents'."""
    match param:
        case ("inputs", int(place)):
            for position, chunks in enumerate(request.documents):
                if place < len(chunks):
                    return ("documents", position, place)
                place -= len(chunks)
        case ("inputs",):
            return ("documents",)
    return param


def chunk_vectors(
    found: EmbedResult, request: EmbedDocumentsRequest, vectors: encoding.Vectors
) -> EmbedDocumentsResult:
    """Vectors of all chunks, [chunks, any], and their counts of tokens, document by document."""
    ends = list(accumulate(map(len, request.documents)))
    parts = [vectors[end - len(one) : end] for end, one in zip(ends, request.documents, strict=True)]
    tokens = [found.tokens[end - len(one) : end].sum() for end, one in zip(ends, request.documents, strict=True)]
    return EmbedDocumentsResult(found.model, parts, np.array(tokens, dtype=np.int32))


def sparse_request(request: EmbedRequest, spec: ModelSpec, local: ModelSpec) -> EmbedRequest:
    limit = spec.max_tokens or _MOST_TOKENS
    # What the vendor lets a request ask for may be more than its own default.
    return replace(request, model=local.name, max_tokens=request.max_tokens or limit, reads_less=True)


def rerank_request(request: RerankRequest, local: ModelSpec) -> RerankRequest:
    """A cross-encoder reads query and document together, as far as it can."""
    return replace(request, model=local.name, truncate=Truncate.END)
