"""BERT (Devlin et al., 2018, arXiv 1810.04805) and RoBERTa (Liu et al., 2019, arXiv 1907.11692), also as XLM-RoBERTa.

Absolute positions, token types, post-layer-norm blocks. RoBERTa counts positions from behind the padding's id, and
names its heads differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pinyon.engine.models import activations
from pinyon.engine.models.activations import ACTIVATIONS
from pinyon.engine.ops import Ops, TokenTensors

T = TypeVar("T")


class BertConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`; defaults are those of the format, for keys that old checkpoints lack."""

    hidden_size: int
    vocab_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    position_embedding_type: str = "absolute"
    first_position: int = 0  # not in the file: RoBERTa's, by `read_roberta_config`

    def __post_init__(self) -> None:
        activations.check("hidden_act", self.hidden_act)
        if self.position_embedding_type != "absolute":
            raise ValueError(f"position_embedding_type {self.position_embedding_type!r} is not 'absolute'")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not a multiple of num_attention_heads")

    @property
    def max_positions(self) -> int:
        return self.max_position_embeddings - self.first_position


def read_config(config: Mapping[str, Any]) -> BertConfig:
    return msgspec.convert({**config, "first_position": 0}, BertConfig)


def read_roberta_config(config: Mapping[str, Any]) -> BertConfig:
    padding = config.get("pad_token_id", 1)
    return msgspec.convert({**config, "first_position": padding + 1}, BertConfig)


def hidden_states(ops: Ops[T], config: BertConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states: [batch, tokens, dim]."""

    def table(kind: str, rows: int) -> T:
        return ops.weight(f"embeddings.{kind}_embeddings.weight", (rows, config.hidden_size))

    positions = ops.positions(tokens.ids, config.first_position)
    x = ops.lookup(table("word", config.vocab_size), tokens.ids)
    x = ops.add(x, ops.lookup(table("token_type", config.type_vocab_size), tokens.types))
    x = ops.add(x, ops.lookup(table("position", config.max_position_embeddings), positions))
    x = ops.layer_norm(x, "embeddings.LayerNorm", config.layer_norm_eps)
    for layer in range(config.num_hidden_layers):
        x = _block(ops, config, x, tokens.mask, f"encoder.layer.{layer}.")
    return x


def _block(ops: Ops[T], config: BertConfig, x: T, mask: T, name: str) -> T:
    size = config.hidden_size
    query, key, value = (
        ops.split_heads(ops.linear(x, f"{name}attention.self.{part}", size), config.num_attention_heads)
        for part in ("query", "key", "value")
    )
    attended = ops.merge_heads(ops.attention(query, key, value, mask))
    attended = ops.linear(attended, name + "attention.output.dense", size)
    x = ops.layer_norm(ops.add(attended, x), name + "attention.output.LayerNorm", config.layer_norm_eps)
    inner = ops.linear(x, name + "intermediate.dense", config.intermediate_size)
    inner = ops.linear(ops.activation(inner, ACTIVATIONS[config.hidden_act]), name + "output.dense", size)
    return ops.layer_norm(ops.add(inner, x), name + "output.LayerNorm", config.layer_norm_eps)


def classify(ops: Ops[T], config: BertConfig, hidden: T, tokens: TokenTensors[T]) -> T:
    """BertForSequenceClassification's logit: [batch, 1]."""
    pooled = ops.activation(ops.linear(ops.first_token(hidden, tokens), "pooler.dense", config.hidden_size), "tanh")
    return ops.linear(pooled, "classifier", 1)


def classify_roberta(ops: Ops[T], config: BertConfig, hidden: T, tokens: TokenTensors[T]) -> T:
    """(XLM)RobertaForSequenceClassification's logit: [batch, 1]."""
    inner = ops.activation(ops.linear(ops.first_token(hidden, tokens), "classifier.dense", config.hidden_size), "tanh")
    return ops.linear(inner, "classifier.out_proj", 1)


def predict(ops: Ops[T], config: BertConfig, hidden: T) -> T:
    """BertForMaskedLM's logits: [batch, tokens, vocabulary]. The last layer is the table of word embeddings."""
    head = "cls.predictions."
    x = ops.linear(hidden, head + "transform.dense", config.hidden_size)
    x = ops.activation(x, ACTIVATIONS[config.hidden_act])
    x = ops.layer_norm(x, head + "transform.LayerNorm", config.layer_norm_eps)
    return _decode(ops, config, x, head + "bias")


def predict_roberta(ops: Ops[T], config: BertConfig, hidden: T) -> T:
    """(XLM)RobertaForMaskedLM's logits: [batch, tokens, vocabulary]."""
    x = ops.activation(ops.linear(hidden, "lm_head.dense", config.hidden_size), "gelu")
    x = ops.layer_norm(x, "lm_head.layer_norm", config.layer_norm_eps)
    return _decode(ops, config, x, "lm_head.bias")


def _decode(ops: Ops[T], config: BertConfig, x: T, bias: str) -> T:
    table = ops.weight("embeddings.word_embeddings.weight", (config.vocab_size, config.hidden_size))
    return ops.add(ops.product(x, table), ops.weight(bias, (config.vocab_size,)))
