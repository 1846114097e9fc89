"""The activations that a `config.json` may name."""

from __future__ import annotations

from collections.abc import Mapping

from pinyon.engine.ops import Activation

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def check(name: str, value: str) -> None:
    """Raises ValueError for an activation that is not one of these; `name` is its key in the config."""
    if value not in ACTIVATIONS:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(ACTIVATIONS)}")
