"""The bodies of Pinecone's data plane at 2025-04 to 2026-07, as its OpenAPI files have them.

One schema serves all versions: an older client cannot miss a key that a newer version has. Unknown keys are refused, so
that a misspelt key is not silently dropped. An optional key may be null, which is the same as leaving it out. The
bounds of numbers and lengths are the services', but for those that keep a number within its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

UINT32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class SparseValues(msgspec.Struct, forbid_unknown_fields=True):
    indices: list[UINT32]
    values: list[float]


class Vector(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    id: str
    values: list[float] | None = None  # NOTE: the SDKs send [] beside sparseValues
    sparse_values: SparseValues | None = None
    metadata: dict[str, object] | None = None


class UpsertBody(msgspec.Struct, forbid_unknown_fields=True):
    vectors: list[Vector]
    namespace: str | None = None


class QueryBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    top_k: int
    namespace: str | None = None
    filter: dict[str, object] | None = None
    include_values: bool | None = None
    include_metadata: bool | None = None
    vector: list[float] | None = None
    sparse_vector: SparseValues | None = None
    id: str | None = None
    # Both tune the approximate search of dedicated indexes. Checked, and of no effect here.
    scan_factor: Annotated[float, Meta(ge=0.5, le=4.0)] | None = None
    max_candidates: Annotated[int, Meta(ge=1, le=100_000)] | None = None


class FetchByMetadataBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    filter: dict[str, object] | None = None
    namespace: str | None = None
    limit: int | None = None
    pagination_token: str | None = None


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    id: str | None = None
    values: list[float] | None = None
    sparse_values: SparseValues | None = None
    set_metadata: dict[str, object] | None = None
    namespace: str | None = None
    filter: dict[str, object] | None = None
    dry_run: bool | None = None


class DeleteBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    ids: list[str] | None = None
    delete_all: bool | None = None
    namespace: str | None = None
    filter: dict[str, object] | None = None


class StatsBody(msgspec.Struct, forbid_unknown_fields=True):
    filter: dict[str, object] | None = None


class FieldSchema(msgspec.Struct, forbid_unknown_fields=True):
    filterable: bool | None = None


class NamespaceSchema(msgspec.Struct, forbid_unknown_fields=True):
    fields: dict[str, FieldSchema]


class CreateNamespaceBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    schema: NamespaceSchema | None = None


class SearchInputs(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class SearchVector(msgspec.Struct, forbid_unknown_fields=True):
    values: list[float] | None = None
    sparse_values: list[float] | None = None
    sparse_indices: list[UINT32] | None = None


class MatchTerms(msgspec.Struct, forbid_unknown_fields=True):
    terms: list[str]
    strategy: str = "all"


class SearchQuery(msgspec.Struct, forbid_unknown_fields=True):
    top_k: int
    filter: dict[str, object] | None = None
    inputs: SearchInputs | None = None
    vector: SearchVector | None = None
    id: str | None = None
    match_terms: MatchTerms | None = None


class SearchRerank(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    rank_fields: list[str]
    top_n: int | None = None
    parameters: Mapping[str, object] | None = None
    query: str | None = None


class SearchBody(msgspec.Struct, forbid_unknown_fields=True):
    query: SearchQuery
    fields: list[str] | None = None
    rerank: SearchRerank | None = None


class ImportErrorMode(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    on_error: str | None = None


class StartImportBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    uri: str
    integration_id: Annotated[str, Meta(max_length=1000)] | None = None
    error_mode: ImportErrorMode | None = None


UPSERT = msgspec.json.Decoder(UpsertBody)
QUERY = msgspec.json.Decoder(QueryBody)
FETCH_BY_METADATA = msgspec.json.Decoder(FetchByMetadataBody)
UPDATE = msgspec.json.Decoder(UpdateBody)
DELETE = msgspec.json.Decoder(DeleteBody)
STATS = msgspec.json.Decoder(StatsBody)
CREATE_NAMESPACE = msgspec.json.Decoder(CreateNamespaceBody)
SEARCH = msgspec.json.Decoder(SearchBody)
LINE = msgspec.json.Decoder(dict[str, object])
START_IMPORT = msgspec.json.Decoder(StartImportBody)
