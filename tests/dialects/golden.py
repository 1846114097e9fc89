"""Golden JSON pairs: a list of cases in a file of a vendor's `golden` folder, each with a `name`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pinyon.types import EmbedResult


def golden(test_file: str, name: str) -> list[Any]:
    """The cases as pytest parameters. `test_file` is the test's `__file__`."""
    cases = json.loads((Path(test_file).parent / "golden" / name).read_bytes())
    return [pytest.param(case, id=case["name"]) for case in cases]


def embed_result(given: dict[str, Any], dtype: npt.DTypeLike = np.float32) -> EmbedResult:
    """A case's core result. `vectors` are of `dtype`."""
    vectors: Any = np.array(given["vectors"], dtype=dtype)
    return EmbedResult(given["model"], vectors, np.array(given["tokens"], dtype=np.int32), given.get("cost", 0.0))
