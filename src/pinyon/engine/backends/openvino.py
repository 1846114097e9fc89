"""The CPU backend: builds an OpenVINO graph straight from a checkpoint's weights, and runs it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset15 as op

from pinyon.engine.backends import Definition, GraphError, Hardware, Precision, Weights
from pinyon.engine.ops import Activation, TokenTensors
from pinyon.types import FloatArray, IntArray

# OpenVINO keeps compiled kernels for each input shape. The scheduler's grid makes some 250 shapes of a model with 512
# positions; this many kept took 100 MB for all-MiniLM-L6-v2, and one that is not kept costs 3 to 5 ms to make again.
_KEPT_SHAPES = 256

Node = Any  # openvino's nodes have no useful type


class OpenVinoOps:
    """`Ops`, each adding a node to a graph."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def weight(self, name: str) -> Node:
        array = self._weights(name)
        # Shared, so that the weights are in memory once while the graph is compiled.
        return op.constant(np.ascontiguousarray(array), shared_memory=True)

    def lookup(self, table: Node, rows: Node) -> Node:
        return op.gather(table, rows, _integers(0))

    def positions(self, ids: Node) -> Node:
        tokens = op.gather(op.shape_of(ids, output_type="i32"), _integers(1), _integers(0))
        return op.range(_integers(0), tokens, _integers(1), "i32")

    def add(self, a: Node, b: Node) -> Node:
        return op.add(a, b)

    def linear(self, x: Node, name: str) -> Node:
        product = op.matmul(x, self.weight(name + ".weight"), False, True)
        return op.add(product, self.weight(name + ".bias"))

    def layer_norm(self, x: Node, name: str, epsilon: float) -> Node:
        normal = op.mvn(x, _integers([-1]), True, epsilon, "inside_sqrt")
        return op.add(op.multiply(normal, self.weight(name + ".weight")), self.weight(name + ".bias"))

    def activation(self, x: Node, kind: Activation) -> Node:
        if kind == "gelu":
            return op.gelu(x, "erf")
        if kind == "gelu_tanh":
            return op.gelu(x, "tanh")
        return {"relu": op.relu, "silu": op.swish, "tanh": op.tanh}[kind](x)

    def split_heads(self, x: Node, heads: int) -> Node:
        apart = op.reshape(x, _integers([0, 0, heads, -1]), True)
        return op.transpose(apart, _integers([0, 2, 1, 3]))

    def merge_heads(self, x: Node) -> Node:
        return op.reshape(op.transpose(x, _integers([0, 2, 1, 3])), _integers([0, 0, -1]), True)

    def attention(self, query: Node, key: Node, value: Node, mask: Node) -> Node:
        seen = op.not_equal(mask, _integers(0))
        seen = op.unsqueeze(op.unsqueeze(seen, _integers(1)), _integers(1))  # [batch, 1, 1, tokens]
        return op.scaled_dot_product_attention(query, key, value, seen)

    def mean_tokens(self, x: Node, mask: Node) -> Node:
        weight = op.unsqueeze(op.convert(mask, "f32"), _integers(2))  # [batch, tokens, 1]
        total = op.reduce_sum(op.multiply(x, weight), _integers(1))
        return op.divide(total, op.reduce_sum(weight, _integers(1)))

    def first_token(self, x: Node) -> Node:
        return op.gather(x, _integers(0), _integers(1))


def _integers(values: int | list[int]) -> Node:
    return op.constant(np.array(values, dtype=np.int32))


class OpenVinoModel:
    """A compiled graph, and two places to run it in turn."""

    def __init__(self, compiled: Any) -> None:
        self._requests = [compiled.create_infer_request() for _ in range(2)]
        self._turn = 0

    def start(self, ids: IntArray, mask: IntArray, types: IntArray) -> Callable[[], FloatArray]:
        request = self._requests[self._turn]
        self._turn = 1 - self._turn
        request.start_async([ids, mask, types], share_inputs=True)
        inputs = (ids, mask, types)

        def wait(_held: object = inputs) -> FloatArray:
            request.wait()  # without the GIL
            output: npt.NDArray[np.float32] = request.get_output_tensor(0).data
            return output

        return wait


@cache
def _core() -> Any:
    return ov.Core()


def compile_model(definition: Definition, weights: Weights, *, precision: Precision, threads: int) -> OpenVinoModel:
    tensors = TokenTensors(*(op.parameter([-1, -1], np.int32, name=name) for name in ("ids", "mask", "types")))
    try:
        vectors = definition(OpenVinoOps(weights), tensors)
        graph = ov.Model([op.convert(vectors, "f32")], [tensors.ids, tensors.mask, tensors.types], "model")
        compiled = _core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                # One stream over all cores: a batch is as fast as it can be, and so is a lone query.
                "NUM_STREAMS": 1,
                "INFERENCE_NUM_THREADS": threads or cores(),
                # A pinned thread would wait for its core while the event loop holds it.
                "ENABLE_CPU_PINNING": False,
                "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_SHAPES,
            },
        )
    except RuntimeError as error:
        raise GraphError(_last_line(error)) from None
    return OpenVinoModel(compiled)


def _last_line(error: Exception) -> str:
    """The reason in OpenVINO's report, which begins with where in its source it was found."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), "it cannot be compiled")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def hardware() -> Hardware:
    core = _core()
    capabilities = set(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    flags = _flags()
    # OpenVINO lists BF16 where it can emulate it, too; the processor's own flags say whether it is there.
    native = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}) if flags is not None else True
    known = (
        "avx2",
        "avx_vnni",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "amx_bf16",
        "amx_int8",
        "asimd",
        "sve",
        "bf16",
    )
    return Hardware(
        cpu=str(core.get_property("CPU", "FULL_DEVICE_NAME")) or platform.processor(),
        cores=cores(),
        has_bf16="BF16" in capabilities and native,
        features=tuple(name for name in known if flags is not None and name in flags),
    )


def _flags() -> frozenset[str] | None:
    """The processor's flags as Linux names them, or None where there is no such list."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None
