"""bm25-english: its terms, its hashes, and that its dot products rank as BM25 does."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from pinyon.catalog import Catalogue
from pinyon.engine.bm25 import Bm25, is_bm25
from pinyon.engine.loader import ModelError
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.types import FloatArray, SparseEmbedding, Truncate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder() -> Path:
    catalogue = Catalogue.build(Path("/nonexistent"))
    return catalogue.folder(catalogue.get("bm25-english"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Bm25:
    return Bm25(folder)


def passages(model: Bm25, *texts: str, max_tokens: int = 512) -> list[SparseEmbedding]:
    found, _ = model.embed(texts, is_query=False, max_tokens=max_tokens, truncate=Truncate.END, return_tokens=True)
    return found


def query(model: Bm25, text: str) -> SparseEmbedding:
    found, _ = model.embed([text], is_query=True, max_tokens=512, truncate=Truncate.END, return_tokens=True)
    return found[0]


def terms(embedding: SparseEmbedding) -> set[str]:
    assert embedding.tokens is not None
    return set(embedding.tokens)


def score(asked: SparseEmbedding, found: SparseEmbedding) -> float:
    _, ours, theirs = np.intersect1d(asked.indices, found.indices, return_indices=True)
    return float(asked.values[ours] @ found.values[theirs])


# --- terms and hashes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cats are running", {"cat", "run"}),
        ("RUNNING Runs run", {"run"}),
        ("Ångström", {"ångström"}),
        ("A\u030angstro\u0308m", {"ångström"}),  # decomposed
        ("\uff23\uff41\uff54", {"cat"}),  # full width
        ("STRASSE straße", {"strass"}),
        ("the fox's den, the foxes\u2019 dens", {"fox", "den"}),
        ("don't won\u2019t isn't", set()),
        ("snake_case kebab-case v2.5", {"snake", "case", "kebab", "v2", "5"}),
        ("ΣΊΣΥΦΟΣ", {"σίσυφοσ"}),
        ("東京 tower", {"東京", "tower"}),
        ("!!! ... \u2026 \U0001f600", set()),
        ("to be or not to be", set()),
    ],
)
def test_terms(model: Bm25, text: str, expected: set[str]) -> None:
    assert terms(passages(model, text)[0]) == expected
    assert terms(query(model, text)) == expected


def test_golden_hashes_and_weights(model: Bm25) -> None:
    """What is in somebody's index stays findable: these hashes may never change."""
    text = "The quick brown fox jumps over the lazy dog. The dog sleeps."
    (passage,) = passages(model, text)
    assert passage.tokens == ["sleep", "lazi", "brown", "quick", "jump", "fox", "dog"]
    assert passage.indices.tolist() == [134749957, 226376294, 741580288, 771291085, 2381777354, 2673099881, 2982218203]
    np.testing.assert_allclose(passage.values, [1.603499] * 6 + [1.854975], atol=1e-5)
    asked = query(model, text)
    np.testing.assert_array_equal(asked.indices, passage.indices)
    importance = [3.601562, 5.6875, 3.855469, 3.361328, 4.121094, 4.714844, 2 * 3.390625]
    np.testing.assert_allclose(asked.values, importance, atol=1e-5)


def test_the_hash_is_murmur3(model: Bm25) -> None:
    """Against the reference algorithm, written out."""

    def murmur3(data: bytes) -> int:
        def mixed(block: int) -> int:
            block = block * 0xCC9E2D51 & 0xFFFFFFFF
            return ((block << 15 | block >> 17) & 0xFFFFFFFF) * 0x1B873593 & 0xFFFFFFFF

        state = 0
        whole = len(data) // 4 * 4
        for at in range(0, whole, 4):
            state ^= mixed(int.from_bytes(data[at : at + 4], "little"))
            state = ((state << 13 | state >> 19) & 0xFFFFFFFF) * 5 + 0xE6546B64 & 0xFFFFFFFF
        if data[whole:]:
            state ^= mixed(int.from_bytes(data[whole:], "little"))
        state ^= len(data)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            state = (state ^ state >> shift) * factor & 0xFFFFFFFF
        return state ^ state >> 16

    (passage,) = passages(model, "quick brown foxes jump over Ångström in 東京 with sesquipedalian words")
    assert passage.tokens is not None and len(passage.tokens) >= 7
    assert passage.indices.tolist() == [murmur3(term.encode()) for term in passage.tokens]


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(max_size=200), max_size=5), is_query=st.booleans())
def test_any_text_gives_a_sparse_vector(model: Bm25, texts: list[str], is_query: bool) -> None:
    found, words = model.embed(texts, is_query=is_query, max_tokens=20, truncate=Truncate.END, return_tokens=True)
    assert len(found) == len(texts)
    for embedding, count in zip(found, words, strict=True):
        assert embedding.tokens is not None
        assert embedding.indices.dtype == np.uint32 and embedding.values.dtype == np.float32
        assert len(embedding.indices) == len(embedding.values) == len(embedding.tokens) <= count <= 20
        assert (np.diff(embedding.indices.astype(np.int64)) > 0).all()
        assert (embedding.values > 0).all() and np.isfinite(embedding.values).all()


def test_terms_of_one_hash_are_added_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinyon.engine.bm25.mmh3.hash", lambda term, signed: 7 if term in ("cat", "dog") else 9)
    (passage,) = passages(Bm25(folder), "cat dog dog bird")
    assert passage.indices.tolist() == [7, 9]
    assert passage.tokens == ["cat", "bird"]
    (other,) = passages(Bm25(folder), "cat cat cat bird")
    np.testing.assert_array_equal(passage.values, other.values)


def test_more_words_than_are_kept_in_memory(model: Bm25, monkeypatch: pytest.MonkeyPatch) -> None:
    before = passages(model, "pines bear cones")[0].indices
    monkeypatch.setattr("pinyon.engine.bm25._KEPT_WORDS", 10)
    passages(model, " ".join(f"word{n}" for n in range(300)))
    np.testing.assert_array_equal(passages(model, "pines bear cones")[0].indices, before)
    assert len(model.analyser._terms) <= 10


def test_threads_share_a_model(model: Bm25) -> None:
    texts = [" ".join(f"thread{n}s running{n * m}" for m in range(30)) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: passages(model, text)[0].tokens, texts * 3))
    fresh = [passages(model, text)[0].tokens for text in texts]
    assert found == fresh * 3


# --- limits ----------------------------------------------------------------------------------------------------------


def test_truncation(model: Bm25) -> None:
    text = "one cat two dogs three birds"

    def kept(truncate: Truncate, limit: int) -> tuple[set[str], int]:
        (found,), words = model.embed([text], is_query=False, max_tokens=limit, truncate=truncate, return_tokens=True)
        return terms(found), int(words[0])

    assert kept(Truncate.END, 2) == ({"one", "cat"}, 2)
    assert kept(Truncate.START, 2) == ({"three", "bird"}, 2)
    assert kept(Truncate.NONE, 6) == ({"one", "cat", "two", "dog", "three", "bird"}, 6)
    with pytest.raises(InputTooLong) as caught:
        model.embed(["a", text], is_query=False, max_tokens=5, truncate=Truncate.NONE)
    assert (caught.value.param, caught.value.limit, caught.value.tokens) == (("inputs", 1), 5, 6)


def test_no_token_ids(model: Bm25) -> None:
    with pytest.raises(InvalidRequest, match="no token ids") as caught:
        model.embed(["a", [1, 2]], is_query=False, max_tokens=5, truncate=Truncate.END)
    assert caught.value.param == ("inputs", 1)


@pytest.mark.parametrize("text", ["word " * 2_000_000, "\u00e9" * 10_000_000, "." * 10_000_000, "x" * 10_000_000])
def test_of_a_text_of_megabytes_little_is_read(model: Bm25, text: str) -> None:
    started = time.process_time()
    (found,), words = model.embed([text], is_query=False, max_tokens=512, truncate=Truncate.END)
    assert time.process_time() - started < 2
    assert len(found.indices) <= 2 and words[0] <= 512


# --- ranking ---------------------------------------------------------------------------------------------------------


def corpus() -> list[str]:
    """Paragraphs of the project's own documentation."""
    files = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "ARCHITECTURE.md"])
    parts = (part for file in files for part in re.split(r"\n\s*\n|\n(?=- )", file.read_text("utf-8")))
    texts = (" ".join(part.split()) for part in parts)
    return [text for text in texts if len(text.split()) >= 12 and not text.startswith("|")]


def test_the_score_is_bm25s(model: Bm25) -> None:
    """Of BM25 whose average length and frequencies in documents are the model's: to the last digit."""
    texts = corpus()
    found = passages(model, *texts, max_tokens=10_000)
    for question in ("how are vectors stored and compared", "restoring a backup of an index", "API keys and limits"):
        asked = query(model, question)
        assert asked.tokens is not None
        weights = dict(zip(asked.tokens, asked.values, strict=True))
        for text, passage in zip(texts, found, strict=True):
            counts = Counter(term[1] for word in words_of(model, text) if (term := model.analyser.term(word)))
            norm = 1.2 * (0.25 + 0.75 * counts.total() / 100)
            expected = sum(weights[t] * counts[t] * 2.2 / (counts[t] + norm) for t in weights if t in counts)
            assert score(asked, passage) == pytest.approx(expected, rel=1e-5)


def words_of(model: Bm25, text: str) -> list[str]:
    return model.analyser.words(text, 10_000, Truncate.END)


def test_it_ranks_as_a_search_engine_that_counts_the_collection(model: Bm25) -> None:
    """Beside bm25s, which knows the collection's own frequencies and lengths. Queries: five terms of one paragraph."""
    texts = corpus()
    analysed = [[term[1] for word in words_of(model, text) if (term := model.analyser.term(word))] for text in texts]
    reference = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    reference.index(analysed, show_progress=False)
    found = passages(model, *texts, max_tokens=10_000)
    rng = np.random.default_rng(0)
    correlations, firsts, shared = [], [], []
    for position in rng.choice(len(texts), 60, replace=False):
        distinct = sorted(set(analysed[position]))
        if len(distinct) < 8:
            continue
        # Words, not terms: the stem of a stem may be another one.
        words = [word for word in set(words_of(model, texts[position])) if model.analyser.term(word)]
        chosen = [str(word) for word in rng.choice(sorted(words), 5, replace=False)]
        theirs = reference.get_scores([term[1] for word in chosen if (term := model.analyser.term(word))])
        asked = query(model, " ".join(chosen))
        ours = np.array([score(asked, passage) for passage in found])
        either = (theirs > 0) | (ours > 0)
        correlations.append(np.corrcoef(ranks(ours[either]), ranks(theirs[either]))[0, 1])
        firsts.append(np.argmax(ours) == np.argmax(theirs))
        shared.append(len({*np.argsort(-ours)[:10]} & {*np.argsort(-theirs)[:10]}) / 10)
    figures = {"rank correlation": np.mean(correlations), "same first": np.mean(firsts), "of ten": np.mean(shared)}
    print(figures)
    assert figures["rank correlation"] > 0.55 and figures["same first"] > 0.8 and figures["of ten"] > 0.55, figures


def ranks(scores: FloatArray) -> FloatArray:
    return np.argsort(np.argsort(scores, kind="stable"), kind="stable").astype(np.float32)


def test_importance_falls_with_frequency(model: Bm25) -> None:
    asked = query(model, "time water forest conifer zyzzyvaqq")
    assert asked.tokens is not None
    weights = dict(zip(asked.tokens, asked.values, strict=True))
    order = ["time", "water", "forest", "conif", "zyzzyvaqq"]
    assert [weights[term] for term in order] == sorted(weights.values())
    assert weights["zyzzyvaqq"] == model.importance(np.arange(2**20, dtype=np.uint32)).max()


# --- folders ---------------------------------------------------------------------------------------------------------


def test_what_a_folder_is(folder: Path, tmp_path: Path) -> None:
    assert is_bm25(folder)
    assert not is_bm25(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not is_bm25(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert not is_bm25(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b'{"model_type": "bm25"}', "config.json: not what a BM25 model has there"),
        ("config.json", None, "config.json: No such file"),
        ("config.json", b"{", "config.json: not what"),
        ("stop_words.txt", None, "stop_words.txt: No such file"),
        ("stop_words.txt", b"\xff", "stop_words.txt: not what"),
        ("model.safetensors", None, "model.safetensors: No such file"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}", "model.safetensors: not what"),
    ],
)
def test_broken_folders(folder: Path, tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    copy = tmp_path / "bm25"
    shutil.copytree(folder, copy)
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        Bm25(copy)


def test_broken_tables(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bm25"
    shutil.copytree(folder, copy)
    table = load_file(copy / "model.safetensors")
    wrongs = [
        {"hashes": table["hashes"]},
        {"hashes": table["hashes"].astype(np.int64), "importance": table["importance"]},
        {"hashes": table["hashes"], "importance": table["importance"][1:]},
        {"hashes": table["hashes"][:0], "importance": table["importance"][:0]},
    ]
    for wrong in wrongs:
        save_file(wrong, copy / "model.safetensors")
        with pytest.raises(ModelError, match=r"model\.safetensors: "):
            Bm25(copy)
    config = json.loads((copy / "config.json").read_bytes()) | {"stemmer": "klingon"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="klingon"):
        Bm25(copy)


def test_the_table_is_sorted_and_finite(folder: Path) -> None:
    table = load_file(folder / "model.safetensors")
    assert (np.diff(table["hashes"].astype(np.int64)) > 0).all()
    assert (table["importance"] > 0).all() and np.isfinite(table["importance"]).all()
    assert math.isclose(float(table["importance"].max()), 10.92, abs_tol=0.01)
