"""Records of text: embedding them with the index's own model, searching by text, required terms, reranking."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pinyon.errors import InvalidRequest, Param
from pinyon.filters import Filter
from pinyon.services.inference import InferenceService
from pinyon.services.record_checks import MAX_RECORDS, Draft, check_id, checked_metadata
from pinyon.state.records import Embed, IndexRecord, VectorType
from pinyon.stores.base import Metadata, Record, SparseVector
from pinyon.types import EmbedRequest, FloatArray, RerankRequest, SparseEmbedding, Truncate

NO_MODEL = "Integrated inference is not configured for this index"


# What a model makes of a text: one of a dense vector, [dimension], and a sparse one.
Vector = tuple[FloatArray, None] | tuple[None, SparseVector]


@dataclass(frozen=True, slots=True)
class TextDraft:
    """A record whose vector is to be made of one of its fields."""

    id: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Rerank:
    """`query` None: the text that was searched for. `top_n` None: all."""

    model: str
    fields: Sequence[str]
    query: str | None = None
    top_n: int | None = None
    truncate: Truncate = Truncate.END


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """By one of `text`, `id` and a vector. `terms`: words that the text of every hit must hold."""

    top_k: int
    text: str | None = None
    id: str | None = None
    values: FloatArray | None = None
    sparse: SparseVector | None = None
    filter: Filter | None = None
    terms: Sequence[str] | None = None
    rerank: Rerank | None = None
    fields: Sequence[str] | None = None  # of each hit; None: all


@dataclass(frozen=True, slots=True)
class Hit:
    """`fields`: of the record's metadata, its text too, what was asked for and what it was reranked by."""

    id: str
    score: float
    fields: Metadata


@dataclass(frozen=True, slots=True)
class SearchResult:
    """`embed_tokens` None: no text was embedded. `reranked`: how many documents were. `model` embedded the text."""

    hits: Sequence[Hit]
    read_units: int
    sequence: int
    embed_tokens: int | None = None
    reranked: int = 0
    model: str | None = field(default=None)


def text_field(record: IndexRecord, param: Param) -> str:
    """The field that the index's model reads. Raises InvalidRequest at `param` if the index has no model."""
    return _field(model_of(record, param))


def model_of(record: IndexRecord, param: Param = ()) -> Embed:
    """Raises InvalidRequest at `param` if the index has no model."""
    if record.embed is None:
        raise InvalidRequest(NO_MODEL, param)
    return record.embed


def _field(embed: Embed) -> str:
    return embed.field_map.get("text") or next(iter(embed.field_map.values()), "text")


async def embedded(
    drafts: Sequence[TextDraft], record: IndexRecord, inference: InferenceService, max_texts: int
) -> tuple[list[Draft], int]:
    """Records with the vectors of their texts, and how many tokens those had."""
    embed = model_of(record, ())
    highest = min(max_texts, MAX_RECORDS)
    if not 1 <= len(drafts) <= highest:
        raise InvalidRequest(f"must hold 1 to {highest} records, and holds {len(drafts)}", ("records",))
    name = _field(embed)
    texts = []
    for position, draft in enumerate(drafts):
        # What can be refused is refused before the model has worked for it.
        check_id(draft.id, ("records", position, "id"))
        checked_metadata(draft.fields, ("records", position, "metadata"))
        text = draft.fields.get(name)
        if not isinstance(text, str):
            wrong = "must be a string" if name in draft.fields else "is required"
            raise InvalidRequest(f"{wrong}: it is the text that the index's model reads", ("records", position, name))
        texts.append(text)
    request = _request(embed, texts, record, embed.write_parameters, "passage")
    try:
        vectors, tokens = await _vectors(request, record, inference)
    except InvalidRequest as error:
        match error.param:
            case ("inputs", int(position)):
                error.param = ("records", position, name)
        raise
    for position, (_, sparse) in enumerate(vectors):
        if sparse is not None and not sparse.indices.size:
            raise InvalidRequest("holds no word that can be searched for", ("records", position, name))
    made = zip(drafts, vectors, strict=True)
    return [Draft(draft.id, values, sparse, draft.fields) for draft, (values, sparse) in made], tokens


async def embedded_query(text: str, record: IndexRecord, inference: InferenceService) -> tuple[Vector, int]:
    """The vector of a text to search for, and how many tokens it had. A sparse one may be empty: it finds nothing."""
    embed = model_of(record, ("text",))
    request = _request(embed, [text], record, embed.read_parameters, "query")
    try:
        (vector,), tokens = await _vectors(request, record, inference)
    except InvalidRequest as error:
        if error.param[:1] == ("inputs",):
            error.param = ("text",)
        raise
    return vector, tokens


async def _vectors(request: EmbedRequest, record: IndexRecord, inference: InferenceService) -> tuple[list[Vector], int]:
    """A vector for each input, of the index's kind, and how many tokens they had together."""
    if record.vector_type is VectorType.SPARSE:
        found = await inference.embed_sparse(request)
        return [(None, _sparse(embedding)) for embedding in found.embeddings], int(found.tokens.sum())
    result = await inference.embed(request)
    rows = np.asarray(result.vectors, dtype=np.float32)  # [inputs, dimension]
    return [(row, None) for row in rows], int(result.tokens.sum())


def _sparse(embedding: SparseEmbedding) -> SparseVector:
    return SparseVector(embedding.indices, embedding.values)


def _request(
    embed: Embed, texts: list[str], record: IndexRecord, parameters: Mapping[str, object] | None, input_type: str
) -> EmbedRequest:
    """The parameters were checked when the index got its model; where one is not given, the vendor's default holds."""
    given = parameters or {}
    max_tokens = given.get("max_tokens_per_sequence")
    return EmbedRequest(
        model=embed.model,
        inputs=texts,
        input_type=str(given.get("input_type", input_type)),
        truncate=Truncate(str(given.get("truncate", Truncate.END))),
        dimension=record.dimension,
        max_tokens=max_tokens if isinstance(max_tokens, int) else None,
    )


def check_search(search: Search, record: IndexRecord) -> None:
    """What a search may ask for together. Raises InvalidRequest."""
    by_vector = search.values is not None or search.sparse is not None
    ways = [name for name, given in (("text", search.text is not None), ("values", by_vector)) if given]
    if search.id is not None:
        ways.append("id")
    if not ways:
        raise InvalidRequest("must hold inputs, a vector or an id", ())
    if len(ways) > 1:
        raise InvalidRequest("must not be given together with another way to search", (ways[-1],))
    if search.text is not None:
        model_of(record, ("text",))
    if search.terms is not None and (record.embed is None or record.vector_type is not VectorType.SPARSE):
        raise InvalidRequest("is supported for sparse indexes with integrated embedding alone", ("terms",))
    if search.rerank is not None and search.rerank.query is None and search.text is None:
        raise InvalidRequest("is required where the search is not by text", ("rerank", "query"))


_TOKEN = re.compile(r"\w+")


def has_terms(record: Record, field: str, terms: Sequence[str]) -> bool:
    """Whether the field holds every word of every term, in any order and any case."""
    text = record.metadata.get(field)
    if not isinstance(text, str):
        return False
    words = set(_TOKEN.findall(text.lower()))
    return all(word in words for term in terms for word in _TOKEN.findall(term.lower()))


def shown(search: Search, record: IndexRecord) -> Callable[[Record], Record | None]:
    """What a search shows of a record that it finds: the fields that are asked for or reranked by; None where a term is
    missing."""
    field = None if search.terms is None else text_field(record, ("terms",))
    wanted = None
    if search.fields is not None:
        wanted = {*search.fields, *(() if search.rerank is None else search.rerank.fields)}

    def show(found: Record) -> Record | None:
        if search.terms is not None and field is not None and not has_terms(found, field, search.terms):
            return None
        if wanted is None:
            return found
        return Record(found.id, metadata={name: value for name, value in found.metadata.items() if name in wanted})

    return show


async def reranked(hits: list[Hit], search: Search, inference: InferenceService) -> tuple[list[Hit], int]:
    """The hits by the reranking model, with its scores, and how many documents it read. Core paths begin with
    "rerank"."""
    rerank = search.rerank
    assert rerank is not None
    spec = inference.get_model(rerank.model)
    if not rerank.fields:
        raise InvalidRequest("must hold at least one field", ("rerank", "fields"))
    if spec.max_rank_fields is not None and len(rerank.fields) > spec.max_rank_fields:
        raise InvalidRequest(f"must hold at most {spec.max_rank_fields}, for this model", ("rerank", "fields"))
    if spec.task == "rerank" and len(hits) > spec.max_batch:
        raise InvalidRequest(f"must be at most {spec.max_batch}: this model ranks no more documents", ("top_k",))
    if rerank.top_n is not None and rerank.top_n < 1:
        raise InvalidRequest("must be 1 or more", ("rerank", "top_n"))
    if not hits:
        return [], 0
    query = search.text if rerank.query is None else rerank.query
    assert query is not None
    documents = [_document(hit, rerank.fields) for hit in hits]
    try:
        result = await inference.rerank(
            RerankRequest(rerank.model, query, documents, top_n=rerank.top_n, truncate=rerank.truncate)
        )
    except InvalidRequest as error:
        match error.param:
            case ("documents", *_):
                error.param = ("rerank", "fields")
            case _:
                error.param = ("rerank", *error.param)
        raise
    ranked = zip(result.indices, result.scores, strict=True)
    return [Hit(hits[int(i)].id, float(score), hits[int(i)].fields) for i, score in ranked], len(documents)


def _document(hit: Hit, fields: Sequence[str]) -> str:
    """The hit's fields in the order asked for, one a line; empty ones are left out."""
    found = []
    for position, name in enumerate(fields):
        text = hit.fields.get(name)
        if not isinstance(text, str):
            raise InvalidRequest("must be a field of every hit, and a string", ("rerank", "fields", position))
        found.append(text)
    return "\n".join(filter(None, found))
