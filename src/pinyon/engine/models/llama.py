"""Llama (Touvron et al., 2023, arXiv 2302.13971; Llama 3.2) and Qwen3 (arXiv 2505.09388), as text encoders.

Rotary positions, RMS norms before each half of a block, fewer heads of keys and values than of queries, SwiGLU. Qwen3
normalises queries and keys head by head. Either is causal, or was trained on to see both ways: llama-nemotron-embed
(`llama_bidirec`), and pplx-embed (`bidirectional_pplx_qwen3`, arXiv 2602.11151).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pinyon.engine.models import activations, rotary
from pinyon.engine.models.activations import ACTIVATIONS
from pinyon.engine.ops import Ops, Rotation, TokenTensors

T = TypeVar("T")


class LlamaConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`. The last three are not in the file as such: see `read_config`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    use_sliding_window: bool = False
    causal: bool = True
    head_norms: bool = False  # of queries and keys
    frequencies: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        activations.check("hidden_act", self.hidden_act)
        if self.num_key_value_heads < 1 or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads is not a multiple of num_key_value_heads")
        if self.use_sliding_window:
            raise ValueError("use_sliding_window is not supported")

    @property
    def max_positions(self) -> int:
        return self.max_position_embeddings

    @property
    def head_dim(self) -> int:
        return 2 * len(self.frequencies)


def read_config(config: Mapping[str, Any]) -> LlamaConfig:
    return _read(config, causal=True, head_norms=False, theta=1e4)


def read_bidirectional_config(config: Mapping[str, Any]) -> LlamaConfig:
    return _read(config, causal=False, head_norms=False, theta=1e4)


def read_qwen3_config(config: Mapping[str, Any]) -> LlamaConfig:
    return _read(config, causal=config.get("is_causal") is not False, head_norms=True, theta=1e6)


def read_bidirectional_qwen3_config(config: Mapping[str, Any]) -> LlamaConfig:
    return _read(config, causal=False, head_norms=True, theta=1e6)


def _read(config: Mapping[str, Any], *, causal: bool, head_norms: bool, theta: float) -> LlamaConfig:
    heads = {"num_key_value_heads": config.get("num_attention_heads")}
    own = {"causal": causal, "head_norms": head_norms, "frequencies": ()}
    read = msgspec.convert({**heads, **config, **own}, LlamaConfig)
    head_dim = config.get("head_dim") or read.hidden_size // read.num_attention_heads
    if not isinstance(head_dim, int):
        raise ValueError("head_dim must be an integer")
    return msgspec.structs.replace(read, frequencies=tuple(rotary.read(config, head_dim, theta)))


def hidden_states(ops: Ops[T], config: LlamaConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states, normalised: [batch, tokens, dim]."""
    x = ops.lookup(ops.weight("embed_tokens.weight", (config.vocab_size, config.hidden_size)), tokens.ids)
    rotation = ops.rotation(tokens.ids, config.frequencies)
    for layer in range(config.num_hidden_layers):
        name = f"layers.{layer}."
        x = ops.add(x, _attention(ops, config, x, tokens.mask, rotation, name))
        x = ops.add(x, _feed_forward(ops, config, x, name))
    return ops.rms_norm(x, "norm", config.rms_norm_eps)


def _attention(ops: Ops[T], config: LlamaConfig, x: T, mask: T, rotation: Rotation[T], name: str) -> T:
    x = ops.rms_norm(x, name + "input_layernorm", config.rms_norm_eps)
    name += "self_attn."

    def heads(part: str, count: int) -> T:
        size = count * config.head_dim
        return ops.split_heads(ops.linear(x, f"{name}{part}_proj", size, bias=config.attention_bias), count)

    query, key = heads("q", config.num_attention_heads), heads("k", config.num_key_value_heads)
    value = heads("v", config.num_key_value_heads)
    if config.head_norms:
        query = ops.rms_norm(query, name + "q_norm", config.rms_norm_eps)
        key = ops.rms_norm(key, name + "k_norm", config.rms_norm_eps)
    query, key = ops.rotate(query, rotation), ops.rotate(key, rotation)
    attended = ops.merge_heads(ops.attention(query, key, value, mask, causal=config.causal))
    return ops.linear(attended, name + "o_proj", config.hidden_size, bias=config.attention_bias)


def _feed_forward(ops: Ops[T], config: LlamaConfig, x: T, name: str) -> T:
    x = ops.rms_norm(x, name + "post_attention_layernorm", config.rms_norm_eps)
    gate, up = (
        ops.linear(x, f"{name}mlp.{part}_proj", config.intermediate_size, bias=config.mlp_bias)
        for part in ("gate", "up")
    )
    inner = ops.multiply(ops.activation(gate, ACTIVATIONS[config.hidden_act]), up)
    return ops.linear(inner, name + "mlp.down_proj", config.hidden_size, bias=config.mlp_bias)
