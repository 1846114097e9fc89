"""A model folder in Hugging Face layout, read: config, weights, pooling, normalising, limits, prompts.

Weights come from safetensors only: nothing is unpickled, and no code of the folder is run. Everything that is wrong
with a folder is one ModelError that names the file and what was expected.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from pinyon.catalog import ModelSpec, Parameter, Source
from pinyon.engine.heads import Pooling, Splade
from pinyon.engine.models import ARCHITECTURES, Architecture, ModelConfig
from pinyon.engine.sentence_files import Modules, read_json, read_max_tokens, read_modules, read_prompts, read_separator
from pinyon.engine.weights import ModelError, SafetensorsWeights

__all__ = ["ModelError", "ModelFiles", "SafetensorsWeights", "check_digests", "describe", "for_spec", "read_folder"]


# What a model is for: vectors, weighted terms, or the relevance of a text to a query.
Kind = Literal["dense", "sparse", "rerank"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a folder says of its model."""

    folder: Path
    architecture: Architecture
    config: ModelConfig  # what `architecture.read_config` gave
    kind: Kind
    max_tokens: int  # a sequence, special tokens included
    pooling: Pooling  # of a dense model
    normalise: bool
    splade: Splade  # of a sparse model
    int8: Literal["unit", "tanh"]
    prompts: Mapping[str, str]  # name -> prefix
    default_prompt: str  # the prefix of a text for which no prompt is asked
    separator: str | None  # the token that stands between the chunks of a document

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
    path = folder / "config.json"
    config = read_json(path, "a model's config.json")
    model_type = config.get("model_type")
    architecture = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{path}: model_type {model_type!r} is not one that Pinyon runs ({known})")
    try:
        typed = architecture.read_config(config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from None
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"{folder / 'tokenizer.json'}: there is no such file, and a model needs its tokenizer")
    modules = read_modules(folder)
    kind = _kind(path, config, architecture, modules)
    modules = modules or Modules()
    prompts, default_prompt = read_prompts(folder)
    return ModelFiles(
        folder=folder,
        architecture=architecture,
        config=typed,
        kind=kind,
        max_tokens=read_max_tokens(folder, typed.max_positions),
        pooling=modules.pooling or architecture.pooling,
        normalise=modules.normalise,
        splade=modules.splade or Splade(),
        int8="tanh" if modules.tanh else architecture.int8,
        prompts=prompts,
        default_prompt=default_prompt,
        separator=read_separator(folder),
    )


def _kind(path: Path, config: Mapping[str, Any], architecture: Architecture, modules: Modules | None) -> Kind:
    """By the modules behind the encoder, or by the class that the checkpoint was saved from."""
    named = config.get("architectures")
    saved_from = str(named[0]) if isinstance(named, list) and named else ""
    if modules is not None and modules.pooling is not None:
        return "dense"
    if saved_from.endswith("ForSequenceClassification"):
        if architecture.classify is None:
            raise ModelError(f"{path}: {saved_from} is not a head that Pinyon runs")
        labels = config.get("id2label")
        if len(labels) != 1 if isinstance(labels, dict) else config.get("num_labels") != 1:
            raise ModelError(f"{path}: a model that ranks has one label, and this one has another number")
        return "rerank"
    if (modules is not None and modules.splade is not None) or saved_from.endswith("ForMaskedLM"):
        if architecture.predict is None:
            raise ModelError(f"{path}: {saved_from or 'a masked language model'} is not a head that Pinyon runs")
        if config.get("tie_word_embeddings") is False:
            raise ModelError(f"{path}: tie_word_embeddings false is not supported")
        return "sparse"
    return "dense"


def describe(folder: Path, name: str) -> ModelSpec:
    """The catalogue entry of a folder that the operator named. Raises ModelError."""
    files = read_folder(folder)
    parameters = [Parameter("truncate", "one_of", "string", allowed=("END", "NONE", "START"), default="END")]
    spec = ModelSpec(
        name=name,
        task="rerank" if files.kind == "rerank" else "embed",
        description=f"A model of this server: {name}.",
        provider="local",
        license="as its folder says",
        max_tokens=files.max_tokens,
        source=Source(folder=str(folder)),
    )
    if files.kind == "rerank":
        return replace(spec, parameters=tuple(parameters), max_batch=100)
    # A prompt is a passage's or a document's, as the folder's author called it.
    parameters.append(Parameter("input_type", "one_of", "string", allowed=("query", "passage", "document")))
    if files.kind == "sparse":
        parameters.append(Parameter("return_tokens", "any", "boolean", default=False))
        return replace(spec, vector_type="sparse", metrics=("dotproduct",), parameters=tuple(parameters))
    size = files.config.hidden_size
    parameters.append(Parameter("dimension", "one_of", "integer", allowed=(size,), default=size))
    return replace(
        spec,
        vector_type="dense",
        dimensions=(size,),
        default_dimension=size,
        metrics=("cosine", "dotproduct", "euclidean"),
        parameters=tuple(parameters),
        int8=files.int8,
    )


def for_spec(files: ModelFiles, spec: ModelSpec) -> ModelFiles:
    """A folder as its catalogue entry has it, where that says more. Raises ModelError if they are of two kinds."""
    kind = "rerank" if spec.task == "rerank" else spec.vector_type
    # The bundled reranker's folder is an embedding model's.
    if kind != files.kind and spec.ranks_with is None:
        raise ModelError(f"{files.folder / 'config.json'}: is a {files.kind} model's, and {spec.name!r} is {kind}")
    return dataclasses.replace(
        files,
        pooling=spec.pooling or files.pooling,
        normalise=files.normalise if spec.normalise is None else spec.normalise,
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
