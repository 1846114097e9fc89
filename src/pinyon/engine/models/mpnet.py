"""MPNet (Song et al., 2020, arXiv 2004.09297): BERT's blocks, with a bias of each head by how far apart tokens are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pinyon.engine.models import activations
from pinyon.engine.models.activations import ACTIVATIONS
from pinyon.engine.ops import Ops, TokenTensors

T = TypeVar("T")

FARTHEST = 128  # tokens; all that is farther apart has one bias


class MPNetConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 514
    relative_attention_num_buckets: int = 32
    pad_token_id: int = 1

    def __post_init__(self) -> None:
        activations.check("hidden_act", self.hidden_act)
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not a multiple of num_attention_heads")

    @property
    def max_positions(self) -> int:
        return self.max_position_embeddings - self.pad_token_id - 1


def read_config(config: Mapping[str, Any]) -> MPNetConfig:
    return msgspec.convert(config, MPNetConfig)


def bucket(distance: int, buckets: int) -> int:
    """The row of the table of biases for a key that stands so many tokens after its query.

    Half of the rows are for keys after their query, half for those before. In each half the first rows are for a
    distance each, and the others for ranges that grow with the distance.
    """
    half = buckets // 2
    side, away = (half if distance > 0 else 0), abs(distance)
    exact = half // 2
    if away < exact:
        return side + away
    grown = math.log(away / exact) / math.log(FARTHEST / exact) * (half - exact)
    # A distance that begins a range must not fall below it by the last digit of a logarithm.
    return side + min(exact + int(grown + 1e-9), half - 1)


def hidden_states(ops: Ops[T], config: MPNetConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states: [batch, tokens, dim]."""
    size = config.hidden_size
    positions = ops.weight("embeddings.position_embeddings.weight", (config.max_position_embeddings, size))
    x = ops.lookup(ops.weight("embeddings.word_embeddings.weight", (config.vocab_size, size)), tokens.ids)
    x = ops.add(x, ops.lookup(positions, ops.positions(tokens.ids, config.pad_token_id + 1)))
    x = ops.layer_norm(x, "embeddings.LayerNorm", config.layer_norm_eps)
    farthest = config.max_positions - 1
    buckets = config.relative_attention_num_buckets
    table = ops.weight("encoder.relative_attention_bias.weight", (buckets, config.num_attention_heads))
    rows = [bucket(distance, buckets) for distance in range(-farthest, farthest + 1)]
    bias = ops.distance_bias(tokens.ids, table, rows)
    for layer in range(config.num_hidden_layers):
        x = _block(ops, config, x, tokens.mask, bias, f"encoder.layer.{layer}.")
    return x


def _block(ops: Ops[T], config: MPNetConfig, x: T, mask: T, bias: T, name: str) -> T:
    size = config.hidden_size
    query, key, value = (
        ops.split_heads(ops.linear(x, f"{name}attention.attn.{part}", size), config.num_attention_heads)
        for part in "qkv"
    )
    attended = ops.merge_heads(ops.attention(query, key, value, mask, bias=bias))
    attended = ops.linear(attended, name + "attention.attn.o", size)
    x = ops.layer_norm(ops.add(attended, x), name + "attention.LayerNorm", config.layer_norm_eps)
    inner = ops.linear(x, name + "intermediate.dense", config.intermediate_size)
    inner = ops.linear(ops.activation(inner, ACTIVATIONS[config.hidden_act]), name + "output.dense", size)
    return ops.layer_norm(ops.add(inner, x), name + "output.LayerNorm", config.layer_norm_eps)
