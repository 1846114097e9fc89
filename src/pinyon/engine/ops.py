"""The tensor operations that a model definition may use.

A definition is written once against `Ops`; a backend gives each operation its meaning: OpenVINO's adds a node to a
graph.
`T` is whatever the backend calls a tensor. Sizes in comments: batch (sequences), tokens (padded length), dim (hidden
size), heads, head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]


@dataclass(frozen=True, slots=True)
class TokenTensors(Generic[T]):
    """What every text model reads."""

    ids: T  # [batch, tokens] integer; padding holds any valid id
    mask: T  # [batch, tokens] integer, 1 for a token and 0 for padding
    types: T  # [batch, tokens] integer, the segment of each token: 0, or 1 in the second text of a pair


class Ops(Protocol[T]):
    """A backend's operations. Weights are asked for by their name in the checkpoint."""

    def weight(self, name: str) -> T:
        """A weight of the checkpoint. Raises ModelError if it is not there."""
        ...

    def lookup(self, table: T, rows: T) -> T:
        """Rows of a table [n, dim] by integer index: [...] -> [..., dim]."""
        ...

    def positions(self, ids: T) -> T:
        """0, 1, 2, ... for each token of a sequence: [batch, tokens] -> [tokens]."""
        ...

    def add(self, a: T, b: T) -> T:
        """Elementwise sum, with numpy's broadcasting."""
        ...

    def linear(self, x: T, name: str) -> T:
        """x @ weight.T + bias, of `name`.weight [out, in] and `name`.bias [out]: [..., in] -> [..., out]."""
        ...

    def layer_norm(self, x: T, name: str, epsilon: float) -> T:
        """Layer normalisation over the last axis, with `name`.weight and `name`.bias."""
        ...

    def activation(self, x: T, kind: Activation) -> T:
        """An elementwise nonlinearity."""
        ...

    def split_heads(self, x: T, heads: int) -> T:
        """[batch, tokens, heads * head_dim] -> [batch, heads, tokens, head_dim]."""
        ...

    def merge_heads(self, x: T) -> T:
        """[batch, heads, tokens, head_dim] -> [batch, tokens, heads * head_dim]."""
        ...

    def attention(self, query: T, key: T, value: T, mask: T) -> T:
        """Scaled dot-product attention over tokens where mask [batch, tokens] is 1; q, k, v as split_heads gives
        them."""
        ...

    def mean_tokens(self, x: T, mask: T) -> T:
        """The mean over tokens where the mask is 1: [batch, tokens, dim] -> [batch, dim]."""
        ...

    def first_token(self, x: T) -> T:
        """[batch, tokens, dim] -> [batch, dim]."""
        ...
