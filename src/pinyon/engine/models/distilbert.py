"""DistilBERT (Sanh et al., 2019, arXiv 1910.01108): half of BERT's layers, and no token types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pinyon.engine.models import activations
from pinyon.engine.models.activations import ACTIVATIONS
from pinyon.engine.ops import Ops, TokenTensors

T = TypeVar("T")

EPSILON = 1e-12  # of every layer normalisation; the config has no key for it


class DistilBertConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`."""

    hidden_size: int = msgspec.field(name="dim")
    hidden_dim: int
    vocab_size: int
    n_layers: int
    n_heads: int
    activation: str = "gelu"
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False  # such tables are in the checkpoint, too

    def __post_init__(self) -> None:
        activations.check("activation", self.activation)
        if self.n_heads < 1 or self.hidden_size % self.n_heads:
            raise ValueError("dim is not a multiple of n_heads")

    @property
    def max_positions(self) -> int:
        return self.max_position_embeddings


def read_config(config: Mapping[str, Any]) -> DistilBertConfig:
    return msgspec.convert(config, DistilBertConfig)


def hidden_states(ops: Ops[T], config: DistilBertConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states: [batch, tokens, dim]."""
    size = config.hidden_size
    positions = ops.weight("embeddings.position_embeddings.weight", (config.max_position_embeddings, size))
    x = ops.lookup(ops.weight("embeddings.word_embeddings.weight", (config.vocab_size, size)), tokens.ids)
    x = ops.add(x, ops.lookup(positions, ops.positions(tokens.ids)))
    x = ops.layer_norm(x, "embeddings.LayerNorm", EPSILON)
    for layer in range(config.n_layers):
        name = f"transformer.layer.{layer}."
        query, key, value = (
            ops.split_heads(ops.linear(x, f"{name}attention.{part}_lin", size), config.n_heads) for part in "qkv"
        )
        attended = ops.merge_heads(ops.attention(query, key, value, tokens.mask))
        attended = ops.linear(attended, name + "attention.out_lin", size)
        x = ops.layer_norm(ops.add(attended, x), name + "sa_layer_norm", EPSILON)
        inner = ops.activation(ops.linear(x, name + "ffn.lin1", config.hidden_dim), ACTIVATIONS[config.activation])
        inner = ops.linear(inner, name + "ffn.lin2", size)
        x = ops.layer_norm(ops.add(inner, x), name + "output_layer_norm", EPSILON)
    return x


def classify(ops: Ops[T], config: DistilBertConfig, hidden: T, tokens: TokenTensors[T]) -> T:
    """DistilBertForSequenceClassification's logit: [batch, 1]."""
    inner = ops.activation(ops.linear(ops.first_token(hidden, tokens), "pre_classifier", config.hidden_size), "relu")
    return ops.linear(inner, "classifier", 1)


def predict(ops: Ops[T], config: DistilBertConfig, hidden: T) -> T:
    """DistilBertForMaskedLM's logits: [batch, tokens, vocabulary]. The last layer is the table of word embeddings."""
    x = ops.activation(ops.linear(hidden, "vocab_transform", config.hidden_size), ACTIVATIONS[config.activation])
    x = ops.layer_norm(x, "vocab_layer_norm", EPSILON)
    table = ops.weight("embeddings.word_embeddings.weight", (config.vocab_size, config.hidden_size))
    return ops.add(ops.product(x, table), ops.weight("vocab_projector.bias", (config.vocab_size,)))
