"""A model folder in Hugging Face layout, read: config, weights, pooling, normalising, limits, prompts.

Weights come from safetensors only: nothing is unpickled, and no code of the folder is run. Everything that is wrong
with a folder is one ModelError that names the file and what was expected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pinyon.catalog import ModelSpec, Parameter, Source
from pinyon.engine.heads import Pooling
from pinyon.engine.models import ARCHITECTURES, Architecture
from pinyon.engine.weights import ModelError, SafetensorsWeights

__all__ = ["ModelError", "ModelFiles", "SafetensorsWeights", "check_digests", "describe", "read_folder"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a folder says of its model."""

    folder: Path
    architecture: Architecture
    config: Any  # what `architecture.read_config` gave
    hidden_size: int
    max_tokens: int  # a sequence, special tokens included
    pooling: Pooling
    normalise: bool
    prompts: Mapping[str, str]  # name -> prefix
    default_prompt: str  # the prefix of a text for which no prompt is asked

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / "tokenizer.json"

    def vocabulary(self, weights: SafetensorsWeights) -> int:
        """The number of token ids that the model has embeddings for."""
        return weights.shape(self.architecture.word_embeddings)[0]

    def prompt(self, input_type: str | None, own: Mapping[str, str]) -> str:
        """The prefix for an input type. `own` are the catalogue's prompts, which win over the folder's.

        A passage is called `document` in many folders, so either name finds the other.
        """
        prompts = own or self.prompts
        if input_type is None:
            return "" if own else self.default_prompt
        twin = {"passage": "document", "document": "passage"}.get(input_type)
        return prompts.get(input_type, prompts.get(twin, "") if twin else "")


def read_folder(folder: Path) -> ModelFiles:
    """Reads everything but the weights. Raises ModelError."""
    config = _read_json(folder / "config.json", "a model's config.json")
    model_type = config.get("model_type")
    architecture = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{folder / 'config.json'}: model_type {model_type!r} is not one that Pinyon runs ({known})")
    try:
        typed = architecture.read_config(config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"{folder / 'tokenizer.json'}: there is no such file, and a model needs its tokenizer")
    pooling, normalise = _read_modules(folder)
    prompts, default_prompt = _read_prompts(folder)
    return ModelFiles(
        folder=folder,
        architecture=architecture,
        config=typed,
        hidden_size=typed.hidden_size,
        max_tokens=_read_max_tokens(folder, typed.max_positions),
        pooling=pooling,
        normalise=normalise,
        prompts=prompts,
        default_prompt=default_prompt,
    )


def describe(folder: Path, name: str) -> ModelSpec:
    """The catalogue entry of a folder that the operator named. Raises ModelError."""
    files = read_folder(folder)
    parameters = [
        Parameter("truncate", "one_of", "string", allowed=("END", "NONE", "START"), default="END"),
        Parameter("dimension", "one_of", "integer", allowed=(files.hidden_size,), default=files.hidden_size),
        Parameter("input_type", "one_of", "string", allowed=("query", "passage")),
    ]
    return ModelSpec(
        name=name,
        task="embed",
        vector_type="dense",
        description=f"A model of this server: {name}.",
        provider="local",
        license="as its folder says",
        dimensions=(files.hidden_size,),
        default_dimension=files.hidden_size,
        max_tokens=files.max_tokens,
        metrics=("cosine", "dotproduct", "euclidean"),
        parameters=tuple(parameters),
        source=Source(folder=str(folder)),
    )


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Compares files with their SHA-256. Raises ModelError."""
    for name, expected in digests.items():
        path = folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from None
        if found != expected:
            raise ModelError(
                f"{path}: its SHA-256 is {found}, and should be {expected}: the file is damaged or another"
            )


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file, and {what} was expected") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as {what}: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not {what}: a JSON object was expected")
    return value


def _read_optional(path: Path, what: str) -> dict[str, Any]:
    return _read_json(path, what) if path.is_file() else {}


def _read_modules(folder: Path) -> tuple[Pooling, bool]:
    """Pooling and normalising, as sentence-transformers' `modules.json` says. Without one: mean, not normalised."""
    path = folder / "modules.json"
    if not path.is_file():
        return "mean", False
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable as a list of modules: {error}") from None
    pooling: Pooling = "mean"
    normalise = False
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            inside = str(module.get("path", ""))
            if Path(inside).is_absolute() or ".." in Path(inside).parts:
                raise ModelError(f"{path}: names a module outside its folder")
            pooling = _read_pooling(folder / inside / "config.json")
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise ModelError(f"{path}: module {kind!r} is not one that Pinyon runs (Transformer, Pooling, Normalize)")
    return pooling, normalise


def _read_pooling(path: Path) -> Pooling:
    config = _read_json(path, "a pooling module's config.json")
    # Newer folders name one mode, older ones have a switch for each.
    modes = {name.removeprefix("pooling_mode_"): on for name, on in config.items() if name.startswith("pooling_mode_")}
    mode = config.get("pooling_mode")
    if config.get("include_prompt") is False:
        raise ModelError(f"{path}: pooling without the prompt's tokens (include_prompt false) is not supported")
    chosen = mode if isinstance(mode, str) else next((name for name, on in modes.items() if on is True), None)
    if sum(on is True for on in modes.values()) > 1:
        raise ModelError(f"{path}: several pooling modes at once are not supported")
    known: dict[str | None, Pooling] = {
        "mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last",
    }  # fmt: skip
    if chosen not in known:
        raise ModelError(f"{path}: pooling {chosen!r} is not one that Pinyon runs (mean, cls, lasttoken)")
    return known[chosen]


def _read_prompts(folder: Path) -> tuple[dict[str, str], str]:
    path = folder / "config_sentence_transformers.json"
    config = _read_optional(path, "sentence-transformers' settings")
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelError(f"{path}: prompts must be texts by name")
    default = config.get("default_prompt_name")
    if default is None:
        return prompts, ""
    if default not in prompts:
        raise ModelError(f"{path}: default_prompt_name {default!r} is not one of its prompts")
    return prompts, prompts[default]


def _read_max_tokens(folder: Path, positions: int) -> int:
    """The smallest limit that the folder states."""
    limits = [positions]
    sentence = _read_optional(folder / "sentence_bert_config.json", "sentence-transformers' limits")
    tokenizer = _read_optional(folder / "tokenizer_config.json", "a tokenizer's settings")
    for stated in (sentence.get("max_seq_length"), tokenizer.get("model_max_length")):
        # Folders without a limit carry a very large number.
        if isinstance(stated, int | float) and not isinstance(stated, bool) and 0 < stated < 1e9:
            limits.append(int(stated))
    return min(limits)
