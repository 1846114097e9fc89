"""Model definitions, and the table that finds one by a folder's `model_type`.

A new architecture is a module here and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pinyon.engine.models import bert
from pinyon.engine.ops import Ops, TokenTensors


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to read a checkpoint's `config.json`, and how to compute hidden states from tokens.

    `read_config` raises msgspec.ValidationError. `hidden_states` gives [batch, tokens, dim]. `prefixes` are what may
    stand before every weight's name: a checkpoint saved with a head on top has its encoder under a name.
    `word_embeddings` is the name of the table of token embeddings. `max_positions` and `hidden_size` read limits off a
    config.
    """

    read_config: Callable[[Mapping[str, Any]], Any]
    hidden_states: Callable[[Ops[Any], Any, TokenTensors[Any]], Any]
    prefixes: tuple[str, ...]
    word_embeddings: str
    max_positions: Callable[[Any], int]
    hidden_size: Callable[[Any], int]


ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture(
        read_config=bert.read_config,
        hidden_states=bert.hidden_states,
        prefixes=("", "bert."),
        word_embeddings="embeddings.word_embeddings.weight",
        max_positions=lambda config: int(config.max_position_embeddings),
        hidden_size=lambda config: int(config.hidden_size),
    ),
}
