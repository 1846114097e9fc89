"""BERT (Devlin et al., 2018, arXiv 1810.04805): absolute positions, token types, post-layer-norm blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pinyon.engine.ops import Activation, Ops, TokenTensors

T = TypeVar("T")

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class BertConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`; defaults are those of the format, for keys that old checkpoints lack."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 512
    position_embedding_type: str = "absolute"

    def __post_init__(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.position_embedding_type != "absolute":
            raise ValueError(f"position_embedding_type {self.position_embedding_type!r} is not 'absolute'")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not a multiple of num_attention_heads")


def read_config(config: Mapping[str, Any]) -> BertConfig:
    return msgspec.convert(config, BertConfig)


def hidden_states(ops: Ops[T], config: BertConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states: [batch, tokens, dim]."""
    embeddings = "embeddings."
    x = ops.lookup(ops.weight(embeddings + "word_embeddings.weight"), tokens.ids)
    x = ops.add(x, ops.lookup(ops.weight(embeddings + "token_type_embeddings.weight"), tokens.types))
    positions = ops.lookup(ops.weight(embeddings + "position_embeddings.weight"), ops.positions(tokens.ids))
    x = ops.layer_norm(ops.add(x, positions), embeddings + "LayerNorm", config.layer_norm_eps)
    for layer in range(config.num_hidden_layers):
        x = _block(ops, config, x, tokens.mask, f"encoder.layer.{layer}.")
    return x


def _block(ops: Ops[T], config: BertConfig, x: T, mask: T, name: str) -> T:
    heads = config.num_attention_heads
    query, key, value = (
        ops.split_heads(ops.linear(x, f"{name}attention.self.{part}"), heads) for part in ("query", "key", "value")
    )
    attended = ops.merge_heads(ops.attention(query, key, value, mask))
    attended = ops.linear(attended, name + "attention.output.dense")
    x = ops.layer_norm(ops.add(attended, x), name + "attention.output.LayerNorm", config.layer_norm_eps)
    inner = ops.activation(ops.linear(x, name + "intermediate.dense"), ACTIVATIONS[config.hidden_act])
    return ops.layer_norm(
        ops.add(ops.linear(inner, name + "output.dense"), x), name + "output.LayerNorm", config.layer_norm_eps
    )
