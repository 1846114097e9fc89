"""The CPU backend: compiles a graph of OpenVINO's straight from a checkpoint's weights, and runs it."""

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

from pinyon.engine.backends import Definition, GraphError, Hardware, Precision, TokenBatch, Weights
from pinyon.engine.backends.openvino_ops import OpenVinoOps
from pinyon.engine.ops import TokenTensors
from pinyon.types import FloatArray

# OpenVINO keeps compiled kernels for each input shape. The scheduler's grid makes some 250 shapes of a model with 512
# positions; this many kept took 100 MB for all-MiniLM-L6-v2, and one that is not kept costs 3 to 5 ms to make again.
_KEPT_SHAPES = 256

# Of an activation, so many neighbours are made int8 by a scale of their own. Over 300 paragraphs, all-MiniLM-L6-v2 ran
# at 0.98 times bf16's speed with 32 and at 1.3 times with 128, at cosines to f32 of 0.9989 and 0.998 at least.
_QUANTISED_TOGETHER = 128


class OpenVinoModel:
    """A compiled graph, and two places to run it in turn."""

    def __init__(self, compiled: Any, shared: object) -> None:
        """`shared` is memory that the graph looks at."""
        self._shared = shared
        self.width = int(compiled.output(0).get_partial_shape()[1].get_length())
        self._requests = [compiled.create_infer_request() for _ in range(2)]
        self._turn = 0

    def start(self, batch: TokenBatch) -> Callable[[], FloatArray]:
        request = self._requests[self._turn]
        self._turn = 1 - self._turn
        inputs = [batch.ids, batch.mask, batch.types, batch.spans, batch.members()]
        request.start_async(inputs, share_inputs=True)

        def wait(_held: object = inputs) -> FloatArray:
            request.wait()  # without the GIL
            output: npt.NDArray[np.float32] = request.get_output_tensor(0).data
            return output

        return wait


@cache
def _core() -> Any:
    return ov.Core()


def compile_model(definition: Definition, weights: Weights, *, precision: Precision, threads: int) -> OpenVinoModel:
    shapes = {"ids": [-1, -1], "mask": [-1, -1], "types": [-1, -1], "spans": [-1, 2], "members": [-1, 2]}
    inputs = {name: op.parameter(shape, np.int32, name=name) for name, shape in shapes.items()}
    tensors: TokenTensors[Any] = TokenTensors(**inputs)
    ops = OpenVinoOps(weights, precision)
    try:
        vectors = definition(ops, tensors)
        graph = ov.Model([op.convert(vectors, "f32")], list(inputs.values()), "model")
        compiled = _core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                **({"DYNAMIC_QUANTIZATION_GROUP_SIZE": _QUANTISED_TOGETHER} if precision == "int8" else {}),
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
    return OpenVinoModel(compiled, ops.shared)


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
        has_int8=flags is None or bool(flags & {"avx_vnni", "avx512_vnni", "amx_int8", "i8mm"}),
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
