"""Model definitions, and the table that finds one by a folder's `model_type`.

A new architecture is a module here and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pinyon.engine.models import bert, distilbert, llama, modernbert, mpnet, nomicbert
from pinyon.engine.ops import Ops, TokenTensors


class ModelConfig(Protocol):
    """What every architecture's config says of a model."""

    @property
    def hidden_size(self) -> int: ...

    @property
    def max_positions(self) -> int:
        """The longest sequence, in tokens, special tokens included."""
        ...


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to read a checkpoint's `config.json`, and how to compute from tokens what it is for.

    `read_config` raises msgspec.ValidationError or ValueError. `hidden_states` gives [batch, tokens, dim]. From those
    `classify` gives a cross-encoder's logit [batch, 1], and `predict` a masked language model's [batch, tokens,
    vocabulary]. `prefix` stands before every weight's name where a head was saved with the encoder. `word_embeddings`
    is the table of token embeddings. `pooling` is the one of a folder that names none. `int8` is how the model was
    trained to be made int8, as in `ModelSpec`.
    """

    read_config: Callable[[Mapping[str, Any]], ModelConfig]
    hidden_states: Callable[[Ops[Any], Any, TokenTensors[Any]], Any]
    prefix: str
    word_embeddings: str = "embeddings.word_embeddings.weight"
    classify: Callable[[Ops[Any], Any, Any, TokenTensors[Any]], Any] | None = None
    predict: Callable[[Ops[Any], Any, Any], Any] | None = None
    pooling: Literal["mean", "cls", "last"] = "mean"
    int8: Literal["unit", "tanh"] = "unit"


_BERT = Architecture(bert.read_config, bert.hidden_states, "bert.", classify=bert.classify, predict=bert.predict)
_ROBERTA = Architecture(
    bert.read_roberta_config, bert.hidden_states, "roberta.",
    classify=bert.classify_roberta, predict=bert.predict_roberta,
)  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Architecture(
        distilbert.read_config, distilbert.hidden_states, "distilbert.",
        classify=distilbert.classify, predict=distilbert.predict,
    ),
    "mpnet": Architecture(mpnet.read_config, mpnet.hidden_states, "mpnet."),
    "modernbert": Architecture(
        modernbert.read_config, modernbert.hidden_states, "model.", "embeddings.tok_embeddings.weight",
        classify=modernbert.classify, predict=modernbert.predict,
    ),
    "nomic_bert": Architecture(nomicbert.read_config, nomicbert.hidden_states, "nomic_bert."),
    "llama": Architecture(llama.read_config, llama.hidden_states, "model.", "embed_tokens.weight", pooling="last"),
    "llama_bidirec": Architecture(
        llama.read_bidirectional_config, llama.hidden_states, "model.", "embed_tokens.weight"
    ),
    "qwen3": Architecture(
        llama.read_qwen3_config, llama.hidden_states, "model.", "embed_tokens.weight", pooling="last"
    ),
    "bidirectional_pplx_qwen3": Architecture(
        llama.read_bidirectional_qwen3_config, llama.hidden_states, "model.", "embed_tokens.weight", int8="tanh"
    ),
}  # fmt: skip
