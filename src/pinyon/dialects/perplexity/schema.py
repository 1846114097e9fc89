"""The bodies of Perplexity's requests. Source: Perplexity OpenAPI document, `EmbeddingsRequest` and
`ContextualizedEmbeddingsRequest`."""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_INPUTS = 512
MAX_DOCUMENTS = 512
MAX_CHUNKS = 16_000  # of all documents together

Text = Annotated[str, msgspec.Meta(min_length=1)]


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`POST /v1/embeddings`. The document allows null nowhere."""

    input: Text | Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MAX_INPUTS)]
    model: str
    dimensions: int | msgspec.UnsetType = msgspec.UNSET
    encoding_format: str = "base64_int8"


class ContextualizedEmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`POST /v1/contextualizedembeddings`: documents, each a list of its chunks in their order."""

    input: Annotated[
        list[Annotated[list[Text], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1, max_length=MAX_DOCUMENTS)
    ]
    model: str
    dimensions: int | msgspec.UnsetType = msgspec.UNSET
    encoding_format: str = "base64_int8"
