"""The bodies of OpenAI's requests. Source: OpenAI API reference, "Create embeddings"."""

from __future__ import annotations

from typing import Annotated

import msgspec

# The upper bound keeps an id within int32; whether the model's vocabulary has it is the engine's to say.
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`POST /v1/embeddings`. An array of `input` holds one kind of item only; msgspec cannot say so, convert does.

    NOTE: null is no value for an optional parameter: "None is not of type 'integer' - 'dimensions'".
    """

    input: str | list[str | TokenId | list[TokenId]]
    model: str
    encoding_format: str = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | msgspec.UnsetType = msgspec.UNSET
    user: str | msgspec.UnsetType = msgspec.UNSET
