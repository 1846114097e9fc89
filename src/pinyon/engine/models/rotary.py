"""The frequencies of rotary position embeddings (Su et al., 2021, arXiv 2104.09864), as a `config.json` gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def frequencies(theta: float, head_dim: int) -> list[float]:
    """Radians a token, for each of head_dim / 2 pairs of values, fastest first."""
    return [theta ** (-pair / head_dim) for pair in range(0, head_dim, 2)]


def read(config: Mapping[str, Any], head_dim: int, default_theta: float) -> list[float]:
    """`rope_parameters` of newer folders; `rope_theta` and `rope_scaling` of older ones. Raises ValueError."""
    scaling: object = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise ValueError("rope_scaling must be an object")
    theta = _number({"rope_theta": default_theta} | dict(config) | dict(scaling), "rope_theta")
    if theta <= 0 or head_dim % 2:
        raise ValueError("rope_theta must be above 0, and a head's dimension even")
    plain = frequencies(theta, head_dim)
    match scaling.get("rope_type", scaling.get("type", "default")):
        case "default":
            return plain
        case "linear":
            return [frequency / _number(scaling, "factor") for frequency in plain]
        case "llama3":
            return [_llama3(frequency, scaling) for frequency in plain]
        case other:
            raise ValueError(f"rope_type {other!r} is not one that Pinyon runs (default, linear, llama3)")


def _llama3(frequency: float, scaling: Mapping[str, Any]) -> float:
    """Slow pairs are slowed down by a factor, fast ones are left, and those between are in between (Llama 3.1)."""
    factor, low, high = (_number(scaling, key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = _number(scaling, "original_max_position_embeddings") * frequency / (2 * math.pi)
    if turns < low:
        return frequency / factor
    if turns > high:
        return frequency
    share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency


def _number(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} of the rotary positions must be a number")
    return float(value)
