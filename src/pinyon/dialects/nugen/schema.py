"""The body of Nugen's request. Source: Nugen's API page on embeddings, "Request Body"."""

from __future__ import annotations

from typing import Annotated

import msgspec

# The page names no limit; this one bounds a request as OpenAI's does.
MAX_INPUTS = 2048

Text = Annotated[str, msgspec.Meta(min_length=1)]


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`POST /api/v3/inference/embeddings`."""

    input: Text | Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MAX_INPUTS)]
    model: str
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | msgspec.UnsetType = msgspec.UNSET
