"""Folders as they come: what is read of a right one, and the one sentence that each wrong one gets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pinyon.catalog import Catalogue
from pinyon.engine.engine import compile_folder
from pinyon.engine.loader import ModelError, SafetensorsWeights, check_digests, describe, read_folder
from pinyon.testing import TINY_WORDS, tiny_bert


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_what_a_folder_says_is_what_is_read(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path, pooling="cls", normalise=False, max_seq_length=20, prompts={"query": "query: "})
    files = read_folder(folder)
    assert (files.pooling, files.normalise, files.max_tokens, files.config.hidden_size) == ("cls", False, 20, 32)
    assert files.prompt("query", {}) == "query: "
    assert files.prompt("passage", {}) == ""
    assert files.prompt(None, {}) == ""
    assert files.vocabulary(SafetensorsWeights(folder)) == len(TINY_WORDS)


def test_the_smallest_limit_counts(tmp_path: Path) -> None:
    assert read_folder(tiny_bert(tmp_path / "a", positions=48)).max_tokens == 48
    assert read_folder(tiny_bert(tmp_path / "b", positions=48, max_seq_length=200)).max_tokens == 48
    folder = tiny_bert(tmp_path / "c", positions=48)
    edit(folder / "tokenizer_config.json", lambda config: config | {"model_max_length": 1e30})
    assert read_folder(folder).max_tokens == 48
    edit(folder / "tokenizer_config.json", lambda config: config | {"model_max_length": 16})
    assert read_folder(folder).max_tokens == 16


def test_a_document_prompt_serves_a_passage_and_the_catalogues_prompts_win(tmp_path: Path) -> None:
    files = read_folder(tiny_bert(tmp_path, prompts={"query": "q: ", "document": "d: "}))
    assert files.prompt("passage", {}) == "d: "
    assert files.prompt("passage", {"query": "Q ", "passage": "P "}) == "P "


def test_a_default_prompt_is_used_when_none_is_asked_for(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path, prompts={"search": "search: "})
    edit(folder / "config_sentence_transformers.json", lambda config: config | {"default_prompt_name": "search"})
    assert read_folder(folder).prompt(None, {}) == "search: "


def test_a_folder_without_sentence_transformers_files_is_mean_pooled(tmp_path: Path) -> None:
    files = read_folder(tiny_bert(tmp_path, pooling=None))
    assert (files.pooling, files.normalise) == ("mean", False)


def test_describe_gives_a_catalogue_entry(tmp_path: Path) -> None:
    spec = describe(tiny_bert(tmp_path / "mine", max_seq_length=30), "mine")
    assert (spec.name, spec.task, spec.vector_type, spec.dimensions, spec.max_tokens) == (
        "mine",
        "embed",
        "dense",
        (32,),
        30,
    )
    assert {parameter.name: parameter.required for parameter in spec.parameters} == {
        "truncate": False, "dimension": False, "input_type": False,
    }  # fmt: skip
    assert Catalogue.build(tmp_path, [spec]).folder(spec) == tmp_path / "mine"


def test_half_precision_and_sharded_weights_are_read_as_they_are(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path)
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, mine in shards.items():
        save_file({name: whole[name].astype(np.float16) for name in mine}, folder / shard)
    weight_map = {name: shard for shard, mine in shards.items() for name in mine}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    weights = SafetensorsWeights(folder)
    for name, array in whole.items():
        assert weights(name).format == "F16"
        np.testing.assert_array_equal(weights(name).array, array.astype(np.float16))


def test_names_of_older_checkpoints_are_found(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path, prefix="bert.", old_names=True)
    weights = SafetensorsWeights(folder, "bert.")
    own = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(weights("embeddings.LayerNorm.weight").array, own["bert.embeddings.LayerNorm.gamma"])
    np.testing.assert_array_equal(weights("embeddings.LayerNorm.bias").array, own["bert.embeddings.LayerNorm.beta"])


def break_config(folder: Path, **changes: object) -> None:
    edit(folder / "config.json", lambda config: config | changes)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json: there is no such file"),
    "config is not JSON": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: not readable"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), r"a JSON object was expected"),
    "unknown architecture": (
        lambda folder: break_config(folder, model_type="gpt2"), r"model_type 'gpt2' is not one that Pinyon runs \(bert"
    ),
    "a size is missing": (
        lambda folder: edit(folder / "config.json", lambda c: {k: v for k, v in c.items() if k != "hidden_size"}),
        r"config\.json: .*hidden_size",
    ),
    "a size of a wrong type": (lambda folder: break_config(folder, num_hidden_layers="6"), "num_hidden_layers"),
    "heads do not divide": (lambda folder: break_config(folder, num_attention_heads=5), "not a multiple"),
    "relative positions": (
        lambda folder: break_config(folder, position_embedding_type="relative_key"), "is not 'absolute'"
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json: there is no such file"),
    "pooling unknown": (
        lambda folder: edit(
            folder / "1_Pooling" / "config.json",
            lambda c: c | {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True},
        ),
        r"pooling 'max_tokens' is not one that Pinyon runs",
    ),
    "two poolings": (
        lambda folder: edit(folder / "1_Pooling" / "config.json", lambda c: c | {"pooling_mode_cls_token": True}),
        "several pooling modes",
    ),
    "a dense layer on top": (
        lambda folder: edit(folder / "modules.json", lambda m: [*m, {"type": "sentence_transformers.models.Dense"}]),
        "module 'Dense' is not one that Pinyon runs",
    ),
    "a module outside": (
        lambda folder: edit(folder / "modules.json", lambda m: [{"type": "x.Pooling", "path": "../../etc"}]),
        "outside its folder",
    ),
    "a default prompt that is none": (
        lambda folder: (folder / "config_sentence_transformers.json").write_text('{"default_prompt_name": "x"}'),
        "default_prompt_name 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_folder_is_one_clear_sentence(tmp_path: Path, name: str) -> None:
    damage, expected = BROKEN[name]
    folder = tiny_bert(tmp_path)
    damage(folder)
    with pytest.raises(ModelError, match=expected) as caught:
        read_folder(folder)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def drop(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors")


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def reshaped(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"] = np.zeros((32, 100), np.float32)
    save_file(weights, folder / "model.safetensors")


def integers(folder: Path) -> None:
    weights = {name: array.astype(np.int32) for name, array in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")


def shard_outside(folder: Path) -> None:
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


BROKEN_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors: there is no such file"),
    "only a pickle": (only_pickled, r"pytorch_model\.bin is a pickle, which Pinyon does not read"),
    "a tensor is missing": (
        lambda folder: drop(folder, "encoder.layer.1.output.dense.bias"),
        r"no tensor 'encoder\.layer\.1\.output\.dense\.bias'",
    ),
    "truncated": (truncated, r"model\.safetensors: not a whole safetensors file"),
    "a wrong shape": (reshaped, r"weights do not fit its config\.json"),
    "integers": (integers, "is I32, not a float type"),
    "a shard outside": (shard_outside, "outside its folder"),
}


@pytest.mark.parametrize("name", BROKEN_WEIGHTS)
def test_wrong_weights_are_one_clear_sentence(tmp_path: Path, name: str) -> None:
    damage, expected = BROKEN_WEIGHTS[name]
    folder = tiny_bert(tmp_path)
    damage(folder)
    files = read_folder(folder)
    with pytest.raises(ModelError, match=expected) as caught:
        weights = SafetensorsWeights(folder, files.architecture.prefix)
        compile_folder(files, weights, precision="f32", threads=1)
    assert str(tmp_path) in str(caught.value)


def test_a_digest_that_differs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_digests(tmp_path, {"file": right})
    with pytest.raises(ModelError, match="damaged or another"):
        check_digests(tmp_path, {"file": "0" * 64})
    with pytest.raises(ModelError, match="No such file"):
        check_digests(tmp_path, {"gone": right})
