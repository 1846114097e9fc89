"""What stands on an encoder, against sentence-transformers: cross-encoders' scores, and learned sparse vectors."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer as HubTokenizer

from pinyon.catalog import Catalogue
from pinyon.engine import backends
from pinyon.engine.engine import Engine, compile_folder
from pinyon.engine.loader import ModelError, SafetensorsWeights, describe, read_folder
from pinyon.errors import InputTooLong, Unsupported
from pinyon.types import EmbedRequest, RerankRequest, Truncate

from .conftest import Oracle
from .families import FAMILIES, LONGEST, RANKERS, SPARSE, Family, quiet, texts, write_pooling, write_tokenizer_config

R = TypeVar("R")
TOLERANCE = 1e-4


def on_engine(
    folder: Path, work: Callable[[Engine, Any], Awaitable[R]], precision: Literal["f32", "bf16"] = "f32"
) -> R:
    async def run() -> R:
        spec = describe(folder, "tiny")
        engine = Engine(Catalogue.build(Path("/nonexistent"), [spec]), precision=precision, threads=1)
        try:
            return await work(engine, spec)
        finally:
            await engine.close()

    return asyncio.run(run())


# --- rerank


@pytest.mark.oracle
@pytest.mark.parametrize("name", RANKERS)
def test_scores_agree_with_a_cross_encoder(tmp_path: Path, oracle: Oracle, name: str) -> None:
    """Short pairs and pairs past the limit, whichever of the two texts is long."""
    RANKERS[name].build(tmp_path)
    write_tokenizer_config(tmp_path)
    documents = texts()
    with quiet():
        from sentence_transformers import CrossEncoder

        peer = CrossEncoder(str(tmp_path), device="cpu", local_files_only=True)
    queries = ["a cat", documents[7], documents[-1]]

    async def ask(engine: Engine, spec: Any) -> list[Any]:
        assert spec.task == "rerank"
        return [await engine.rerank(spec, RerankRequest("tiny", query, documents)) for query in queries]

    tokenizer = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    for query, result in zip(queries, on_engine(tmp_path, ask), strict=True):
        with quiet():
            expected = np.asarray(peer.predict([(query, document) for document in documents], batch_size=1))
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(result.scores, expected[result.indices], atol=TOLERANCE, rtol=0)
        assert (np.diff(result.scores) <= 0).all()
        assert sorted(result.indices.tolist()) == list(range(len(documents)))
        assert result.tokens == sum(len(tokenizer.encode(query, document).ids) for document in documents)


@pytest.mark.oracle
def test_pairs_that_are_too_long_are_cut_at_the_start_or_refused(tmp_path: Path, oracle: Oracle) -> None:
    model = RANKERS["xlm-roberta"].build(tmp_path)
    documents = ["a cat", texts()[-1]]
    tokenizer = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    whole = len(tokenizer.encode("the mat", documents[1]).ids)
    tokenizer.enable_truncation(LONGEST, direction="left")
    with quiet():
        import torch

        with torch.no_grad():
            pairs = [torch.tensor([tokenizer.encode("the mat", document).ids]) for document in documents]
            expected = [float(torch.sigmoid(model(input_ids=ids).logits)) for ids in pairs]

    async def ask(engine: Engine, spec: Any) -> Any:
        result = await engine.rerank(spec, RerankRequest("tiny", "the mat", documents, truncate=Truncate.START))
        with pytest.raises(InputTooLong) as caught:
            await engine.rerank(spec, RerankRequest("tiny", "the mat", documents, truncate=Truncate.NONE))
        assert (caught.value.tokens, caught.value.limit, caught.value.param) == (whole, LONGEST, ("documents", 1))
        with pytest.raises(InputTooLong) as caught:
            await engine.rerank(spec, RerankRequest("tiny", documents[1], ["a"], truncate=Truncate.NONE))
        assert caught.value.param == ("query",)
        with pytest.raises(Unsupported, match="rerank, not dense"):
            await engine.embed(spec, EmbedRequest("tiny", ["a"]))
        return result

    result = on_engine(tmp_path, ask)
    scores = dict(zip(result.indices.tolist(), result.scores.tolist(), strict=True))
    np.testing.assert_allclose([scores[0], scores[1]], expected, atol=TOLERANCE)


# --- sparse


@pytest.mark.oracle
@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("head", [None, ("max", "log1p_relu"), ("sum", "relu")])
def test_terms_agree_with_a_sparse_encoder(
    tmp_path: Path, oracle: Oracle, name: str, head: tuple[str, str] | None
) -> None:
    SPARSE[name].build(tmp_path)
    write_tokenizer_config(tmp_path)
    if head is not None:
        modules = ["base.modules.transformer.Transformer", "sparse_encoder.modules.splade_pooling.SpladePooling"]
        (tmp_path / "modules.json").write_text(json.dumps([
            {"idx": n, "name": str(n), "path": ("", "1_SpladePooling")[n], "type": f"sentence_transformers.{module}"}
            for n, module in enumerate(modules)
        ]))  # fmt: skip
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "SparseEncoder"}))
        (tmp_path / "1_SpladePooling").mkdir()
        vocabulary = HubTokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size()
        settings = {"pooling_strategy": head[0], "activation_function": head[1], "embedding_dimension": vocabulary}
        (tmp_path / "1_SpladePooling" / "config.json").write_text(json.dumps(settings))
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({
            "transformer_task": "fill-mask", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        }))  # fmt: skip
    with quiet():
        from sentence_transformers import SparseEncoder

        peer = SparseEncoder(str(tmp_path), device="cpu", local_files_only=True)
        encoded = peer.encode(texts(), convert_to_sparse_tensor=False, batch_size=1)
    expected = np.asarray(encoded)
    asked = EmbedRequest("tiny", texts(), return_tokens=True)

    async def ask(engine: Engine, spec: Any) -> Any:
        assert (spec.task, spec.vector_type) == ("embed", "sparse")
        return await engine.embed_sparse(spec, asked)

    result = on_engine(tmp_path, ask)
    tokenizer = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for row, embedding in zip(expected, result.embeddings, strict=True):
        dense = np.zeros_like(row)
        dense[embedding.indices] = embedding.values
        np.testing.assert_allclose(dense, row, atol=TOLERANCE, rtol=TOLERANCE)
        assert (embedding.values > 0).all() and (np.diff(embedding.indices.astype(np.int64)) > 0).all()
        assert embedding.tokens == [tokenizer.id_to_token(int(index)) for index in embedding.indices]
    assert result.tokens[-1] == LONGEST


@pytest.mark.oracle
def test_heads_in_bf16_agree_to_what_bf16_can_tell(tmp_path: Path, oracle: Oracle) -> None:
    if not backends.hardware().has_bf16:
        pytest.skip("this processor has no bf16")

    async def scores(engine: Engine, spec: Any) -> Any:
        result = await engine.rerank(spec, RerankRequest("tiny", "a cat", texts()))
        return result.scores[np.argsort(result.indices)]

    async def weights(engine: Engine, spec: Any) -> Any:
        result = await engine.embed_sparse(spec, EmbedRequest("tiny", texts()))
        dense = np.zeros((len(texts()), 1000), np.float32)
        for row, embedding in zip(dense, result.embeddings, strict=True):
            row[embedding.indices] = embedding.values
        return dense

    cases: list[tuple[dict[str, Family], Callable[[Engine, Any], Awaitable[Any]]]] = [
        (RANKERS, scores), (SPARSE, weights),
    ]  # fmt: skip
    for families, work in cases:
        for name, family in families.items():
            folder = tmp_path / work.__name__ / name
            family.build(folder)
            exact, rounded = on_engine(folder, work), on_engine(folder, work, "bf16")
            np.testing.assert_allclose(rounded, exact, atol=0.05, err_msg=name)


# --- folders

UNUSED = ("pooler.",)  # of an encoder that was saved with one


@pytest.mark.oracle
@pytest.mark.parametrize(("families", "name"), [
    (families, name) for families in (FAMILIES, RANKERS, SPARSE) for name in families
])  # fmt: skip
def test_every_tensor_is_missed_and_measured(
    tmp_path: Path, oracle: Oracle, families: dict[str, Family], name: str
) -> None:
    families[name].build(tmp_path)
    files = read_folder(tmp_path)
    path = str(tmp_path / "model.safetensors")
    for tensor in SafetensorsWeights(tmp_path)._tensors:
        if tensor.startswith(UNUSED) and families is FAMILIES:
            continue
        for axis in (None, 0, -1):
            weights = SafetensorsWeights(tmp_path, files.architecture.prefix)
            stored = weights._tensors.pop(tensor)
            expected = "has no tensor"
            if axis is not None:
                shape = list(stored.entry.shape)
                shape[axis] -= 1
                entry = msgspec.structs.replace(stored.entry, shape=tuple(shape))
                weights._tensors[tensor] = dataclasses.replace(stored, entry=entry)
                expected = "was expected"
            with pytest.raises(ModelError) as caught:
                compile_folder(files, weights, precision="f32", threads=1)
            message = str(caught.value)
            assert message.startswith(path) and expected in message
            assert tensor.removeprefix(files.architecture.prefix) in message


@pytest.mark.oracle
def test_a_folder_says_what_it_is(tmp_path: Path, oracle: Oracle) -> None:
    RANKERS["bert"].build(tmp_path / "ranker")
    SPARSE["bert"].build(tmp_path / "masked")
    FAMILIES["qwen3"].build(tmp_path / "qwen3")
    FAMILIES["bidirectional_pplx_qwen3"].build(tmp_path / "pplx")
    assert read_folder(tmp_path / "ranker").kind == "rerank"
    assert read_folder(tmp_path / "masked").kind == "sparse"
    assert [read_folder(tmp_path / name).pooling for name in ("qwen3", "pplx")] == ["last", "mean"]
    assert [describe(tmp_path / name, "m").int8 for name in ("qwen3", "pplx")] == ["unit", "tanh"]
    # An encoder may be saved from a masked language model's class: its modules say what it is for.
    write_pooling(tmp_path / "masked", "mean_tokens")
    assert read_folder(tmp_path / "masked").kind == "dense"
    config = json.loads((tmp_path / "ranker" / "config.json").read_text())
    for changes, expected in (
        ({"id2label": {"0": "no", "1": "yes"}}, "a model that ranks has one label"),
        ({"model_type": "mpnet", "pad_token_id": 1}, "BertForSequenceClassification is not a head that Pinyon runs"),
    ):
        (tmp_path / "ranker" / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ModelError, match=expected):
            read_folder(tmp_path / "ranker")
