"""Pinecone's own Python SDK against a live server: 10.x in this process, older ones in one of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pinecone
import pytest
from pinecone import AsyncPinecone, Pinecone
from pinecone.models.inference.embed import DenseEmbedding

from pinyon.errors import Overloaded, Unavailable
from pinyon.testing import fake_vector
from tests.conftest import FakeServer
from tests.dialects.pinecone.sdk import run_python

StartServer = Callable[..., FakeServer]

TEXTS = ["the quick brown fox", "jumps over", "the lazy dog"]
NO_RETRIES = pinecone.RetryConfig(max_retries=0)


@pytest.fixture
def server(fake_server: StartServer) -> FakeServer:
    return fake_server(keys=("secret",), aliases={"multilingual-e5-large": "all-minilm-l6-v2"})


@pytest.fixture
def client(server: FakeServer) -> Iterator[Pinecone]:
    with Pinecone(api_key="secret", host=server.url, retry_config=NO_RETRIES) as client:
        yield client


def test_this_is_sdk_10() -> None:
    assert pinecone.__version__.startswith("10.")


def test_embed(client: Pinecone) -> None:
    answer = client.inference.embed(
        model="all-minilm-l6-v2", inputs=TEXTS, parameters={"input_type": "passage", "truncate": "END"}
    )
    assert (answer.model, answer.vector_type, answer.usage.total_tokens) == ("all-minilm-l6-v2", "dense", 9)
    for embedding, text in zip(answer.data, TEXTS, strict=True):
        assert isinstance(embedding, DenseEmbedding)
        assert embedding.vector_type == "dense"
        assert np.array_equal(np.array(embedding.values, dtype=np.float32), fake_vector(text, 384))


def test_embed_one_text_with_a_model_of_the_sdks_own(client: Pinecone) -> None:
    # An alias stands in for the hosted model, so that a program that names it needs no change.
    answer = client.inference.embed(pinecone.EmbedModel.Multilingual_E5_Large, "one text", {"input_type": "query"})
    assert answer.model == "multilingual-e5-large"
    assert len(answer.data) == 1


def test_rerank(client: Pinecone) -> None:
    documents = [{"text": text, "id": str(n), "n": n, "tags": ["a", None]} for n, text in enumerate(TEXTS)]
    answer = client.inference.rerank("all-minilm-l6-v2-rerank", "jumps over", documents, top_n=2)
    assert answer.usage.rerank_units == 1
    assert len(answer.data) == 2
    best = answer.data[0]
    assert best.index == 1
    assert best.score == pytest.approx(1.0)
    assert best.document is not None
    assert dict(best.document) == documents[1]


def test_rerank_strings_by_another_field(client: Pinecone) -> None:
    answer = client.inference.rerank(
        "all-minilm-l6-v2-rerank",
        "jumps over",
        [{"body": text} for text in TEXTS],
        rank_fields=["body"],
        return_documents=False,
        parameters={"truncate": "NONE"},
    )
    assert [ranked.document for ranked in answer.data] == [None] * 3
    assert answer.data[0].index == 1
    strings = client.inference.rerank("all-minilm-l6-v2-rerank", "jumps over", TEXTS)
    assert strings.data[0].index == 1


def test_models(client: Pinecone) -> None:
    everything = client.inference.list_models().names()
    embed = client.inference.list_models(type="embed").names()
    rerank = client.inference.list_models(type="rerank").names()
    assert sorted(embed + rerank) == sorted(everything)
    assert "all-minilm-l6-v2" in client.inference.list_models(type="embed", vector_type="dense").names()
    assert client.inference.list_models(vector_type="sparse").names() == ["bm25-english", "pinecone-sparse-english-v0"]


def test_model(client: Pinecone) -> None:
    info = client.inference.get_model(model="pinecone-sparse-english-v0")
    assert (info.type, info.vector_type, info.default_dimension) == ("embed", "sparse", None)
    assert info.max_sequence_length == 512
    tokens = next(p for p in info.supported_parameters if p.parameter == "max_tokens_per_sequence")
    assert (tokens.min, tokens.max, tokens.default, tokens.allowed_values) == (1, 2048, 512, None)
    ranker = client.inference.get_model(model="cohere-rerank-3.5")
    assert (ranker.vector_type, ranker.supported_metrics, ranker.max_batch_size) == (None, None, 200)


def test_every_model_can_be_described(client: Pinecone) -> None:
    for info in client.inference.list_models():
        assert client.inference.get_model(model=info.model) == info


# --- errors --------------------------------------------------------------------------------------------------------


def test_wrong_key(server: FakeServer) -> None:
    with (
        Pinecone(api_key="wrong", host=server.url, retry_config=NO_RETRIES) as client,
        pytest.raises(pinecone.UnauthorizedError) as caught,
    ):
        client.inference.list_models()
    assert (caught.value.status_code, caught.value.error_code) == (401, "UNAUTHENTICATED")
    assert caught.value.message == "Invalid API key"
    assert caught.value.request_id


def test_unknown_model(client: Pinecone) -> None:
    with pytest.raises(pinecone.NotFoundError, match="Model 'nothing' not found"):
        client.inference.embed("nothing", TEXTS)
    with pytest.raises(pinecone.NotFoundError, match="Model 'nothing' not found"):
        client.inference.rerank("nothing", "q", TEXTS)
    with pytest.raises(pinecone.NotFoundError, match="Model 'nothing/else\\?' not found"):
        client.inference.get_model(model="nothing/else?")


def test_weights_that_are_not_here(client: Pinecone) -> None:
    with pytest.raises(pinecone.NotFoundError, match="pinyon models pull llama-text-embed-v2"):
        client.inference.embed(pinecone.EmbedModel.Llama_Text_Embed_V2, TEXTS, {"input_type": "query"})


def test_bad_requests(client: Pinecone) -> None:
    with pytest.raises(pinecone.ApiError, match=r"parameters\.dimension.*must be one of 384") as caught:
        client.inference.embed("all-minilm-l6-v2", TEXTS, {"dimension": 100})
    assert (caught.value.status_code, caught.value.error_code) == (400, "INVALID_ARGUMENT")
    with pytest.raises(pinecone.ApiError, match=r"inputs\[1\]\.text.*has 257 tokens"):
        client.inference.embed("all-minilm-l6-v2", ["a", "a " * 257], {"truncate": "NONE"})
    with pytest.raises(pinecone.ApiError, match=r"documents\[0\]\.text.*is required"):
        client.inference.rerank("all-minilm-l6-v2-rerank", "q", [{"body": "a"}])


def test_overload_and_shutdown(client: Pinecone, server: FakeServer) -> None:
    server.engine.error = Overloaded("The queue is full", retry_after=7)
    with pytest.raises(pinecone.RateLimitError, match="The queue is full") as limited:
        client.inference.embed("all-minilm-l6-v2", TEXTS)
    assert limited.value.headers is not None
    assert limited.value.headers["retry-after"] == "7"
    server.engine.error = Unavailable("The server is shutting down")
    with pytest.raises(pinecone.ServiceError, match="shutting down") as unavailable:
        client.inference.embed("all-minilm-l6-v2", TEXTS)
    assert unavailable.value.status_code == 503


# --- other ways in -------------------------------------------------------------------------------------------------


def test_host_from_the_environment(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
    monkeypatch.setenv("PINECONE_API_KEY", "secret")
    with Pinecone() as client:
        assert len(client.inference.embed("all-minilm-l6-v2", TEXTS).data) == 3


def test_host_with_the_prefix(server: FakeServer) -> None:
    with Pinecone(api_key="secret", host=server.url + "/pinecone") as client:
        assert len(client.inference.embed("all-minilm-l6-v2", TEXTS).data) == 3


def test_asyncio(server: FakeServer) -> None:
    async def use() -> None:
        async with AsyncPinecone(api_key="secret", host=server.url, retry_config=NO_RETRIES) as client:
            answers = await asyncio.gather(
                *(client.inference.embed("all-minilm-l6-v2", [text], {"input_type": "query"}) for text in TEXTS)
            )
            for answer, text in zip(answers, TEXTS, strict=True):
                assert np.array_equal(np.array(answer.data[0].values, dtype=np.float32), fake_vector(text, 384))
            ranked = await client.inference.rerank("all-minilm-l6-v2-rerank", "jumps over", TEXTS, top_n=1)
            assert [item.index for item in ranked.data] == [1]
            assert ranked.data[0].document is not None
            assert dict(ranked.data[0].document) == {"text": "jumps over"}
            sparse = await client.inference.list_models(type="embed", vector_type="sparse")
            assert sparse.names() == ["bm25-english", "pinecone-sparse-english-v0"]
            assert (await client.inference.get_model(model="all-minilm-l6-v2")).default_dimension == 384
            with pytest.raises(pinecone.NotFoundError, match="not found"):
                await client.inference.get_model(model="nothing")
            with pytest.raises(pinecone.ApiError, match=r"parameters\.truncate"):
                await client.inference.embed("all-minilm-l6-v2", TEXTS, {"truncate": "end"})

    asyncio.run(use())


# --- other majors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [7, 8, 9])
def test_older_sdks(server: FakeServer, major: int) -> None:
    """7 and 8 read answers by generated OpenAPI models; 7 sends 2025-04, 8 and 9 send 2025-10."""
    seen = run_python(major, "inference", server.url)
    expected = np.stack([fake_vector("one", 384), fake_vector("two words", 384)])
    assert np.array_equal(np.array(seen["vectors"], dtype=np.float32), expected)
