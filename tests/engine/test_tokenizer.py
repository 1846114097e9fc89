"""Token ids, truncation and prompts, against the tokenizers library used by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pinyon.engine.loader import ModelError
from pinyon.engine.tokenizer import Tokenizer
from pinyon.errors import InputTooLong, InvalidRequest
from pinyon.testing import TINY_WORDS, tiny_tokenizer
from pinyon.types import Truncate

CLS, SEP = 2, 3
WORDS = {word: n for n, word in enumerate(TINY_WORDS)}
LONG = "one two three four five"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path / "tokenizer.json", len(TINY_WORDS))


def encode(
    tokenizer: Tokenizer, text: str | list[int], limit: int = 64, how: Truncate = Truncate.END, prompt: str = ""
) -> list[int]:
    (ids,) = tokenizer.encode([text], prompt=prompt, max_tokens=limit, truncate=how)
    return [int(token) for token in ids]


def ids(*words: str) -> list[int]:
    return [CLS, *(WORDS[word] for word in words), SEP]


def test_a_text_gets_the_special_tokens_and_its_pieces(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, "The cats") == ids("the", "cat", "##s")
    assert encode(tokenizer, "Unbelievable zebra.") == ids("un", "##believ", "##able", "[UNK]", ".")


def test_truncation_drops_words_and_keeps_the_special_tokens(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, LONG, 5, Truncate.END) == ids("one", "two", "three")
    assert encode(tokenizer, LONG, 5, Truncate.START) == ids("three", "four", "five")
    assert encode(tokenizer, LONG, 7, Truncate.NONE) == ids("one", "two", "three", "four", "five")
    assert encode(tokenizer, LONG, 2, Truncate.START) == [CLS, SEP]


def test_truncation_is_that_of_the_library(tokenizer: Tokenizer) -> None:
    library = tiny_tokenizer()
    text = "the red cat sat on the blue mat . unbelievable dogs , one two three"
    for limit in range(3, 24):
        for how, direction in ((Truncate.END, "right"), (Truncate.START, "left")):
            library.enable_truncation(limit, direction=direction)
            assert encode(tokenizer, text, limit, how) == library.encode(text).ids


def test_none_refuses_and_says_which_input_and_how_long_it_is(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputTooLong) as caught:
        tokenizer.encode(["a cat", LONG], prompt="", max_tokens=5, truncate=Truncate.NONE)
    assert (caught.value.param, caught.value.tokens, caught.value.limit) == (("inputs", 1), 7, 5)


def test_a_prompt_stands_in_front_and_survives_truncation_at_the_start(tokenizer: Tokenizer) -> None:
    prompt = "query: "
    assert encode(tokenizer, LONG, 64, prompt=prompt) == ids("query", ":", "one", "two", "three", "four", "five")
    assert encode(tokenizer, LONG, 6, Truncate.START, prompt) == ids("query", ":", "four", "five")
    assert encode(tokenizer, LONG, 6, Truncate.END, prompt) == ids("query", ":", "one", "two")


def test_token_ids_get_the_special_tokens_unless_they_have_them(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, [7, 8]) == [CLS, 7, 8, SEP]
    assert encode(tokenizer, [CLS, 7, 8, SEP]) == [CLS, 7, 8, SEP]
    assert encode(tokenizer, list(range(5, 25)), 4, Truncate.END) == [CLS, 5, 6, SEP]


def test_token_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    for wrong in (-1, len(TINY_WORDS), 2**40):
        with pytest.raises(InvalidRequest) as caught:
            tokenizer.encode(["a", [5, wrong]], prompt="", max_tokens=9, truncate=Truncate.END)
        assert caught.value.param == ("inputs", 1)
        assert str(wrong) in caught.value.reason


def test_padding_and_truncation_that_a_file_brings_are_not_used(tmp_path: Path) -> None:
    library = tiny_tokenizer()
    library.enable_padding(length=40)
    library.enable_truncation(4)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", len(TINY_WORDS))
    assert encode(tokenizer, LONG) == ids("one", "two", "three", "four", "five")


def test_texts_of_any_script_are_taken(tokenizer: Tokenizer) -> None:
    for text in ("日本語", "\u202eabc", "é" * 500, "a\u0301", "😀 cat", " ", "\n\t"):
        got = encode(tokenizer, text)
        assert got[0] == CLS and got[-1] == SEP


def test_a_text_of_megabytes_is_cut_as_if_all_of_it_had_been_tokenized(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(5)
    words = [word for word in TINY_WORDS if word.isalpha()] + ["unbelievable", "cats", "zebra", "日本", "x" * 300]
    text = " ".join(rng.choice(words, size=20_000))
    library = tiny_tokenizer()
    for how, direction in ((Truncate.END, "right"), (Truncate.START, "left")):
        library.enable_truncation(16, direction=direction)
        assert encode(tokenizer, text, 16, how) == library.encode(text).ids
    # One word that never ends: the window grows until it holds enough, here all of it.
    endless = "y" * 100_000 + " one two three"
    library.enable_truncation(16, direction="right")
    assert encode(tokenizer, endless, 16) == library.encode(endless).ids
    with pytest.raises(InputTooLong) as caught:
        encode(tokenizer, text, 16, Truncate.NONE)
    assert caught.value.tokens > 16


def test_a_huge_text_costs_little_memory(tokenizer: Tokenizer) -> None:
    """16 MB of short words would be 8 million tokens, and gigabytes in the library's hands."""
    program = """
import resource, sys
from pathlib import Path
from pinyon.engine.tokenizer import Tokenizer
from pinyon.types import Truncate
tokenizer = Tokenizer(Path(sys.argv[1]), int(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = ["a " * 4_000_000, *["one " * 1000] * 2000]
for how in (Truncate.END, Truncate.START):
    assert {len(ids) for ids in tokenizer.encode(texts, prompt="", max_tokens=256, truncate=how)} == {256}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    command = [sys.executable, "-c", program, str(tokenizer.path), str(len(TINY_WORDS))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 200, f"{done.stdout.strip()} MB for 16 MB of text"


def test_a_damaged_or_foreign_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"version": "1.0", "model": ')
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer(path, 10)
    tiny_tokenizer().save(str(path))
    with pytest.raises(ModelError, match="more tokens than the model's 10 embeddings"):
        Tokenizer(path, 10)
