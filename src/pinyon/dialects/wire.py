"""Vectors as the vendors put them on the wire: base64 of little-endian float32, of int8, of packed bits."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson


def base64_rows(vectors: npt.NDArray[Any]) -> list[str]:
    """One base64 text a row, of the row's bytes in little-endian order. `vectors` is [rows, items] of any dtype."""
    little = np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("<"))
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in little]


def to_json(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """JSON bytes of plain values and numpy arrays: a float32 is written with the fewest digits that give it back."""
    return orjson.dumps(value, default=default, option=orjson.OPT_SERIALIZE_NUMPY)
