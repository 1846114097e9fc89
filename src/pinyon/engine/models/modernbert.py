"""ModernBERT (Warner et al., 2024, arXiv 2412.13663): rotary positions, gated units, norms before each half of a block.

Most layers see a window around each token, every few see the whole text, each kind with frequencies of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from pinyon.engine.models import activations, rotary
from pinyon.engine.models.activations import ACTIVATIONS
from pinyon.engine.ops import Ops, Rotation, TokenTensors

T = TypeVar("T")

LayerType = Literal["full_attention", "sliding_attention"]


class ModernBertConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`. `frequencies` are not in the file as such: see `read_config`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int = 8192
    hidden_activation: str = "gelu"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    decoder_bias: bool = True
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    classifier_pooling: Literal["cls", "mean"] = "cls"
    local_attention: int = 128  # tokens, half of them on each side
    layer_types: tuple[LayerType, ...] = ()
    frequencies: Mapping[LayerType, tuple[float, ...]] = {}

    def __post_init__(self) -> None:
        activations.check("hidden_activation", self.hidden_activation)
        activations.check("classifier_activation", self.classifier_activation)
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not a multiple of num_attention_heads")
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError("layer_types does not have num_hidden_layers entries")

    @property
    def max_positions(self) -> int:
        return self.max_position_embeddings


def read_config(config: Mapping[str, Any]) -> ModernBertConfig:
    """Older folders say `global_attn_every_n_layers`, newer ones `layer_types`; the same with frequencies."""
    layers, every = config.get("num_hidden_layers", 0), config.get("global_attn_every_n_layers", 3)
    if not isinstance(layers, int) or not isinstance(every, int) or every < 1:
        raise ValueError("num_hidden_layers and global_attn_every_n_layers must be integers")
    types = config.get("layer_types") or ["sliding_attention" if n % every else "full_attention" for n in range(layers)]
    read = msgspec.convert({**config, "layer_types": types, "frequencies": {}}, ModernBertConfig)
    head_dim = read.hidden_size // read.num_attention_heads
    named = config.get("rope_parameters") or {}
    thetas: dict[LayerType, tuple[str, float]] = {
        "full_attention": ("global_rope_theta", 160_000.0),
        "sliding_attention": ("local_rope_theta", 10_000.0),
    }
    frequencies: dict[LayerType, tuple[float, ...]] = {}
    for kind, (key, default) in thetas.items():
        own = {"rope_theta": config.get(key, default)} | dict(named.get(kind) or {})
        frequencies[kind] = tuple(rotary.read({"rope_parameters": own}, head_dim, default))
    return msgspec.structs.replace(read, frequencies=frequencies)


def hidden_states(ops: Ops[T], config: ModernBertConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states, normalised: [batch, tokens, dim]."""
    x = ops.lookup(_table(ops, config), tokens.ids)
    x = _norm(ops, config, x, "embeddings.norm")
    rotations = {kind: ops.rotation(tokens.ids, config.frequencies[kind]) for kind in sorted(set(config.layer_types))}
    for layer, kind in enumerate(config.layer_types):
        name = f"layers.{layer}."
        # The embeddings are normalised already.
        normal = _norm(ops, config, x, name + "attn_norm") if layer else x
        window = config.local_attention // 2 if kind == "sliding_attention" else None
        x = ops.add(x, _attention(ops, config, normal, tokens.mask, rotations[kind], window, name + "attn."))
        normal = _norm(ops, config, x, name + "mlp_norm")
        both = ops.linear(normal, name + "mlp.Wi", 2 * config.intermediate_size, bias=config.mlp_bias)
        inner, gate = ops.split(both, 2)
        inner = ops.multiply(ops.activation(inner, ACTIVATIONS[config.hidden_activation]), gate)
        x = ops.add(x, ops.linear(inner, name + "mlp.Wo", config.hidden_size, bias=config.mlp_bias))
    return _norm(ops, config, x, "final_norm")


def _attention(
    ops: Ops[T], config: ModernBertConfig, x: T, mask: T, rotation: Rotation[T], window: int | None, name: str
) -> T:
    together = ops.linear(x, name + "Wqkv", 3 * config.hidden_size, bias=config.attention_bias)
    query, key, value = (ops.split_heads(part, config.num_attention_heads) for part in ops.split(together, 3))
    query, key = ops.rotate(query, rotation), ops.rotate(key, rotation)
    attended = ops.merge_heads(ops.attention(query, key, value, mask, window=window))
    return ops.linear(attended, name + "Wo", config.hidden_size, bias=config.attention_bias)


def _norm(ops: Ops[T], config: ModernBertConfig, x: T, name: str) -> T:
    return ops.layer_norm(x, name, config.norm_eps, bias=config.norm_bias)


def _head(ops: Ops[T], config: ModernBertConfig, x: T) -> T:
    x = ops.linear(x, "head.dense", config.hidden_size, bias=config.classifier_bias)
    return _norm(ops, config, ops.activation(x, ACTIVATIONS[config.classifier_activation]), "head.norm")


def _table(ops: Ops[T], config: ModernBertConfig) -> T:
    return ops.weight("embeddings.tok_embeddings.weight", (config.vocab_size, config.hidden_size))


def classify(ops: Ops[T], config: ModernBertConfig, hidden: T, tokens: TokenTensors[T]) -> T:
    """ModernBertForSequenceClassification's logit: [batch, 1]."""
    mean = config.classifier_pooling == "mean"
    pooled = ops.mean_tokens(hidden, tokens) if mean else ops.first_token(hidden, tokens)
    return ops.linear(_head(ops, config, pooled), "classifier", 1)


def predict(ops: Ops[T], config: ModernBertConfig, hidden: T) -> T:
    """ModernBertForMaskedLM's logits: [batch, tokens, vocabulary]. The last layer is the table of token embeddings."""
    logits = ops.product(_head(ops, config, hidden), _table(ops, config))
    return ops.add(logits, ops.weight("decoder.bias", (config.vocab_size,))) if config.decoder_bias else logits
