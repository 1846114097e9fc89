"""From hidden states to one vector a text: pooling, written against `Ops` so that it runs inside the model's graph."""

from __future__ import annotations

from typing import Literal, TypeVar

from pinyon.engine.ops import Ops, TokenTensors

T = TypeVar("T")

Pooling = Literal["mean", "cls", "last"]


def pool(ops: Ops[T], pooling: Pooling, hidden: T, tokens: TokenTensors[T]) -> T:
    """Hidden states [batch, tokens, dim] -> [batch, dim]. Special tokens count, as in sentence-transformers."""
    if pooling == "cls":
        return ops.first_token(hidden)
    if pooling == "last":
        return ops.last_token(hidden, tokens.mask)
    return ops.mean_tokens(hidden, tokens.mask)
