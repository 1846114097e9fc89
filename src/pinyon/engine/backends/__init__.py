"""Backends: they compile a model definition and run it. This page says what a backend is and picks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt

from pinyon.engine.ops import Ops, TokenTensors
from pinyon.types import FloatArray, IntArray

Precision = Literal["f32", "bf16", "int8"]
Definition = Callable[[Ops[Any], TokenTensors[Any]], Any]


class GraphError(Exception):
    """A definition and its weights do not make a model: a shape that does not fit, most often."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as its checkpoint holds it. `array` is float32, float16, or for BF16 (which numpy lacks) uint16 bits."""

    array: npt.NDArray[Any]
    format: Literal["F32", "F16", "BF16"]


class Weights(Protocol):
    """A checkpoint's tensors by name, without whatever prefix its file has."""

    def __call__(self, name: str) -> Weight:
        """Raises ModelError if there is none of this name."""
        ...


class CompiledModel(Protocol):
    """A model that is ready to run. Used by one thread."""

    @property
    def width(self) -> int:
        """How many numbers a sequence gives."""
        ...

    def start(self, ids: IntArray, mask: IntArray, types: IntArray) -> Callable[[], FloatArray]:
        """Starts a run over [batch, tokens] arrays; the call it gives waits for [batch, width].

        A second run may be started before the first was waited for, but not a third: runs take turns in two places, and
        what a run gave stays valid until the one after the next is started.
        """
        ...


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the machine offers a backend."""

    cpu: str
    cores: int
    has_bf16: bool  # in hardware; an emulated bf16 is slower than f32
    has_int8: bool  # products of bytes in hardware
    features: tuple[str, ...]


def hardware() -> Hardware:
    from pinyon.engine.backends import openvino

    return openvino.hardware()


def choose_precision(wanted: Literal["auto"] | Precision, *, quantises: bool = False) -> Precision:
    """bf16 where the processor has it, else f32, unless told.

    int8 is for a model that `quantises` well, on a processor that is faster in it; any other is run as with "auto".
    """
    offered = hardware()
    if wanted == "int8" and quantises and offered.has_int8:
        return "int8"
    if wanted in ("f32", "bf16"):
        return wanted
    return "bf16" if offered.has_bf16 else "f32"


def compile_model(definition: Definition, weights: Weights, *, precision: Precision, threads: int) -> CompiledModel:
    """Compiles for this machine. `threads` 0 means one a core. Raises GraphError, and what `weights` raises."""
    from pinyon.engine.backends import openvino

    return openvino.compile_model(definition, weights, precision=precision, threads=threads)
