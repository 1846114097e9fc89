"""Folders as they come: what is read of a right one, and the one sentence that each wrong one gets."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pinyon.catalog import Catalogue
from pinyon.engine import backends
from pinyon.engine.engine import compile_folder
from pinyon.engine.loader import ModelError, SafetensorsWeights, check_digests, describe, for_spec, read_folder
from pinyon.testing import TINY_WORDS, tiny_bert
from pinyon.types import FloatArray


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


def test_a_sharded_folder_and_one_of_half_precision_give_the_same_vectors(tmp_path: Path) -> None:
    """fp16 weights are computed with in f32, so that nothing overflows that does not in f32."""
    whole = tiny_bert(tmp_path / "whole")
    weights = {name: array.astype(np.float16) for name, array in load_file(whole / "model.safetensors").items()}
    # 70,000 is past what fp16 holds: hidden states that large must pass.
    weights["embeddings.word_embeddings.weight"] *= np.float16(3e4)
    save_file({name: array.astype(np.float32) for name, array in weights.items()}, whole / "model.safetensors")
    sharded = tiny_bert(tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    shards = {name: f"model-0000{n % 3 + 1}-of-00003.safetensors" for n, name in enumerate(weights)}
    for shard in set(shards.values()):
        save_file({name: array for name, array in weights.items() if shards[name] == shard}, sharded / shard)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    one, two = (run(folder) for folder in (whole, sharded))
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)


def run(folder: Path, precision: Literal["f32", "bf16"] = "f32") -> FloatArray:
    files = read_folder(folder)
    model = compile_folder(files, SafetensorsWeights(folder, files.architecture.prefix), precision=precision, threads=1)
    ids = np.array([[2, 7, 9, 11, 3]], dtype=np.int32)
    return model.start(backends.TokenBatch.of(ids))().copy()


def save_bf16(weights: dict[str, FloatArray], path: Path) -> None:
    """By hand: numpy has no bf16. Values are cut, not rounded."""
    header: dict[str, object] = {}
    data = b""
    for name, array in weights.items():
        bits = (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": [len(data), len(data) + len(bits)]}
        data += bits
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def test_bf16_weights_are_those_bits_and_a_view_of_their_file(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path)
    whole = load_file(folder / "model.safetensors")
    save_bf16(whole, folder / "model.safetensors")
    weights = SafetensorsWeights(folder)
    for name, array in whole.items():
        weight = weights(name)
        assert weight.format == "BF16" and not weight.array.flags.owndata
        np.testing.assert_array_equal(weight.array, np.ascontiguousarray(array).view(np.uint32) >> 16)
    bits = {name: np.ascontiguousarray(array).view(np.uint32) & 0xFFFF0000 for name, array in whole.items()}
    cut = {name: array.view(np.float32) for name, array in bits.items()}
    rounded = run(folder)
    if backends.hardware().has_bf16:
        np.testing.assert_allclose(run(folder, "bf16"), rounded, atol=0.1)
    save_file(cut, folder / "model.safetensors")
    np.testing.assert_array_equal(run(folder), rounded)


MEMORY = """
import sys
from pathlib import Path
from pinyon.engine import backends
from pinyon.engine.engine import compile_folder
from pinyon.engine.loader import SafetensorsWeights, read_folder

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

def load(folder):
    files = read_folder(Path(folder))
    return compile_folder(files, SafetensorsWeights(Path(folder)), precision="bf16", threads=1)

small = load(sys.argv[1])
before = held()
large = load(sys.argv[2])
print(held() - before)
"""


def test_bf16_weights_stay_bf16_in_memory(tmp_path: Path) -> None:
    if not backends.hardware().has_bf16:
        pytest.skip("this processor has no bf16")
    tiny_bert(tmp_path / "small")
    large = tiny_bert(tmp_path / "large", hidden=512, heads=8, layers=8)
    whole = load_file(large / "model.safetensors")
    save_bf16(whole, large / "model.safetensors")
    megabytes = sum(array.size for array in whole.values()) * 2 / 2**20
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "small"), str(large)], capture_output=True, text=True, check=True
    )
    assert megabytes > 45
    # Once, as the processor's kernels want it, and not as f32 beside it (3 times as much).
    assert float(done.stdout) < 1.6 * megabytes


def test_a_catalogue_entry_says_what_a_folder_does_not(tmp_path: Path) -> None:
    files = read_folder(tiny_bert(tmp_path, pooling=None))
    spec = describe(tmp_path, "tiny")
    assert for_spec(files, spec) == files
    said = for_spec(files, msgspec.structs.replace(spec, pooling="last", normalise=True))
    assert (said.pooling, said.normalise) == ("last", True)
    for changes in ({"vector_type": "sparse"}, {"task": "rerank", "vector_type": None}):
        with pytest.raises(ModelError, match=r"config\.json: is a dense model's, and 'tiny' is"):
            for_spec(files, msgspec.structs.replace(spec, **changes))


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


def shard_missing(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = {"weight_map": {name: shards[n % 2] for n, name in enumerate(whole)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    first = {name: whole[name] for name, shard in index["weight_map"].items() if shard == shards[0]}
    save_file(first, folder / shards[0])


def lying_header(folder: Path) -> None:
    """Whose tensors are said to lie behind the end of the file."""
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for entry in header.values():
        entry["data_offsets"] = [offset + 10**9 for offset in entry["data_offsets"]]
    lie = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(lie).to_bytes(8, "little") + lie + data[8 + size :])


BROKEN_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors: there is no such file"),
    "only a pickle": (only_pickled, r"pytorch_model\.bin is a pickle, which Pinyon does not read"),
    "a tensor is missing": (
        lambda folder: drop(folder, "encoder.layer.1.output.dense.bias"),
        r"no tensor 'encoder\.layer\.1\.output\.dense\.bias'",
    ),
    "truncated": (truncated, r"model\.safetensors: not a whole safetensors file"),
    "a wrong shape": (
        reshaped,
        r"safetensors: does not fit its config\.json: tensor .*' is \[32, 100\], and \[32, 128\] was expected",
    ),
    "a layer more than the config says": (
        lambda folder: break_config(folder, num_hidden_layers=1),
        r"safetensors: has tensor 'encoder\.layer\.1\.\S+', of a layer that its config\.json does not know of",
    ),
    "fewer positions than the config says": (
        lambda folder: break_config(folder, max_position_embeddings=128),
        r"position_embeddings.weight' is \[64, 32\]",
    ),
    "a shard is missing": (shard_missing, r"model-00002-of-00002\.safetensors: there is no such file"),
    "an index without a map": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
        "has no weight_map",
    ),
    "an index that is not JSON": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{"),
        "not readable as a list of shards",
    ),
    "a header that lies": (lying_header, r"model\.safetensors: not a whole safetensors file"),
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
