"""The numeric forms of a dense vector: fewer dimensions, unit length, int8, bits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from pinyon.types import Encoding, FloatArray

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.int8] | npt.NDArray[np.uint8]


def unit(vectors: FloatArray) -> FloatArray:
    """Rows scaled to length 1: [n, dim] -> [n, dim]. A row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # [n, 1]
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Scores in [0, 1], of the same shape, without overflow at either end."""
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1 / (1 + small), small / (1 + small)), dtype=np.float32)


def encode(
    pooled: FloatArray,
    *,
    dimension: int | None,
    encoding: Encoding,
    normalise: bool,
    int8: Literal["unit", "tanh"],
) -> Vectors:
    """What a client gets of pooled vectors [n, dim].

    `dimension` keeps the first so many values (Matryoshka), before anything else. float32: of unit length if
    `normalise`.
    int8, "unit": round(127 x) of the unit vector; "tanh": clamp(round(127 tanh(x)), -128, 127) of the pooled vector, as
    the pplx-embed models were trained (arXiv 2602.11151). binary: a bit where x >= 0, [n, dim / 8], least
    significant bit first; a last byte is filled up with zeros. Halves round to even, as in torch.
    """
    vectors = pooled if dimension is None else pooled[:, :dimension]
    if encoding is Encoding.BINARY:
        return np.packbits(vectors >= 0, axis=1, bitorder="little")
    if encoding is Encoding.INT8:
        squashed = np.tanh(vectors) if int8 == "tanh" else unit(vectors)
        return np.clip(np.rint(squashed * np.float32(127)), -128, 127).astype(np.int8)
    return unit(vectors) if normalise else np.ascontiguousarray(vectors)
