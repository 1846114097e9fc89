"""The oracle: sentence-transformers over torch, a second opinion on every model definition."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.types import FloatArray

Oracle = Callable[..., FloatArray]


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """`oracle(folder, texts, prompt="", batch_size=8)`: what sentence-transformers gives in float32, [texts, dim]."""
    # Other people's warnings on import and loading are not this project's errors.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            # In CI a suite without its oracle would hide a gap.
            if os.environ.get("CI") == "true":
                pytest.fail(f"the oracle is not installed: make oracle ({error})")
            pytest.skip("the oracle is not installed: make oracle")
    torch.set_num_threads(1)

    def encode(folder: Path, texts: Sequence[str], *, prompt: str = "", batch_size: int = 8) -> FloatArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            vectors = model.encode(list(texts), batch_size=batch_size, prompt=prompt or None)
        return np.asarray(vectors, dtype=np.float32)

    return encode
