"""What the machine can do at its best: the rate of one large matrix product, which no engine can be faster than."""

from __future__ import annotations

import time

import numpy as np

from pinyon.engine import backends
from pinyon.engine.backends import Precision, openvino


def matrix_rate(precision: Precision, size: int = 2048, rounds: int = 7) -> float:
    """FLOP/s of [size, size] @ [size, size] through the same backend, the best of `rounds`."""
    import openvino as ov
    from openvino import opset15 as op

    x = op.parameter([-1, size], np.float32)
    weight = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    product = op.matmul(x, op.constant(weight), False, True)
    # Reduced, so that writing the answer out is not what is measured.
    graph = ov.Model([op.reduce_max(product, op.constant(np.array([1], dtype=np.int32)))], [x], "product")
    settings = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": openvino.cores()}
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()
    rows = np.random.default_rng(1).standard_normal((size, size), dtype=np.float32)
    request.infer([rows])
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        request.infer([rows])
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def describe() -> str:
    """The machine in one line."""
    found = backends.hardware()
    return f"{found.cpu.strip()}, {found.cores} cores, {' '.join(found.features)}"
