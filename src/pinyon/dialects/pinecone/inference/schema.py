"""The bodies of Pinecone's inference plane, as its OpenAPI files have them (the same from 2025-04 to 2026-07).

The vendor's schemas leave unknown keys open; here they are refused, so that a misspelt key is not silently dropped. An
optional key may be null, which is the same as leaving it out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from pinyon.catalog import Scalar


class EmbedInput(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class EmbedBody(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    inputs: list[EmbedInput]
    parameters: Mapping[str, object] | None = None


class RerankBody(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    query: str
    documents: list[msgspec.Raw]  # objects; kept as bytes, so that they go back exactly as they came
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    parameters: Mapping[str, object] | None = None


class SupportedParameter(msgspec.Struct, omit_defaults=True):
    parameter: str
    type: str
    value_type: str
    required: bool
    allowed_values: tuple[str | int, ...] | UnsetType = UNSET
    min: int | float | UnsetType = UNSET
    max: int | float | UnsetType = UNSET
    default: Scalar | UnsetType = UNSET


class ModelInfo(msgspec.Struct, omit_defaults=True):
    model: str
    short_description: str
    type: str
    supported_parameters: list[SupportedParameter]
    vector_type: str | UnsetType = UNSET
    default_dimension: int | UnsetType = UNSET
    modality: str | UnsetType = UNSET
    max_sequence_length: int | UnsetType = UNSET
    max_batch_size: int | UnsetType = UNSET
    provider_name: str | UnsetType = UNSET
    supported_dimensions: tuple[int, ...] | UnsetType = UNSET
    supported_metrics: tuple[str, ...] | UnsetType = UNSET


class ModelInfoList(msgspec.Struct):
    models: list[ModelInfo]


EMBED_BODY = msgspec.json.Decoder(EmbedBody)
RERANK_BODY = msgspec.json.Decoder(RerankBody)
DOCUMENT = msgspec.json.Decoder(dict[str, object])
