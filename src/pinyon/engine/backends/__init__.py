"""Backends: they compile a model definition and run it. This page says what a backend is and picks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
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


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Sequences to run together, and what of them is pooled. A plain text is one span: all of its tokens.

    Where a model gives something of a sequence as a whole, a score or weights of terms, there is one span for each.
    """

    ids: IntArray  # [batch, tokens]
    mask: IntArray  # [batch, tokens]
    types: IntArray  # [batch, tokens]
    spans: IntArray  # [spans, 2]: start and end in the tokens of all sequences, one behind another

    @classmethod
    def of(cls, ids: IntArray, mask: IntArray | None = None) -> TokenBatch:
        """Sequences of one span each; without a mask, they are all of the same length."""
        mask = np.ones_like(ids) if mask is None else mask
        starts = np.arange(len(ids), dtype=np.int32) * np.int32(ids.shape[1])
        spans = np.stack([starts, starts + mask.sum(axis=1, dtype=np.int32)], axis=1)
        return cls(ids, mask, np.zeros_like(ids), spans)

    def members(self) -> IntArray:
        """Tokens of spans and the number of their span, [batch * tokens, 2], filled up with token 0 of one span more.

        Always of one size for one shape of a batch, so that a backend sees few shapes.
        """
        lengths = self.spans[:, 1] - self.spans[:, 0]
        count = int(lengths.sum())
        members = np.zeros((self.ids.size, 2), dtype=np.int32)
        members[:, 1] = len(self.spans)
        members[:count, 1] = np.repeat(np.arange(len(self.spans), dtype=np.int32), lengths)
        firsts = np.cumsum(lengths) - lengths
        members[:count, 0] = np.arange(count) + np.repeat(self.spans[:, 0] - firsts, lengths)
        return members


class CompiledModel(Protocol):
    """A model that is ready to run. Used by one thread."""

    @property
    def width(self) -> int:
        """How many numbers a span gives."""
        ...

    def start(self, batch: TokenBatch) -> Callable[[], FloatArray]:
        """Starts a run; the call it gives waits for [spans, width].

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
