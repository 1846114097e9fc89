"""The catalogue: what each model is, what it takes, and where its weights would be. It loads no weights.

The built-in entries are data, in `catalog.toml`; the operator's own models and aliases are added to them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from pinyon.errors import InvalidRequest, NotFound, Param

Scalar = str | int | float | bool


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A parameter that a model takes, and the values it may have. `check` is the one place that decides."""

    name: str
    kind: Literal["one_of", "numeric_range", "any"]
    value_type: Literal["string", "integer", "float", "boolean"]
    required: bool = False
    allowed: tuple[str | int, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    default: Scalar | None = None

    def check(self, value: object, param: Param) -> Scalar:
        """Returns the value, or raises InvalidRequest at `param`. A bool is not an integer; an integer is a float."""
        types: dict[str, tuple[type, ...]] = {
            "string": (str,),
            "integer": (int,),
            "float": (int, float),
            "boolean": (bool,),
        }
        if not isinstance(value, types[self.value_type]) or (isinstance(value, bool) and self.value_type != "boolean"):
            raise InvalidRequest(f"must be {_a(self.value_type)}", param)
        assert isinstance(value, str | int | float | bool)
        if self.kind == "one_of" and value not in self.allowed:
            raise InvalidRequest(f"must be one of {', '.join(map(repr, self.allowed))}", param)
        if self.kind == "numeric_range":
            assert self.minimum is not None and self.maximum is not None and not isinstance(value, str)
            # Written so that NaN is refused too.
            if not self.minimum <= value <= self.maximum:
                raise InvalidRequest(f"must be between {self.minimum} and {self.maximum}", param)
        return value


def _kind(spec: ModelSpec) -> str:
    return "reranking" if spec.task == "rerank" else f"{spec.vector_type} embeddings"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where weights come from: an installed Python package, a folder of this machine, or a hub repository."""

    package: str | None = None
    folder: str | None = None  # with `package`: inside it; alone: a path
    repository: str | None = None
    revision: str = "main"


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model is, as its vendor or its folder describes it."""

    name: str
    task: Literal["embed", "rerank"]
    description: str
    provider: str
    license: str
    vector_type: Literal["dense", "sparse"] | None = None
    dimensions: tuple[int, ...] = ()  # the dimensions it can be asked for, when they are a list
    dimension_range: tuple[int, int] | None = None  # both inclusive, when any dimension between will do
    default_dimension: int | None = None
    max_tokens: int | None = None  # a text, special tokens included
    max_batch: int = 96  # inputs of one embed, documents of one rerank
    max_rank_fields: int | None = None  # None: any number
    metrics: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    prompts: Mapping[str, str] = {}  # input type -> prefix; empty: as the folder says
    pooling: Literal["mean", "cls", "last"] | None = None  # None: as the folder says
    normalise: bool | None = None  # to unit length; None: as the folder says
    int8: Literal["unit", "tanh"] = "unit"
    quantises: bool = False  # whether int8 was measured (docs/performance.md) to be close to f32, and faster than bf16
    ranks_with: str | None = None  # a reranker that scores by another model's embeddings
    source: Source | None = None  # None: no public weights
    parameter_count: int | None = None  # how many numbers its weights are
    sha256: Mapping[str, str] = {}  # file -> digest, checked on loading

    def check_dimension(self, dimension: int, param: Param) -> None:
        """Raises InvalidRequest at `param` if the model cannot give vectors of this dimension."""
        if self.dimension_range is not None:
            low, high = self.dimension_range
            if not low <= dimension <= high:
                raise InvalidRequest(f"must be between {low} and {high} for model {self.name!r}", param)
        elif dimension not in self.dimensions:
            choices = ", ".join(map(str, self.dimensions))
            raise InvalidRequest(f"must be one of {choices} for model {self.name!r}", param)

    @property
    def matryoshka(self) -> bool:
        """Whether its vectors may be cut to fewer dimensions."""
        return self.dimension_range is not None or len(self.dimensions) > 1


@cache
def builtin_specs() -> tuple[ModelSpec, ...]:
    """The entries of `catalog.toml`, in its order."""
    data = resources.files("pinyon").joinpath("catalog.toml").read_bytes()
    loaded: dict[str, Any] = msgspec.toml.decode(data)
    return msgspec.convert(loaded["models"], tuple[ModelSpec, ...])


# What stands in for a model that is not here, by its task and kind: what is bundled.
BUNDLED_STAND_INS: Mapping[tuple[str, str | None], str] = {
    ("embed", "dense"): "all-minilm-l6-v2",
    ("embed", "sparse"): "bm25-english",
    ("rerank", None): "all-minilm-l6-v2-rerank",
}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Names to models. `aliases` are the operator's: another name for a model, which wins over the built-in names.

    `stand_ins` are the operator's too: a model's name to that of a local one which is run in its place. Unlike behind
    an alias, all but the numbers is as the model's vendor has it.
    """

    specs: Mapping[str, ModelSpec]
    models_dir: Path
    aliases: Mapping[str, str] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    # Folders that were found: looking again would cost each request several system calls.
    _found: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        models_dir: Path,
        extra: Iterable[ModelSpec] = (),
        aliases: Mapping[str, str] | None = None,
        stand_ins: Mapping[str, str] | None = None,
        *,
        all_stand_ins: bool = False,
    ) -> Catalogue:
        """The built-in entries, with the operator's models (which win over an entry of the same name) and aliases.

        `all_stand_ins` adds a bundled stand-in for every model whose weights are not here. Raises ValueError for an
        alias or a stand-in that cannot be.
        """
        extra = tuple(extra)
        specs = {spec.name: spec for spec in (*extra, *builtin_specs())}
        specs |= {spec.name: spec for spec in extra}
        for alias, target in (aliases or {}).items():
            if target not in specs:
                raise ValueError(f"alias {alias!r} points at {target!r}, which is not a model of this server")
        made = cls(specs=specs, models_dir=models_dir, aliases=dict(aliases or {}))
        chosen = dict(stand_ins or {})
        for name, local in chosen.items():
            made._check_stand_in(name, local, chosen)
        if all_stand_ins:
            absent = (spec for spec in specs.values() if spec.name not in chosen and not made.is_here(spec))
            chosen |= {spec.name: BUNDLED_STAND_INS[spec.task, spec.vector_type] for spec in absent}
        return replace(made, stand_ins=chosen)

    def _check_stand_in(self, name: str, local: str, others: Mapping[str, str]) -> None:
        for named in (name, local):
            if named not in self.specs:
                raise ValueError(f"stand-in {name}={local}: {named!r} is not a model of this server")
        wanted, given = self.specs[name], self.specs[local]
        if (wanted.task, wanted.vector_type) != (given.task, given.vector_type):
            raise ValueError(f"stand-in {name}={local}: one is for {_kind(wanted)}, the other for {_kind(given)}")
        if local in others:
            raise ValueError(f"stand-in {name}={local}: {local!r} has a stand-in itself")

    def get(self, name: str) -> ModelSpec:
        """The model of this name or alias. Raises NotFound."""
        spec = self.specs.get(self.aliases.get(name, name))
        if spec is None:
            names = ", ".join(repr(known.name) for known in self.list() if self.is_here(known))
            raise NotFound(f"Model {name!r} not found. Models on this machine: {names}", kind="model", name=name)
        return spec

    def list(self) -> list[ModelSpec]:
        return list(self.specs.values())

    def stand_in(self, spec: ModelSpec) -> ModelSpec | None:
        """The local model that is run in this one's place, if there is one."""
        name = self.stand_ins.get(spec.name)
        return None if name is None else self.specs[name]

    def is_here(self, spec: ModelSpec) -> bool:
        """Whether its weights, or those of its stand-in, are on this machine. Looks for the folder, not into it."""
        return self._locate(spec) is not None

    def folder(self, spec: ModelSpec) -> Path:
        """The folder of the model, or of its stand-in. Raises NotFound, naming the command that gets the weights, if it
        is not here."""
        found = self._locate(spec)
        if found is not None:
            return found
        source = self.carrier(spec).source
        if source is None:
            mend = (
                "It has no public weights: give this name to a local model under [aliases] in pinyon.toml, "
                "or start the server with --stand-ins"
            )
        elif source.package is not None:
            mend = "Install it with: make install"
        else:
            mend = f"Get them with: pinyon models pull {self.carrier(spec).name}"
        raise NotFound(
            f"Model {spec.name!r} is known, but its weights are not on this machine. {mend}",
            kind="model",
            name=spec.name,
        )

    def pulled_folder(self, name: str) -> Path:
        """Where `pinyon models pull` puts a model of this name."""
        return self.models_dir / name.replace("/", "--")

    def carrier(self, spec: ModelSpec) -> ModelSpec:
        """The model whose weights do this one's work."""
        spec = self.stand_in(spec) or spec
        return self.specs[spec.ranks_with] if spec.ranks_with is not None else spec

    def _locate(self, spec: ModelSpec) -> Path | None:
        spec = self.carrier(spec)
        source = spec.source
        if source is None:
            return None
        if (known := self._found.get(spec.name)) is not None:
            return known
        if source.package is not None:
            # find_spec, not import: the package's own code would pull in torch.
            found = importlib.util.find_spec(source.package)
            places = (found.submodule_search_locations or []) if found is not None else []
            folders = [Path(place) / (source.folder or "") for place in places]
        elif source.folder is not None:
            folders = [Path(source.folder)]
        else:
            folders = [self.pulled_folder(spec.name)]
        for folder in folders:
            if (folder / "config.json").is_file():
                self._found[spec.name] = folder
                return folder
        return None
