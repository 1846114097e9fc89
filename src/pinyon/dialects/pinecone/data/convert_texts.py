"""Pinecone's records of text: NDJSON and searches to core requests, hits to bytes. Pure: no HTTP, no store.

What is raised here names fields as the wire does; `upsert_param` and `search_param` translate the core's names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pinyon.catalog import ModelSpec
from pinyon.dialects.pinecone.data import convert
from pinyon.dialects.pinecone.data.convert import DEFAULT_NAMESPACE, REDESIGN, array, optional_filter, score
from pinyon.dialects.pinecone.data.schema import SearchBody, SearchRerank, SearchVector, SparseValues
from pinyon.dialects.pinecone.inference.convert import DOCUMENTS_PER_RERANK_UNIT, checked_parameters
from pinyon.dialects.wire import to_json
from pinyon.errors import InvalidRequest, Param
from pinyon.services.record_texts import Rerank, Search, SearchResult, TextDraft
from pinyon.stores.base import SparseVector
from pinyon.types import Truncate


def lines(body: bytes) -> Iterator[bytes]:
    """The lines of NDJSON; empty ones, such as the last, are skipped."""
    return (line for line in body.split(b"\n") if line.strip())


def draft(fields: dict[str, object], position: int) -> TextDraft:
    """One line. NOTE: `id` is an alias for `_id` (UpsertRecord in the OpenAPI files)."""
    names = [name for name in ("_id", "id") if name in fields]
    if not names:
        raise InvalidRequest("is required", ("records", position, "_id"))
    if len(names) > 1:
        raise InvalidRequest("must not be given together with _id", ("records", position, "id"))
    id = fields.pop(names[0])
    if not isinstance(id, str):
        raise InvalidRequest("must be a string", ("records", position, names[0]))
    return TextDraft(id, fields)


def upsert_param(param: Param) -> Param:
    """`records[3].genre` for `("records", 3, "metadata", "genre")`; a line's position counts from 0."""
    match param:
        case ("records", int(position), "metadata", *rest):
            return ("records", position, *rest)
        case ("records", int(position), "id"):
            return ("records", position, "_id")
    return param


def search_request(body: SearchBody, ranker: ModelSpec | None) -> Search:
    """`ranker` is the model of `body.rerank`. Raises InvalidRequest."""
    query = body.query
    if query.match_terms is not None and query.match_terms.strategy != "all":
        raise InvalidRequest("must be 'all'", ("query", "match_terms", "strategy"))
    vector = query.vector or SearchVector()
    return Search(
        top_k=query.top_k,
        text=None if query.inputs is None else query.inputs.text,
        id=query.id,
        values=None if not vector.values else array(vector.values),
        sparse=_sparse(vector),
        filter=optional_filter(query.filter, ("query", "filter")),
        terms=None if query.match_terms is None else query.match_terms.terms,
        rerank=None if body.rerank is None or ranker is None else _rerank(body.rerank, ranker),
        fields=_fields(body),
    )


def _fields(body: SearchBody) -> Sequence[str] | None:
    """None: all. NOTE: the Python SDKs 7 and 8 ask for ["*"] unless told otherwise, and mean all of them."""
    return None if body.fields is None or "*" in body.fields else body.fields


def _sparse(vector: SearchVector) -> SparseVector | None:
    indices, values = vector.sparse_indices, vector.sparse_values
    if indices is None and values is None:
        return None
    if indices is None or values is None:
        missing = "sparse_indices" if indices is None else "sparse_values"
        raise InvalidRequest("is required beside the other", ("query", "vector", missing))
    return convert.sparse_vector(SparseValues(indices, values))


def _rerank(rerank: SearchRerank, spec: ModelSpec) -> Rerank:
    if spec.task != "rerank":
        raise InvalidRequest(f"{rerank.model!r} is an embedding model, not a reranking model", ("rerank", "model"))
    try:
        given = checked_parameters(rerank.parameters, spec)
    except InvalidRequest as error:
        error.param = ("rerank", *error.param)
        raise
    truncate = given.get("truncate")
    return Rerank(
        rerank.model,
        rerank.rank_fields,
        rerank.query,
        rerank.top_n,
        Truncate(truncate) if isinstance(truncate, str) else Truncate.END,
    )


def search_param(param: Param) -> Param:
    match param:
        case ("rerank", "fields", *rest):
            return ("rerank", "rank_fields", *rest)
        case ("rerank", "truncate", *rest):
            return ("rerank", "parameters", "truncate", *rest)
        case ("text",):
            return ("query", "inputs", "text")
        case ("terms", *_):
            return ("query", "match_terms")
        case ("values", *rest):
            return ("query", "vector", "values", *rest)
        case ("sparse",):
            return ("query", "vector", "sparse_values")
        case ("sparse", name, *rest):
            return ("query", "vector", f"sparse_{name}", *rest)
        case ("id" | "top_k", *_):
            return ("query", *param)
        case ():
            return ("query",)
    return param


def search_response(found: SearchResult, body: SearchBody, namespace: str, version: str) -> bytes:
    """`{"result": {"hits": [{"_id", "_score", "fields"}]}, "usage"}`, at 2026-07 with `namespace`."""
    hits = []
    wanted = _fields(body)
    for hit in found.hits:
        fields = hit.fields if wanted is None else {n: hit.fields[n] for n in wanted if n in hit.fields}
        hits.append({"_id": hit.id, "_score": score(hit.score), "fields": fields})
    usage = {"read_units": found.read_units}
    if found.embed_tokens is not None:
        usage["embed_total_tokens"] = found.embed_tokens
    if body.rerank is not None:
        usage["rerank_units"] = -(-found.reranked // DOCUMENTS_PER_RERANK_UNIT)
    wire: dict[str, object] = {"result": {"hits": hits}, "usage": usage}
    if version >= REDESIGN:
        wire["namespace"] = namespace or DEFAULT_NAMESPACE
    return to_json(wire)
