"""The body of Perplexity's request. Source: Perplexity OpenAPI document, `EmbeddingsRequest`."""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_INPUTS = 512

Text = Annotated[str, msgspec.Meta(min_length=1)]


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`POST /v1/embeddings`. The document allows null nowhere."""

    input: Text | Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MAX_INPUTS)]
    model: str
    dimensions: int | msgspec.UnsetType = msgspec.UNSET
    encoding_format: str = "base64_int8"
