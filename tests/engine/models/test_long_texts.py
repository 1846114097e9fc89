"""Texts of 8,192 tokens, against transformers; and what is held in memory for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pinyon.engine.loader import describe
from pinyon.types import EmbedRequest

from .conftest import Oracle
from .families import FAMILIES, hidden_states, write_pooling
from .test_families import POOLINGS, embed, pooled

LONG = 8192


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "mode"),
    [("modernbert", "mean_tokens"), ("qwen3", "lasttoken"), ("bidirectional_pplx_qwen3", "mean_tokens")],
)
def test_a_text_of_8192_tokens_agrees_with_transformers(tmp_path: Path, oracle: Oracle, name: str, mode: str) -> None:
    model = FAMILIES[name].build(
        tmp_path,
        max_position_embeddings=LONG,
        num_hidden_layers=2,
        num_attention_heads=2,
        **({} if name == "modernbert" else {"num_key_value_heads": 1}),
    )
    write_pooling(tmp_path, mode)
    vocabulary = model.config.vocab_size
    ids = np.random.default_rng(0).integers(10, vocabulary, LONG - 2).tolist()
    [result] = embed(describe(tmp_path, "tiny"), EmbedRequest("tiny", [ids, ids[:20]]))
    whole = {"modernbert": [1, *ids, 2]}.get(name, [*ids, 0])
    expected = pooled(hidden_states(model, np.array(whole)), mode)
    assert POOLINGS[mode] and result.tokens[0] == len(whole)
    np.testing.assert_allclose(result.vectors[0], expected, atol=1e-4, rtol=0)


PROGRAM = """
import resource, sys
from pathlib import Path
from pinyon.engine.loader import describe
from pinyon.types import EmbedRequest
from tests.engine.models.test_families import embed

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

spec = describe(Path(sys.argv[1]), "tiny")
embed(spec, EmbedRequest("tiny", [[20] * 100]))
before = peak()
embed(spec, EmbedRequest("tiny", [[20] * 8000]))
print(peak() - before)
"""


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["modernbert", "qwen3"])
def test_attention_over_8000_tokens_holds_no_matrix_of_scores(tmp_path: Path, oracle: Oracle, name: str) -> None:
    """One of float32 for one head alone would be 244 MB; what is held of each pair of tokens is a boolean, 61 MB."""
    FAMILIES[name].build(tmp_path, max_position_embeddings=LONG)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 240
