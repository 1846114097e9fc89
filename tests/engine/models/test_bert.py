"""BERT against sentence-transformers: tiny random folders in every form, and the bundled model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.engine import backends
from pinyon.engine.engine import Engine
from pinyon.engine.loader import describe
from pinyon.testing import TINY_WORDS, tiny_bert
from pinyon.types import EmbedRequest, FloatArray, IntArray, Truncate

from .conftest import Oracle

GOLDEN = Path(__file__).parent.parent / "golden"

# Real texts of many lengths and scripts, past the bundled model's limit of 256 tokens at the end.
TEXTS = (
    "a",
    "How do I bake bread?",
    "The quick brown fox jumps over the lazy dog.",
    "Pinecones open when they are dry, and close when it rains, to keep the seeds within from falling near the tree.",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "Ünïcödé, naïve café, 日本語のテキスト, русский текст, العربية, emoji 😀👍🏽",
    "  leading and trailing   spaces\tand\ttabs  ",
    "WORDS IN CAPITALS and words_in_snake_case and camelCaseWords 3.14159 1,000,000 $5.00 50%",
    " ".join(["A sentence that is said again, and again, to make a paragraph."] * 6),
    " ".join(["Tokens past the model's limit are dropped from the end of the text."] * 40),
)


def embed(
    spec: ModelSpec, texts: Sequence[str], precision: Literal["f32", "bf16", "int8"] = "f32", **options: object
) -> tuple[FloatArray, IntArray]:
    async def run() -> tuple[FloatArray, IntArray]:
        engine = Engine(Catalogue.build(Path("/nonexistent"), [spec]), precision=precision)
        try:
            result = await engine.embed(spec, EmbedRequest(spec.name, texts, **options))  # type: ignore[arg-type]
        finally:
            await engine.close()
        return np.asarray(result.vectors, dtype=np.float32), result.tokens

    return asyncio.run(run())


def bundled() -> ModelSpec:
    return Catalogue.build(Path("/nonexistent")).get("all-minilm-l6-v2")


def tiny_texts() -> list[str]:
    """One word to past the tiny model's 64 positions, with pieces and unknown words among them."""
    rng = np.random.default_rng(7)
    words = [word for word in TINY_WORDS if word[0] not in "[#"] + ["unbelievable", "cats", "zebra"]
    return [" ".join(rng.choice(words, size=size)) for size in (1, 2, 3, 5, 8, 13, 21, 40, 61, 62, 63, 70, 100)]


FORMS: dict[str, dict[str, object]] = {
    "mean, normalised": {},
    "mean, not normalised": {"normalise": False},
    "cls, normalised": {"pooling": "cls"},
    "cls, not normalised": {"pooling": "cls", "normalise": False},
    "a limit below the positions": {"max_seq_length": 20},
    "one head, deeper": {"heads": 1, "layers": 4, "seed": 3},
    "tanh gelu": {"hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu"},
    "no sentence-transformers files": {"pooling": None},
}


@pytest.mark.oracle
@pytest.mark.parametrize("form", FORMS)
def test_a_tiny_folder_agrees_with_sentence_transformers(tmp_path: Path, oracle: Oracle, form: str) -> None:
    folder = tiny_bert(tmp_path, **FORMS[form])  # type: ignore[arg-type]
    vectors, _ = embed(describe(folder, "tiny"), tiny_texts())
    np.testing.assert_allclose(vectors, oracle(folder, tiny_texts()), atol=1e-5, rtol=0)


@pytest.mark.oracle
def test_a_prompt_of_the_folder_agrees_with_sentence_transformers(tmp_path: Path, oracle: Oracle) -> None:
    folder = tiny_bert(tmp_path, prompts={"query": "query: ", "passage": "passage: "})
    for name in ("query", "passage"):
        vectors, _ = embed(describe(folder, "tiny"), tiny_texts(), input_type=name)
        np.testing.assert_allclose(vectors, oracle(folder, tiny_texts(), prompt=f"{name}: "), atol=1e-5, rtol=0)


@pytest.mark.oracle
def test_weights_under_a_name_are_those_without(tmp_path: Path) -> None:
    plain = tiny_bert(tmp_path / "plain")
    under = tiny_bert(tmp_path / "under", prefix="bert.", old_names=True)
    one, _ = embed(describe(plain, "tiny"), tiny_texts())
    two, _ = embed(describe(under, "tiny"), tiny_texts())
    np.testing.assert_array_equal(one, two)


@pytest.mark.oracle
def test_the_bundled_model_in_f32_agrees_in_every_coordinate(oracle: Oracle) -> None:
    spec = bundled()
    expected = oracle(Catalogue.build(Path("/nonexistent")).folder(spec), TEXTS, batch_size=1)
    vectors, tokens = embed(spec, TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)
    assert tokens[-1] == 256


@pytest.mark.oracle
def test_the_bundled_model_in_bf16_agrees_to_cosine_0_999(oracle: Oracle) -> None:
    if not backends.hardware().has_bf16:
        pytest.skip("this processor has no bf16")
    spec = bundled()
    expected = oracle(Catalogue.build(Path("/nonexistent")).folder(spec), TEXTS)
    vectors, _ = embed(spec, TEXTS, "bf16")
    assert (vectors * expected).sum(axis=1).min() >= 0.999


def test_the_bundled_model_in_int8_agrees_to_cosine_0_995_on_every_text() -> None:
    if not backends.hardware().has_int8:
        pytest.skip("this processor has no products of bytes")
    exact, _ = embed(bundled(), TEXTS)
    rounded, _ = embed(bundled(), TEXTS, "int8")
    cosines = (exact * rounded).sum(axis=1)
    assert 0.995 <= cosines.min() < 0.99999


def test_a_model_that_was_not_measured_is_not_run_in_int8(tmp_path: Path) -> None:
    spec = describe(tiny_bert(tmp_path), "tiny")
    asked, _ = embed(spec, tiny_texts(), "int8")
    usual, _ = embed(spec, tiny_texts(), backends.choose_precision("auto"))
    np.testing.assert_array_equal(asked, usual)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_bundled_model_gives_the_vectors_that_sentence_transformers_once_gave(
    precision: Literal["f32", "bf16"],
) -> None:
    """So that a suite without the oracle still judges the numbers. `bench/golden.py` made the files."""
    expected = np.load(GOLDEN / "all-minilm-l6-v2.npy", allow_pickle=False)
    vectors, tokens = embed(bundled(), TEXTS, precision)
    assert tokens.tolist() == np.load(GOLDEN / "all-minilm-l6-v2-tokens.npy", allow_pickle=False).tolist()
    if precision == "f32":
        np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)
    assert (vectors * expected).sum(axis=1).min() >= 0.999


def test_truncation_at_the_start_embeds_the_end_of_the_text() -> None:
    spec = bundled()
    tail = " ".join(["word"] * 254)
    cut, tokens = embed(spec, ["first " * 300 + tail], truncate=Truncate.START)
    whole, _ = embed(spec, [tail])
    assert tokens.tolist() == [256]
    np.testing.assert_allclose(cut, whole, atol=1e-5)
