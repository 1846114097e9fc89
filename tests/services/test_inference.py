"""The inference verbs over a fake engine: what is checked, in which order, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.errors import InputTooLong, InvalidRequest, NotFound, Overloaded, Param, Unavailable
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue, fake_vector
from pinyon.types import EmbedRequest, EmbedResult, Encoding, Input, RerankRequest, Truncate

MODEL = "all-minilm-l6-v2"
RERANKER = "all-minilm-l6-v2-rerank"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def service(tmp_path: Path, engine: FakeEngine) -> InferenceService:
    return InferenceService(fake_catalogue(tmp_path, mine=MODEL, ranker=RERANKER), engine, {MODEL: 2.5})


def with_models(folder: Path, *names: str, **more: Any) -> Catalogue:
    """The built-in catalogue, with weights for `names` in its folder."""
    catalogue = Catalogue.build(folder, **more)
    for name in names:
        place = catalogue.pulled_folder(name)
        place.mkdir()
        (place / "config.json").write_text("{}")
    return catalogue


async def refused(work: Any, kind: type[InvalidRequest], param: Param, text: str) -> None:
    with pytest.raises(kind) as caught:
        await work
    assert type(caught.value) is kind
    assert caught.value.param == param
    assert text in caught.value.reason


def run(work: Callable[[], Any]) -> None:
    asyncio.run(work())


# --- embed


def test_embed_gives_what_the_engine_gives(service: InferenceService, engine: FakeEngine) -> None:
    request = EmbedRequest(MODEL, ["one two", [5, 6, 7]], input_type="query", truncate=Truncate.NONE)

    async def main() -> None:
        result = await service.embed(request)
        assert engine.calls == [request]
        assert result.model == MODEL
        assert result.tokens.tolist() == [2, 3]
        np.testing.assert_array_equal(result.vectors[0], fake_vector("one two", 384))
        assert result.cost == pytest.approx(5 * 2.5e-6, rel=1e-12)

    run(main)


def test_an_alias_keeps_its_name_and_has_the_price_of_its_model(service: InferenceService) -> None:
    async def main() -> None:
        result = await service.embed(EmbedRequest("mine", ["one two three four"]))
        assert result.model == "mine"
        assert result.cost == pytest.approx(1e-5, rel=1e-12)

    run(main)


def test_without_a_price_it_costs_nothing(tmp_path: Path, engine: FakeEngine) -> None:
    async def main() -> None:
        result = await InferenceService(fake_catalogue(tmp_path), engine).embed(EmbedRequest(MODEL, ["a"]))
        assert result.cost == 0.0

    run(main)


def test_embed_sparse(service: InferenceService, engine: FakeEngine) -> None:
    request = EmbedRequest("bm25-english", ["one two", "two"], input_type="query", return_tokens=True)

    async def main() -> None:
        result = await service.embed_sparse(request)
        assert engine.calls == [request]
        assert (result.model, result.tokens.tolist()) == ("bm25-english", [2, 1])
        assert [sorted(embedding.tokens or ()) for embedding in result.embeddings] == [["one", "two"], ["two"]]

    run(main)
    for wrong, param, text in (
        (EmbedRequest(MODEL, ["a"]), ("model",), "gives dense vectors"),
        (EmbedRequest(RERANKER, ["a"]), ("model",), "is a reranking model"),
        (EmbedRequest("bm25-english", []), ("inputs",), "at least one"),
        (EmbedRequest("bm25-english", ["a", ""]), ("inputs", 1), "must not be empty"),
    ):
        run(partial(refused, service.embed_sparse(wrong), InvalidRequest, param, text))


@pytest.mark.parametrize("encoding", Encoding)
def test_vectors_of_every_encoding_pass_through(service: InferenceService, encoding: Encoding) -> None:
    async def main() -> None:
        result = await service.embed(EmbedRequest(MODEL, ["a", "b"], encoding=encoding))
        width = {Encoding.FLOAT32: 384, Encoding.INT8: 384, Encoding.BINARY: 48}[encoding]
        assert result.vectors.shape == (2, width)

    run(main)


@pytest.mark.parametrize(
    ("request_", "param", "text"),
    [
        (EmbedRequest(RERANKER, ["a"]), ("model",), "is a reranking model"),
        (EmbedRequest("ranker", ["a"]), ("model",), "'ranker' is a reranking model"),
        (EmbedRequest("bm25-english", ["a"]), ("model",), "'bm25-english' gives sparse vectors"),
        (EmbedRequest(MODEL, []), ("inputs",), "at least one"),
        (EmbedRequest(MODEL, [""]), ("inputs", 0), "must not be empty"),
        (EmbedRequest(MODEL, ["a", "b", ""]), ("inputs", 2), "must not be empty"),
        (EmbedRequest(MODEL, ["a", []]), ("inputs", 1), "must not be empty"),
        (EmbedRequest(MODEL, ["a", "b\0c"]), ("inputs", 1), "NUL"),
        (EmbedRequest(MODEL, ["a"], dimension=128), ("dimension",), "must be one of 384"),
        (EmbedRequest(MODEL, ["a"], dimension=0), ("dimension",), "must be one of 384"),
        (EmbedRequest("pplx-embed-v1-0.6b", ["a"], dimension=127), ("dimension",), "between 128 and 1024"),
        (EmbedRequest("pplx-embed-v1-0.6b", ["a"], dimension=1025), ("dimension",), "between 128 and 1024"),
    ],
)
def test_embed_refuses(
    service: InferenceService, engine: FakeEngine, request_: EmbedRequest, param: Param, text: str
) -> None:
    run(lambda: refused(service.embed(request_), InvalidRequest, param, text))
    assert engine.calls == []


def test_embed_too_long_is_the_engines_own(service: InferenceService) -> None:
    request = EmbedRequest(MODEL, ["a", "long " * 300], truncate=Truncate.NONE)
    run(lambda: refused(service.embed(request), InputTooLong, ("inputs", 1), "300"))


@pytest.mark.parametrize("error", [Overloaded("busy", 1.0), Unavailable("not now"), ZeroDivisionError()])
def test_the_engines_errors_pass(service: InferenceService, engine: FakeEngine, error: Exception) -> None:
    engine.error = error

    async def main() -> None:
        for work in (service.embed(EmbedRequest(MODEL, ["a"])), service.rerank(RerankRequest(RERANKER, "a", ["b"]))):
            with pytest.raises(type(error)) as caught:
                await work
            assert caught.value is error

    run(main)


def test_models_that_are_not_here(service: InferenceService, engine: FakeEngine) -> None:
    async def main() -> None:
        with pytest.raises(NotFound, match=r"'nothing' not found.*'all-minilm-l6-v2'") as unknown:
            await service.embed(EmbedRequest("nothing", ["a"]))
        assert (unknown.value.kind, unknown.value.name) == ("model", "nothing")
        with pytest.raises(NotFound, match="pinyon models pull llama-text-embed-v2"):
            await service.embed(EmbedRequest("llama-text-embed-v2", ["a"]))
        with pytest.raises(NotFound, match="pinyon models pull bge-reranker-v2-m3"):
            await service.rerank(RerankRequest("bge-reranker-v2-m3", "a", ["b"]))
        with pytest.raises(NotFound, match="no public weights"):
            await service.embed_sparse(EmbedRequest("pinecone-sparse-english-v0", ["a"]))
        with pytest.raises(NotFound, match="'nothing' not found"):
            await service.rerank(RerankRequest("nothing", "a", ["b"]))

    run(main)
    assert engine.calls == []


def test_what_is_wrong_with_the_request_comes_before_missing_weights(service: InferenceService) -> None:
    request = EmbedRequest("llama-text-embed-v2", ["a"], dimension=7)
    run(lambda: refused(service.embed(request), InvalidRequest, ("dimension",), "384, 512"))


def test_a_cross_encoder_ranks_by_itself(tmp_path: Path, engine: FakeEngine) -> None:
    catalogue = with_models(tmp_path, "bge-reranker-v2-m3", aliases={"mine": "bge-reranker-v2-m3"})
    service = InferenceService(catalogue, engine)

    async def main() -> None:
        result = await service.rerank(RerankRequest("mine", "a b", ["c", "a b c", "b", "d b"], top_n=3))
        assert (result.model, result.indices.tolist()) == ("mine", [1, 2, 3])
        assert result.scores.tolist() == [1.0, 0.5, 0.5]

    run(main)


# --- rerank


class KnownVectors(FakeEngine):
    """An engine that knows its texts."""

    def __init__(self, vectors: dict[str, tuple[float, float]]) -> None:
        super().__init__()
        self.vectors = vectors
        self.named: list[tuple[str, EmbedRequest]] = []

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        self.named.append((spec.name, request))
        rows = [self.vectors[text] for text in request.inputs if isinstance(text, str)]
        return EmbedResult(spec.name, np.array(rows, np.float32), np.full(len(rows), 7, np.int32))


VECTORS = {
    "query": (2.0, 0.0),
    "same": (1.0, 0.0),
    "near": (3.0, 3.0),  # cosine 0.7071, whatever the length
    "across": (0.0, 5.0),
    "away": (-1.0, 1.0),
    "opposite": (-4.0, 0.0),
    "nothing": (0.0, 0.0),
}


def ranked(folder: Path, documents: Sequence[str], top_n: int | None = None) -> tuple[list[int], list[float]]:
    engine = KnownVectors(VECTORS)
    service = InferenceService(fake_catalogue(folder), engine)
    found: list[Any] = []

    async def main() -> None:
        found.append(await service.rerank(RerankRequest(RERANKER, "query", documents, top_n, Truncate.START)))

    run(main)
    [(model, asked)] = engine.named
    assert model == MODEL
    assert list(asked.inputs) == ["query", *documents]
    assert (asked.truncate, asked.encoding, asked.input_type) == (Truncate.START, Encoding.FLOAT32, None)
    [result] = found
    assert result.model == RERANKER
    assert result.tokens == 7 * (len(documents) + 1)
    assert result.scores.dtype == np.float32
    return result.indices.tolist(), result.scores.tolist()


def test_best_first(tmp_path: Path) -> None:
    indices, scores = ranked(tmp_path, ["across", "near", "same"])
    assert indices == [2, 1, 0]
    assert scores == pytest.approx([1.0, 0.5**0.5, 0.0], abs=1e-6)


def test_equal_scores_keep_the_requests_order(tmp_path: Path) -> None:
    indices, _ = ranked(tmp_path, ["near", "same", "near", "same", "near"])
    assert indices == [1, 3, 0, 2, 4]


def test_negative_cosines_score_0_and_keep_their_rank(tmp_path: Path) -> None:
    indices, scores = ranked(tmp_path, ["opposite", "away", "across", "near"])
    assert indices == [3, 2, 1, 0]
    assert scores == pytest.approx([0.5**0.5, 0.0, 0.0, 0.0], abs=1e-6)


def test_a_vector_of_zeros_scores_0(tmp_path: Path) -> None:
    indices, scores = ranked(tmp_path, ["nothing", "same"])
    assert indices == [1, 0]
    assert scores == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(
    ("top_n", "expected"), [(1, [2]), (2, [2, 1]), (3, [2, 1, 0]), (4, [2, 1, 0]), (10**9, [2, 1, 0])]
)
def test_top_n(tmp_path: Path, top_n: int, expected: list[int]) -> None:
    assert ranked(tmp_path, ["across", "near", "same"], top_n)[0] == expected


def test_scores_lie_between_0_and_1(service: InferenceService) -> None:
    async def main() -> None:
        result = await service.rerank(RerankRequest("ranker", "a text", [f"text {n}" for n in range(50)] + ["a text"]))
        assert result.model == "ranker"
        assert result.indices[0] == 50
        assert sorted(result.indices.tolist()) == list(range(51))
        assert result.scores.min() >= 0
        assert result.scores.max() <= 1
        assert (np.diff(result.scores) <= 0).all()

    run(main)


@pytest.mark.parametrize(
    ("request_", "param", "text"),
    [
        (RerankRequest(MODEL, "a", ["b"]), ("model",), "is an embedding model"),
        (RerankRequest(RERANKER, "", ["b"]), ("query",), "must not be empty"),
        (RerankRequest(RERANKER, "a\0", ["b"]), ("query",), "NUL"),
        (RerankRequest(RERANKER, "a", []), ("documents",), "at least one"),
        (RerankRequest(RERANKER, "a", ["b", ""]), ("documents", 1), "must not be empty"),
        (RerankRequest(RERANKER, "a", ["\0", "b"]), ("documents", 0), "NUL"),
        (RerankRequest(RERANKER, "a", ["b"], top_n=0), ("top_n",), "1 or more"),
        (RerankRequest(RERANKER, "a", ["b"], top_n=-1), ("top_n",), "1 or more"),
    ],
)
def test_rerank_refuses(
    service: InferenceService, engine: FakeEngine, request_: RerankRequest, param: Param, text: str
) -> None:
    run(lambda: refused(service.rerank(request_), InvalidRequest, param, text))
    assert engine.calls == []


@pytest.mark.parametrize(
    ("query", "documents", "param"),
    [
        ("long " * 300, ["b"], ("query",)),
        ("a", ["long " * 300], ("documents", 0)),
        ("a", ["b", "long " * 300], ("documents", 1)),
    ],
)
def test_which_text_of_a_rerank_is_too_long(
    service: InferenceService, query: str, documents: list[str], param: Param
) -> None:
    request = RerankRequest(RERANKER, query, documents, truncate=Truncate.NONE)
    run(lambda: refused(service.rerank(request), InputTooLong, param, "300 tokens, more than the 256"))


# --- models


def test_list_models(service: InferenceService) -> None:
    everything = service.list_models()
    assert {"mine", "ranker", MODEL, RERANKER, "nugen-flash-embed"} <= everything.keys()
    assert everything["mine"].name == MODEL
    assert list(service.list_models("rerank")) == [
        RERANKER, "bge-reranker-v2-m3", "pinecone-rerank-v0", "cohere-rerank-3.5", "ranker",
    ]  # fmt: skip
    assert list(service.list_models("embed", "sparse")) == ["bm25-english", "pinecone-sparse-english-v0"]
    assert service.list_models("rerank", "dense") == {}
    assert service.list_models(vector_type="dense").keys() == service.list_models("embed", "dense").keys()


def test_an_alias_hides_the_model_whose_name_it_has(tmp_path: Path, engine: FakeEngine) -> None:
    catalogue = Catalogue.build(tmp_path, aliases={"multilingual-e5-large": MODEL})
    service = InferenceService(catalogue, engine)
    assert service.get_model("multilingual-e5-large").name == MODEL
    assert service.list_models()["multilingual-e5-large"].name == MODEL


def test_get_model(service: InferenceService) -> None:
    assert service.get_model("ranker").name == RERANKER
    with pytest.raises(NotFound):
        service.get_model("nothing")


def test_checks_take_any_sequence(service: InferenceService) -> None:
    inputs: tuple[Input, ...] = ("a", np.array([4, 5], np.int32))  # type: ignore[assignment]

    async def main() -> None:
        assert (await service.embed(EmbedRequest(MODEL, inputs))).tokens.tolist() == [1, 2]

    run(main)
