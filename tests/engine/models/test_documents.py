"""Documents in one pass: the vectors of their chunks against transformers, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as HubTokenizer

from pinyon.catalog import Catalogue
from pinyon.engine.backends import TokenBatch
from pinyon.engine.engine import Engine
from pinyon.engine.loader import describe
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.testing import tiny_bert
from pinyon.types import EmbedDocumentsRequest, EmbedRequest, Encoding

from .conftest import Oracle
from .families import FAMILIES, hidden_states

SEPARATOR = "<|im_start|>"
DOCUMENTS = (
    ("A cat sat.", "On the red mat.", "It was a dog."),
    ("How do I bake bread?",),
    tuple(["one", "two", "three", "four", "five", "six"]),
    (" ", "Seeds within."),
)


def on_engine(folder: Path, work: Callable[[Engine, Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        spec = describe(folder, "tiny")
        engine = Engine(Catalogue.build(Path("/nonexistent"), [spec]), precision="f32", threads=1)
        try:
            return await work(engine, spec)
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.oracle
def test_chunks_agree_with_transformers_over_the_joined_document(tmp_path: Path, oracle: Oracle) -> None:
    """Joined by the separator as text, tokenized as one, and cut at the separators again."""
    model = FAMILIES["bidirectional_pplx_qwen3"].build(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"sep_token": {{"content": "{SEPARATOR}"}}}}')
    tokenizer = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    separator = tokenizer.token_to_id(SEPARATOR)

    async def work(engine: Engine, spec: Any) -> Any:
        asked = [EmbedDocumentsRequest("tiny", DOCUMENTS, encoding=encoding) for encoding in Encoding]
        plain = await engine.embed(spec, EmbedRequest("tiny", [DOCUMENTS[1][0]]))
        alone = await engine.embed_documents(spec, EmbedDocumentsRequest("tiny", DOCUMENTS[:1]))
        return [await engine.embed_documents(spec, one) for one in asked], plain, alone

    (whole, int8, bits), plain, alone = on_engine(tmp_path, work)
    for n, chunks in enumerate(DOCUMENTS):
        ids = tokenizer.encode(SEPARATOR.join(chunks)).ids
        hidden = hidden_states(model, np.array(ids))
        cuts = [-1, *(place for place, token in enumerate(ids) if token == separator), len(ids)]
        expected = np.stack([hidden[a + 1 : b].mean(axis=0) for a, b in pairwise(cuts)])
        assert whole.tokens[n] == len(ids)
        np.testing.assert_allclose(whole.vectors[n], expected, atol=1e-4, rtol=0)
        steps = np.clip(np.round(np.tanh(expected) * 127), -128, 127)
        assert np.abs(int8.vectors[n].astype(np.int16) - steps).max() <= 1
        signs = np.unpackbits(bits.vectors[n].astype(np.uint8), axis=1, bitorder="little")
        assert (signs == (expected >= 0))[np.abs(expected) > 1e-4].all()
    # A document of one chunk is a plain text, and one alone is what it is among others.
    np.testing.assert_allclose(whole.vectors[1], plain.vectors, atol=1e-5)
    np.testing.assert_allclose(alone.vectors[0], whole.vectors[0], atol=1e-5)


def with_separator(folder: Path, **options: Any) -> Path:
    tiny_bert(folder, **options)
    (folder / "tokenizer_config.json").write_text('{"sep_token": "[SEP]"}')
    return folder


def test_a_document_is_more_than_its_chunks_and_special_tokens_belong_to_its_ends(tmp_path: Path) -> None:
    async def work(engine: Engine, spec: Any) -> None:
        documents = [["the cat", "on the mat"], ["the cat"]]
        result = await engine.embed_documents(spec, EmbedDocumentsRequest("tiny", documents))
        plain = await engine.embed(spec, EmbedRequest("tiny", ["the cat"]))
        assert result.tokens.tolist() == [2 + 2 + 1 + 3, 4]
        assert [len(one) for one in result.vectors] == [2, 1]
        np.testing.assert_allclose(result.vectors[1], plain.vectors, atol=1e-5)
        assert np.abs(result.vectors[0][0] - plain.vectors[0]).max() > 0.01

    on_engine(with_separator(tmp_path), work)


def test_documents_that_are_refused(tmp_path: Path) -> None:
    async def work(engine: Engine, spec: Any) -> None:
        def ask(*documents: list[str], **options: Any) -> Awaitable[Any]:
            return engine.embed_documents(spec, EmbedDocumentsRequest("tiny", documents, **options))

        with pytest.raises(InputTooLong) as caught:
            await ask(["a"], ["cat " * 40, "dog " * 40])
        assert (caught.value.tokens, caught.value.limit, caught.value.param) == (83, 64, ("documents", 1))
        with pytest.raises(InvalidRequest, match="holds no token") as refused:
            await ask(["a", "cat", " "])
        assert refused.value.param == ("documents", 0, 2)
        with pytest.raises(InvalidRequest, match="at most 5 tokens together") as refused:
            await ask(["a"], ["cat"], max_total_tokens=5)
        assert refused.value.param == ("documents",)

    on_engine(with_separator(tmp_path), work)


@pytest.mark.parametrize("options", [{"pooling": "cls"}, {}])
def test_models_that_cannot(tmp_path: Path, options: dict[str, Any]) -> None:
    """One that pools otherwise, and one without a separator."""
    folder = with_separator(tmp_path, **options)
    if not options:
        (folder / "tokenizer_config.json").write_text("{}")

    async def work(engine: Engine, spec: Any) -> None:
        with pytest.raises(InvalidRequest, match="mean pooling with a separator") as caught:
            await engine.embed_documents(spec, EmbedDocumentsRequest("tiny", [["a"]]))
        assert caught.value.param == ("model",)

    on_engine(folder, work)


def test_a_document_of_thousands_of_chunks(tmp_path: Path) -> None:
    folder = with_separator(tmp_path, positions=8192)

    async def work(engine: Engine, spec: Any) -> None:
        chunks = [("cat", "dog", "mat")[n % 3] for n in range(4000)]
        result = await engine.embed_documents(spec, EmbedDocumentsRequest("tiny", [chunks, ["the"]]))
        assert result.vectors[0].shape == (4000, 32) and np.isfinite(result.vectors[0]).all()
        assert result.tokens.tolist() == [2 + 4000 + 3999, 3]

    on_engine(folder, work)


def test_members_of_a_batch() -> None:
    """Tokens of spans, of one size for one shape, in rising order of their spans."""
    ids = np.zeros((2, 4), dtype=np.int32)
    spans = np.array([[0, 2], [3, 4], [4, 6]], dtype=np.int32)
    members = TokenBatch(ids, np.ones_like(ids), ids, spans).members()
    assert members.tolist() == [[0, 0], [1, 0], [3, 1], [4, 2], [5, 2], [0, 3], [0, 3], [0, 3]]
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=np.int32)
    assert TokenBatch.of(ids, mask).spans.tolist() == [[0, 2], [4, 7]]
