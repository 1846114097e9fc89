"""Every architecture against transformers' model of the same folder, in f32."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tokenizers import Tokenizer as HubTokenizer

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.engine import backends
from pinyon.engine.engine import Engine
from pinyon.engine.loader import describe
from pinyon.errors import InputTooLong
from pinyon.types import EmbedRequest, EmbedResult, Encoding, FloatArray, IntArray, Truncate

from .conftest import Oracle
from .families import FAMILIES, LONGEST, hidden_states, texts, write_pooling

POOLINGS = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
TOLERANCE = 1e-4


def embed(spec: ModelSpec, *requests: EmbedRequest, precision: Literal["f32", "bf16"] = "f32") -> list[EmbedResult]:
    async def run() -> list[EmbedResult]:
        engine = Engine(Catalogue.build(Path("/nonexistent"), [spec]), precision=precision, threads=1)
        try:
            return [await engine.embed(spec, request) for request in requests]
        finally:
            await engine.close()

    return asyncio.run(run())


def pooled(hidden: FloatArray, mode: str) -> FloatArray:
    return np.asarray({"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[POOLINGS[mode]])


def token_ids(folder: Path, given: Sequence[str], direction: str, limit: int = LONGEST) -> list[IntArray]:
    """By the tokenizers library alone, with its own truncation."""
    tokenizer = HubTokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(limit, direction=direction)
    return [np.array(tokenizer.encode(text).ids, dtype=np.int32) for text in given]


@pytest.mark.oracle
@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_agrees_with_transformers(tmp_path: Path, oracle: Oracle, name: str) -> None:
    """Alone and in a batch, from one token to past the limit, cut at either end, in every pooling."""
    model = FAMILIES[name].build(tmp_path)
    given = texts()
    ids = {how: token_ids(tmp_path, given, how) for how in ("right", "left")}
    hidden = {how: [hidden_states(model, one) for one in ids[how]] for how in ids}
    for mode in POOLINGS:
        write_pooling(tmp_path, mode)
        spec = describe(tmp_path, "tiny")
        alone = [EmbedRequest("tiny", [text]) for text in given] if mode == "mean_tokens" else []
        end, start, *singles = embed(
            spec, EmbedRequest("tiny", given), EmbedRequest("tiny", given, truncate=Truncate.START), *alone
        )
        for result, how in ((end, "right"), (start, "left")):
            expected = np.stack([pooled(one, mode) for one in hidden[how]])
            assert np.abs(expected).max() > 0.1
            np.testing.assert_allclose(result.vectors, expected, atol=TOLERANCE, rtol=0)
            assert result.tokens.tolist() == [len(one) for one in ids[how]]
        for single, vector in zip(singles, end.vectors, strict=False):
            np.testing.assert_allclose(single.vectors[0], vector, atol=1e-5, rtol=0)
    assert end.tokens[-1] == LONGEST


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in FAMILIES if "," not in name])
def test_bf16_agrees_to_what_bf16_can_tell(tmp_path: Path, oracle: Oracle, name: str) -> None:
    if not backends.hardware().has_bf16:
        pytest.skip("this processor has no bf16")
    FAMILIES[name].build(tmp_path)
    spec, asked = describe(tmp_path, "tiny"), EmbedRequest("tiny", texts())
    [exact], [rounded] = embed(spec, asked), embed(spec, asked, precision="bf16")
    one, two = (result.vectors.astype(np.float32) for result in (exact, rounded))
    cosines = (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosines.min() > 0.99


@pytest.mark.oracle
def test_pplx_numbers_are_those_of_the_pooled_vector(tmp_path: Path, oracle: Oracle) -> None:
    """As the models were trained (arXiv 2602.11151): int8 of the tanh, bits of the signs, both before any normalising,
    and both of the first so many dimensions."""
    name = "bidirectional_pplx_qwen3"
    model = FAMILIES[name].build(tmp_path)
    spec = describe(tmp_path, "pplx")
    given = texts()
    expected = np.stack([hidden_states(model, ids).mean(axis=0) for ids in token_ids(tmp_path, given, "right")])
    for dimension in (None, 16):
        whole, int8, bits = embed(
            spec, *(EmbedRequest("pplx", given, dimension=dimension, encoding=encoding) for encoding in Encoding)
        )
        cut = expected[:, :dimension]
        np.testing.assert_allclose(whole.vectors, cut, atol=TOLERANCE, rtol=0)
        steps = np.clip(np.round(np.tanh(cut) * 127), -128, 127)
        # A value on the border of two steps may fall to either side.
        assert np.abs(int8.vectors.astype(np.int16) - steps).max() <= 1
        assert (int8.vectors == steps).mean() > 0.98
        sure = np.abs(cut) > TOLERANCE
        signs = np.unpackbits(bits.vectors.astype(np.uint8), axis=1, bitorder="little")
        assert (signs == (cut >= 0))[sure].all() and sure.mean() > 0.99


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["xlm-roberta", "qwen3"])
def test_a_text_that_is_too_long_is_refused_when_it_may_not_be_cut(tmp_path: Path, oracle: Oracle, name: str) -> None:
    FAMILIES[name].build(tmp_path)
    whole = next(len(ids) for ids in token_ids(tmp_path, texts(), "right", 10**6) if len(ids) > LONGEST)
    with pytest.raises(InputTooLong) as caught:
        embed(describe(tmp_path, "tiny"), EmbedRequest("tiny", texts(), truncate=Truncate.NONE))
    assert (caught.value.tokens, caught.value.limit) == (whole, LONGEST)
