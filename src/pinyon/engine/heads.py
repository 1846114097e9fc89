"""From hidden states to what a model is for, written against `Ops` so that it runs inside the model's graph.

One vector a text: pooling. Weighted terms: SPLADE (Formal et al., 2021, arXiv 2109.10086). A cross-encoder's score is
its architecture's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from pinyon.engine.ops import Ops, TokenTensors

T = TypeVar("T")

Pooling = Literal["mean", "cls", "last"]
SpladeActivation = Literal["relu", "log1p_relu"]


@dataclass(frozen=True, slots=True)
class Splade:
    """How logits of a masked language model become weights of terms."""

    strategy: Literal["max", "sum"] = "max"
    activation: SpladeActivation = "relu"


def pool(ops: Ops[T], pooling: Pooling, hidden: T, tokens: TokenTensors[T]) -> T:
    """Hidden states [batch, tokens, dim] -> [spans, dim]. Special tokens count, as in sentence-transformers."""
    if pooling == "cls":
        return ops.first_token(hidden, tokens)
    if pooling == "last":
        return ops.last_token(hidden, tokens)
    return ops.mean_tokens(hidden, tokens)


def splade(ops: Ops[T], head: Splade, logits: T, tokens: TokenTensors[T]) -> T:
    """Logits [batch, tokens, vocabulary] -> weights, 0 or more: [batch, vocabulary]."""

    def weights(x: T) -> T:
        x = ops.activation(x, "log1p")
        return ops.activation(x, "log1p") if head.activation == "log1p_relu" else x

    if head.strategy == "sum":
        return ops.sum_tokens(weights(ops.activation(logits, "relu")), tokens.mask)
    # The logarithm rises, so the greatest may be taken first.
    return weights(ops.max_tokens(logits, tokens.mask))
