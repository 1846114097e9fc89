"""Stand-ins: what the local model is asked, and what becomes of its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.catalog import Catalogue
from pinyon.errors import InputTooLong, InvalidRequest, NotFound
from pinyon.services.inference import InferenceService
from pinyon.services.stand_ins import with_dimension
from pinyon.testing import FakeEngine, fake_vector
from pinyon.types import EmbedDocumentsRequest, EmbedRequest, Encoding, RerankRequest, Truncate
from tests.services.one_loop import run

LOCAL = "all-minilm-l6-v2"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def service(tmp_path: Path, engine: FakeEngine) -> InferenceService:
    catalogue = Catalogue.build(tmp_path, aliases={"mine": "llama-text-embed-v2"}, all_stand_ins=True)
    return InferenceService(catalogue, engine, {"llama-text-embed-v2": 1.0})


@pytest.mark.parametrize(
    ("model", "wanted", "dimension"),
    [
        ("llama-text-embed-v2", None, 1024),
        ("llama-text-embed-v2", 384, 384),
        ("llama-text-embed-v2", 2048, 2048),
        ("pplx-embed-v1-0.6b", 128, 128),
        ("text-embedding-3-large", None, 3072),
        ("text-embedding-3-small", 7, 7),
        ("nugen-flash-embed", None, 768),
    ],
)
def test_vectors_have_the_vendors_dimension(
    service: InferenceService, engine: FakeEngine, model: str, wanted: int | None, dimension: int
) -> None:
    result = run(service.embed(EmbedRequest(model, ["one two", "three"], dimension=wanted)))
    assert result.model == model
    assert result.vectors.shape == (2, dimension)
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-6)
    expected = fake_vector("one two", 384)[:dimension]
    np.testing.assert_allclose(result.vectors[0, : len(expected)], expected / np.linalg.norm(expected), atol=1e-6)
    assert not result.vectors[:, 384:].any()
    (asked,) = engine.calls
    assert (asked.model, asked.dimension, asked.encoding) == (LOCAL, None, Encoding.FLOAT32)


def test_with_dimension() -> None:
    vectors = np.array([[3, 4, 0], [0, 0, 2]], np.float32)
    for dimension, expected in (
        (2, [[0.6, 0.8], [0.0, 0.0]]),
        (3, [[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]),
        (5, [[0.6, 0.8, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]),
    ):
        np.testing.assert_allclose(with_dimension(vectors, dimension), np.array(expected), atol=1e-7)


def test_encodings_are_of_the_fitted_vector(service: InferenceService) -> None:
    def embedded(encoding: Encoding) -> Any:
        return run(service.embed(EmbedRequest("pplx-embed-v1-0.6b", ["a"], dimension=128, encoding=encoding))).vectors

    plain = embedded(Encoding.FLOAT32)
    np.testing.assert_array_equal(embedded(Encoding.INT8), np.rint(plain * 127).astype(np.int8))
    np.testing.assert_array_equal(embedded(Encoding.BINARY), np.packbits(plain >= 0, axis=1, bitorder="little"))


def test_the_vendors_limits_hold_and_not_the_local_models(service: InferenceService) -> None:
    long = "word " * 1000  # all-minilm-l6-v2 reads 256, llama-text-embed-v2 takes 2048
    result = run(service.embed(EmbedRequest("llama-text-embed-v2", [long], truncate=Truncate.NONE)))
    assert result.tokens.tolist() == [1000]
    assert result.cost == pytest.approx(1e-3)
    with pytest.raises(InputTooLong) as caught:
        run(service.embed(EmbedRequest("llama-text-embed-v2", ["a", long * 3], truncate=Truncate.NONE)))
    assert (caught.value.limit, caught.value.param) == (2048, ("inputs", 1))
    with pytest.raises(InvalidRequest, match="must be one of 384, 512"):
        run(service.embed(EmbedRequest("llama-text-embed-v2", ["a"], dimension=100)))
    # A vendor that says no limit has a high one.
    assert run(service.embed(EmbedRequest("nugen-flash-embed", [long], truncate=Truncate.NONE))).tokens[0] == 1000


def test_token_ids_are_refused(service: InferenceService, engine: FakeEngine) -> None:
    with pytest.raises(InvalidRequest, match="does not know the vendor's tokens") as caught:
        run(service.embed(EmbedRequest("text-embedding-3-small", ["a", [1, 2]])))
    assert caught.value.param == ("inputs", 1)
    assert engine.calls == []


def test_sparse(service: InferenceService, engine: FakeEngine) -> None:
    request = EmbedRequest("pinecone-sparse-english-v0", ["one two"], "query", max_tokens=2048, return_tokens=True)
    result = run(service.embed_sparse(request))
    assert (result.model, sorted(result.embeddings[0].tokens or ())) == ("pinecone-sparse-english-v0", ["one", "two"])
    (asked,) = engine.calls
    assert (asked.model, asked.max_tokens, asked.input_type) == ("bm25-english", 2048, "query")


def test_rerank(service: InferenceService, engine: FakeEngine) -> None:
    long = "word " * 500
    request = RerankRequest("bge-reranker-v2-m3", "one", ["two", long, "one"], top_n=2, truncate=Truncate.NONE)
    result = run(service.rerank(request))
    assert (result.model, result.indices[0], len(result.indices)) == ("bge-reranker-v2-m3", 2, 2)
    (asked,) = engine.calls
    assert (asked.model, asked.max_tokens, asked.reads_less) == (LOCAL, 1024, True)
    with pytest.raises(InputTooLong) as caught:
        run(service.rerank(RerankRequest("bge-reranker-v2-m3", "one", ["a", long * 3], truncate=Truncate.NONE)))
    assert caught.value.param == ("documents", 1)


def test_a_cross_encoder_as_a_stand_in(tmp_path: Path, engine: FakeEngine) -> None:
    folder = tmp_path / "bge-reranker-v2-m3"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    catalogue = Catalogue.build(tmp_path, stand_ins={"cohere-rerank-3.5": "bge-reranker-v2-m3"})
    service = InferenceService(catalogue, engine)
    result = run(service.rerank(RerankRequest("cohere-rerank-3.5", "a b", ["c", "a b"], truncate=Truncate.NONE)))
    assert (result.model, result.indices.tolist()) == ("cohere-rerank-3.5", [1, 0])


def test_names(service: InferenceService) -> None:
    assert service.stand_in("mine") == service.stand_in("llama-text-embed-v2") == LOCAL
    assert service.stand_in(LOCAL) is None
    assert service.stand_in("nothing") is None


def test_without_stand_ins_nothing_stands_in(tmp_path: Path, engine: FakeEngine) -> None:
    service = InferenceService(Catalogue.build(tmp_path), engine)
    with pytest.raises(NotFound, match="--stand-ins"):
        run(service.embed(EmbedRequest("text-embedding-3-small", ["a"])))


def test_chunks_of_documents_are_texts_of_their_own(service: InferenceService, engine: FakeEngine) -> None:
    model = "pplx-embed-context-v1-0.6b"
    documents = [["one two", "three"], ["four"]]
    result = run(service.embed_documents(EmbedDocumentsRequest(model, documents, dimension=128)))
    assert (result.model, result.tokens.tolist()) == (model, [3, 1])
    assert [vectors.shape for vectors in result.vectors] == [(2, 128), (1, 128)]
    expected = fake_vector("three", 384)[:128]
    np.testing.assert_allclose(result.vectors[0][1], expected / np.linalg.norm(expected), atol=1e-6)
    with pytest.raises(InputTooLong) as caught:
        run(service.embed_documents(EmbedDocumentsRequest(model, [["a"], ["b", "word " * 32_769]])))
    assert caught.value.param == ("documents", 1, 1)
    with pytest.raises(InvalidRequest, match="at most 2 tokens together") as refused:
        run(service.embed_documents(EmbedDocumentsRequest(model, documents, max_total_tokens=2)))
    assert refused.value.param == ("documents",)
