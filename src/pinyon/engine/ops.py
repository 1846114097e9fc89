"""The tensor operations that a model definition may use.

A definition is written once against `Ops`; a backend gives each operation its meaning: OpenVINO's adds a node to a
graph.
`T` is whatever the backend calls a tensor. Sizes in comments: batch (sequences), tokens (padded length), dim (hidden
size), heads, head_dim. Sequences are padded at their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh", "log1p"]


@dataclass(frozen=True, slots=True)
class TokenTensors(Generic[T]):
    """What every text model reads."""

    ids: T  # [batch, tokens] integer; padding holds any valid id
    mask: T  # [batch, tokens] integer, 1 for a token and 0 for padding
    types: T  # [batch, tokens] integer, the segment of each token: 0, or 1 in the second text of a pair
    spans: T  # [spans, 2] integer, what is pooled: each a range of the tokens of all sequences, one behind another
    members: T  # [batch * tokens, 2] integer: a token of a span, and which; the rest is filled up with [0, spans]


@dataclass(frozen=True, slots=True)
class Rotation(Generic[T]):
    """Cosine and sine of every position's angles, for `Ops.rotate`: each [tokens, head_dim]."""

    cosine: T
    sine: T


class Ops(Protocol[T]):
    """A backend's operations. Weights are asked for by their name in the checkpoint."""

    def weight(self, name: str, shape: tuple[int | None, ...]) -> T:
        """A weight of the checkpoint; None stands for any size. Raises ModelError if it is not there, and GraphError if
        it is of another shape."""
        ...

    def lookup(self, table: T, rows: T) -> T:
        """Rows of a table [n, dim] by integer index: [...] -> [..., dim]."""
        ...

    def positions(self, ids: T, first: int = 0) -> T:
        """first, first + 1, ... for the tokens of a sequence: [batch, tokens] -> [tokens]."""
        ...

    def add(self, a: T, b: T) -> T:
        """Elementwise sum, with numpy's broadcasting."""
        ...

    def multiply(self, a: T, b: T) -> T:
        """Elementwise product, with numpy's broadcasting."""
        ...

    def split(self, x: T, parts: int) -> list[T]:
        """The last axis in equal parts: [..., parts * dim] -> parts of [..., dim]."""
        ...

    def product(self, x: T, weight: T) -> T:
        """x @ weight.T, with weight [out, in]: [..., in] -> [..., out]."""
        ...

    def linear(self, x: T, name: str, size: int, *, bias: bool = True) -> T:
        """x @ weight.T + bias, of `name`.weight [size, in] and `name`.bias [size]: [..., in] -> [..., size]."""
        ...

    def layer_norm(self, x: T, name: str, epsilon: float, *, bias: bool = True) -> T:
        """Layer normalisation over the last axis, with `name`.weight and `name`.bias."""
        ...

    def rms_norm(self, x: T, name: str, epsilon: float) -> T:
        """x / sqrt(mean(x^2) + epsilon) over the last axis, times `name`.weight."""
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

    def rotation(self, ids: T, frequencies: Sequence[float]) -> Rotation[T]:
        """Angles of rotary position embeddings: position * frequency, with head_dim / 2 frequencies. Made once for all
        layers that share them."""
        ...

    def rotate(self, x: T, rotation: Rotation[T]) -> T:
        """Turns x [batch, heads, tokens, head_dim] by its positions' angles: value i of a head with value
        i + head_dim / 2."""
        ...

    def distance_bias(self, ids: T, table: T, rows: Sequence[int]) -> T:
        """A bias of each head by how far apart two tokens are: [1, heads, tokens, tokens].

        `table` is [n, heads], and rows[d + len(rows) // 2] the row in it for a key that stands d tokens after its
        query. `rows` bounds the length of a sequence: it has 2 * longest - 1 of them.
        """
        ...

    def attention(
        self, query: T, key: T, value: T, mask: T, *, causal: bool = False, window: int | None = None,
        bias: T | None = None,
    ) -> T:  # fmt: skip
        """Scaled dot-product attention over tokens where mask [batch, tokens] is 1; q, k, v as split_heads gives
        them. There may be fewer heads of keys and values, each for as many heads of queries.

        causal: a token sees those before it and itself. window: a token sees those at most so many tokens away. bias
        [1 or batch, heads, tokens, tokens] is added to the scores.
        """
        ...

    def mean_tokens(self, x: T, tokens: TokenTensors[T]) -> T:
        """The mean over the tokens of each span: [batch, tokens, dim] -> [spans, dim]."""
        ...

    def max_tokens(self, x: T, mask: T) -> T:
        """The greatest of 0 and the values of tokens where the mask is 1: [batch, tokens, dim] -> [batch, dim]."""
        ...

    def sum_tokens(self, x: T, mask: T) -> T:
        """The sum over tokens where the mask is 1: [batch, tokens, dim] -> [batch, dim]."""
        ...

    def first_token(self, x: T, tokens: TokenTensors[T]) -> T:
        """The first token of each span: [batch, tokens, dim] -> [spans, dim]."""
        ...

    def last_token(self, x: T, tokens: TokenTensors[T]) -> T:
        """The last token of each span: [batch, tokens, dim] -> [spans, dim]."""
        ...
