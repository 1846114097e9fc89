"""NomicBERT (Nussbaum et al., 2024, arXiv 2402.01613): BERT with rotary positions, SwiGLU and no biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pinyon.engine.models import rotary
from pinyon.engine.ops import Ops, TokenTensors

T = TypeVar("T")

# The published config is GPT-2's with additions; transformers' own says the same in BERT's words.
_OTHER_NAMES = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
    "rope_theta": "rotary_emb_base",
}
# What the published config may say, and what alone is known here.
_ONLY: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("swiglu", "silu"),
    "prenorm": (False,),
    "use_rms_norm": (False, None),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "parallel_block": (False,),
    "num_experts": (0, None),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "causal": (False,),
}


class NomicBertConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12
    type_vocab_size: int = 2
    frequencies: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is not a multiple of num_attention_heads")

    @property
    def max_positions(self) -> int:
        return self.max_position_embeddings


def read_config(config: Mapping[str, Any]) -> NomicBertConfig:
    """Raises ValueError for a variant of the architecture that is not the published text models'."""
    named = {**config, "frequencies": ()}
    for name, other in _OTHER_NAMES.items():
        if other in config:
            named[name] = config[other]
    for name, allowed in _ONLY.items():
        if name in named and named[name] not in allowed:
            raise ValueError(f"{_OTHER_NAMES.get(name, name)} {named[name]!r} is not supported, only {allowed[0]!r}")
    read = msgspec.convert(named, NomicBertConfig)
    frequencies = rotary.read(named, read.hidden_size // read.num_attention_heads, 1000.0)
    return msgspec.structs.replace(read, frequencies=tuple(frequencies))


def hidden_states(ops: Ops[T], config: NomicBertConfig, tokens: TokenTensors[T]) -> T:
    """The last layer's hidden states: [batch, tokens, dim]."""
    size = config.hidden_size
    x = ops.lookup(ops.weight("embeddings.word_embeddings.weight", (config.vocab_size, size)), tokens.ids)
    if config.type_vocab_size:
        types = ops.weight("embeddings.token_type_embeddings.weight", (config.type_vocab_size, size))
        x = ops.add(x, ops.lookup(types, tokens.types))
    x = ops.layer_norm(x, "emb_ln", config.layer_norm_eps)
    rotation = ops.rotation(tokens.ids, config.frequencies)
    for layer in range(config.num_hidden_layers):
        name = f"encoder.layers.{layer}."
        together = ops.linear(x, name + "attn.Wqkv", 3 * size, bias=False)
        query, key, value = (ops.split_heads(part, config.num_attention_heads) for part in ops.split(together, 3))
        query, key = ops.rotate(query, rotation), ops.rotate(key, rotation)
        attended = ops.merge_heads(ops.attention(query, key, value, tokens.mask))
        attended = ops.linear(attended, name + "attn.out_proj", size, bias=False)
        x = ops.layer_norm(ops.add(attended, x), name + "norm1", config.layer_norm_eps)
        inner, gate = (
            ops.linear(x, f"{name}mlp.{part}", config.intermediate_size, bias=False) for part in ("fc11", "fc12")
        )
        inner = ops.multiply(inner, ops.activation(gate, "silu"))
        inner = ops.linear(inner, name + "mlp.fc2", size, bias=False)
        x = ops.layer_norm(ops.add(inner, x), name + "norm2", config.layer_norm_eps)
    return x
