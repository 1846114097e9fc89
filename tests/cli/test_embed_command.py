"""`pinyon embed`: what it reads, what it writes, and what it leaves behind when it cannot go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinyon.catalog import ModelSpec
from pinyon.cli import texts
from pinyon.testing import FakeEngine, fake_vector
from pinyon.types import EmbedRequest, EmbedResult

from .conftest import ClosableFakeEngine, Pinyon, one_line

DIM = 384


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def wanted(*texts: str) -> np.ndarray[Any, Any]:
    return np.stack([fake_vector(text, DIM) for text in texts])


def test_lines_from_stdin_to_jsonl(pinyon: Pinyon, engine: ClosableFakeEngine) -> None:
    result = pinyon("embed", stdin="one cat\r\ntwo cats \u2028 here\nlast")
    assert (result.exit_code, result.stderr) == (0, "")
    found = rows(result.stdout)
    assert [row["line"] for row in found] == [1, 2, 3]
    assert [row["tokens"] for row in found] == [2, 3, 1]
    assert [sorted(row) for row in found] == [["embedding", "line", "tokens"]] * 3
    assert np.array_equal(
        np.array([row["embedding"] for row in found], np.float32), wanted("one cat", "two cats \u2028 here", "last")
    )
    assert engine.closed


@pytest.mark.parametrize("as_file", [True, False])
def test_jsonl_keeps_the_other_fields(pinyon: Pinyon, engine: ClosableFakeEngine, folder: Path, as_file: bool) -> None:
    text = '{"id": 7, "text": "a cat", "meta": {"k": [1]}}\n{"text": "a dog", "embedding": "old"}\n'
    (folder / "in.data").write_text("\ufeff" + text)
    result = pinyon("embed", "in.data") if as_file else pinyon("embed", "-", stdin=text)
    first, second = rows(result.stdout)
    assert (first["id"], first["meta"]) == (7, {"k": [1]})
    assert first.keys() == {"id", "meta", "embedding", "tokens"}
    assert second.keys() == {"embedding", "tokens"} and len(second["embedding"]) == DIM


def test_options_reach_the_engine(pinyon: Pinyon, engine: ClosableFakeEngine) -> None:
    arguments = (
        "--input-type",
        "query",
        "--truncate",
        "START",
        "--dimension",
        "384",
        "--encoding",
        "int8",
        "--keep-text",
    )
    result = pinyon("embed", *arguments, "--field", "body", stdin='{"body": "a cat"}\n')
    (row,) = rows(result.stdout)
    assert row["body"] == "a cat"
    assert np.array_equal(row["embedding"], np.rint(wanted("a cat")[0] * 127))
    (request,) = engine.calls
    assert (request.input_type, request.truncate, request.dimension) == ("query", "START", 384)


def test_keep_text_of_lines(pinyon: Pinyon, engine: ClosableFakeEngine) -> None:
    assert rows(pinyon("embed", "--keep-text", stdin="a\n").stdout)[0]["text"] == "a"


def test_input_format(pinyon: Pinyon, engine: ClosableFakeEngine, folder: Path) -> None:
    line = '{"text": "a"}'
    (folder / "in.txt").write_text(line)
    (folder / "in.ndjson").write_text(" " + line)
    pinyon("embed", "in.txt")
    pinyon("embed", "in.ndjson")
    pinyon("embed", stdin=line)
    pinyon("embed", "--input-format", "lines", stdin=line)
    assert [call.inputs for call in engine.calls] == [[line], ["a"], ["a"], [line]]


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("batch", ["1", "3", "100"])
def test_npy(pinyon: Pinyon, engine: ClosableFakeEngine, folder: Path, batch: str, as_file: bool) -> None:
    given = [f"text {n}" for n in range(7)]
    (folder / "in").write_text("\n".join(given))
    source, stdin = ("in", "") if as_file else ("-", "\n".join(given))
    result = pinyon("embed", source, "-o", "out.npy", "--batch", batch, stdin=stdin)
    assert (result.exit_code, result.output) == (0, "")
    assert np.array_equal(np.load("out.npy"), wanted(*given))
    assert len(engine.calls) == -(-7 // int(batch))
    assert sorted(path.name for path in folder.iterdir()) == ["in", "out.npy"]


@pytest.mark.parametrize(("encoding", "dtype", "width"), [("int8", np.int8, DIM), ("binary", np.uint8, DIM // 8)])
def test_npy_of_other_encodings(
    pinyon: Pinyon, engine: ClosableFakeEngine, encoding: str, dtype: type, width: int
) -> None:
    assert pinyon("embed", "-o", "out.npy", "--encoding", encoding, stdin="a\nb\n").exit_code == 0
    found = np.load("out.npy")
    assert (found.dtype, found.shape) == (dtype, (2, width))


def test_parquet(pinyon: Pinyon, engine: ClosableFakeEngine, folder: Path) -> None:
    """Types are those of all values, also of those in later chunks; what has no one type is JSON."""
    records = [
        {"text": "a", "id": 1, "score": 1, "name": None, "mixed": 1, "ok": True},
        {"text": "b", "id": 2, "score": 0.5, "name": "x", "mixed": "y", "nested": {"k": 1}},
        {"text": "c", "id": 3, "score": 2, "mixed": None, "never": None, "big": 2**63},
    ]
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, records)))
    result = pinyon("embed", "in.jsonl", "-o", "out.parquet", "--batch", "1")
    assert result.exit_code == 0, result.output
    table = pq.read_table("out.parquet")
    assert {field.name: field.type for field in table.schema} == {
        "id": pa.int64(),
        "score": pa.float64(),
        "name": pa.string(),
        "mixed": pa.string(),
        "ok": pa.bool_(),
        "nested": pa.string(),
        "never": pa.string(),
        "big": pa.float64(),
        "embedding": pa.list_(pa.field("item", pa.float32()), DIM),
        "tokens": pa.int32(),
    }
    found = table.to_pylist()
    assert [row["id"] for row in found] == [1, 2, 3]
    assert [row["mixed"] for row in found] == ["1", '"y"', None]
    assert [row["nested"] for row in found] == [None, '{"k":1}', None]
    assert np.array_equal(np.array([row["embedding"] for row in found], np.float32), wanted("a", "b", "c"))


def test_parquet_of_a_stream_is_typed_by_its_first_chunk(pinyon: Pinyon, engine: ClosableFakeEngine) -> None:
    good = '{"text": "a", "id": 1}\n{"text": "b", "id": 2}\n'
    arguments = ("embed", "--batch", "1", "-o", "out.pq")
    assert pinyon(*arguments, stdin=good).exit_code == 0
    assert pq.read_table("out.pq").column("id").to_pylist() == [1, 2]
    assert "Field 'id'" in one_line(pinyon(*arguments, stdin=good + '{"text": "c", "id": "x"}\n'), 1)
    assert "Field 'new' of the text in line 3" in one_line(
        pinyon(*arguments, stdin=good + '{"text": "c", "new": 1}'), 1
    )
    assert pq.read_table("out.pq").num_rows == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"text": "a"}\n{"text": "b"', "in, line 2: is not JSON: "),
        (b'{"text": "a"}\n["b"]\n', "in, line 2: is not a JSON object"),
        (b'{"text": "a"}\n{"body": "b"}\n', "in, line 2: has no field 'text'"),
        (b'{"text": "a"}\n{"text": 3}\n', "in, line 2: has something other than a string in field 'text'"),
        (b'{"text": "a"}\n{"text": " "}\n', "in, line 2: is empty"),
        (b'{"text": "a"}\n\n{"text": "b"}\n', "in, line 2: is empty"),
        (b'{"text": "a"}\n{"text": "\\u0000"}\n', "in, line 2: contains the NUL character"),
        (b'{"text": "a"}\n{"text": "\\ud800"}\n', "in, line 2: is not JSON: "),
        (b"a\n\nb\n", "in, line 2: is empty"),
        (b"a\n \t\r\nb\n", "in, line 2: is empty"),
        (b"a\nb\0\n", "in, line 2: contains the NUL character"),
        (b"a\n\xff\n", "in, line 2: is not UTF-8 text"),
        (b"a\n" + b"x" * 101 + b"\n", "in, line 2: is longer than"),
        (b"", "in: there is no text in it"),
    ],
)
@pytest.mark.parametrize("as_file", [True, False])
def test_bad_line_is_named_and_nothing_is_left(
    pinyon: Pinyon,
    engine: ClosableFakeEngine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    sentence: str,
    as_file: bool,
) -> None:
    monkeypatch.setattr(texts, "MAX_LINE_BYTES", 100)
    (folder / "in").write_bytes(content)
    (folder / "out").write_text("from before")
    result = pinyon("embed", "in" if as_file else "-", "-o", "out", "--batch", "1", stdin=content)
    assert one_line(result, 1).startswith(sentence if as_file else sentence.replace("in", "stdin", 1))
    assert (folder / "out").read_text() == "from before"
    assert sorted(path.name for path in folder.iterdir()) == ["in", "out"]
    assert not (as_file and engine.calls)  # a file is read through before anything is embedded


def test_skip_empty_keeps_the_numbers_of_lines(pinyon: Pinyon, engine: ClosableFakeEngine) -> None:
    found = rows(pinyon("embed", "--skip-empty", stdin="a\n\n  \nb\n\n").stdout)
    assert [row["line"] for row in found] == [1, 4]
    assert "there is no text in it" in one_line(pinyon("embed", "--skip-empty", stdin="\n\n"), 1)


def test_too_long_a_text_is_named_by_its_line(pinyon: Pinyon, engine: ClosableFakeEngine) -> None:
    stdin = "\n".join(["a", "b", "c " * 300])
    result = pinyon("embed", "--truncate", "NONE", "--batch", "2", "-o", "out.npy", stdin=stdin)
    assert one_line(result, 1) == "stdin, line 3: has 300 tokens, more than the 256 that the model takes"
    assert not Path("out.npy").exists()
    assert engine.closed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "nothing"), "Model 'nothing' not found"),
        (("--model", "multilingual-e5-large"), "pinyon models pull multilingual-e5-large"),
        (("--model", "all-minilm-l6-v2-rerank"), "--model: 'all-minilm-l6-v2-rerank' is a reranking model"),
        (("--model", "mine=./absent"), "Model 'mine': There is no folder './absent'"),
        (("--dimension", "7"), "--dimension: must be one of 384"),
        (("absent.txt",), "absent.txt: cannot be read: No such file or directory"),
        (("-o", "absent/out"), "absent/out: cannot be written: No such file or directory"),
        (("-o", "."), ".: is a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    pinyon: Pinyon, engine: ClosableFakeEngine, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in one_line(pinyon("embed", *arguments, stdin="a\n"), 1)
    assert not engine.calls


def test_npy_and_parquet_need_a_file(pinyon: Pinyon) -> None:
    result = pinyon("embed", "--format", "npy", stdin="a")
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_link_and_device_are_written_through(pinyon: Pinyon, engine: ClosableFakeEngine, folder: Path) -> None:
    (folder / "target").write_text("old")
    (folder / "link").symlink_to("target")
    assert pinyon("embed", "-o", "link", stdin="a\n").exit_code == 0
    assert (folder / "link").is_symlink()
    assert len(rows((folder / "target").read_text())) == 1
    assert pinyon("embed", "-o", "/dev/null", stdin="a\n").exit_code == 0
    assert not Path("/dev/null").is_file()


def test_ctrl_c_ends_with_130_and_leaves_nothing(
    pinyon: Pinyon, engine: ClosableFakeEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(self: FakeEngine, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError("never")

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(ClosableFakeEngine, "embed", interrupted)
    assert one_line(pinyon("embed", "-o", "out", stdin="a\n"), 130) == "interrupted"
    assert list(folder.iterdir()) == []
    assert engine.closed


def test_progress_on_a_terminal(folder: Path) -> None:
    """With stderr a terminal there is a bar; the vectors on stdout are as without one."""
    master, terminal = os.openpty()
    (folder / "in").write_text("a cat\n")
    done = subprocess.run(
        [sys.executable, "-c", "from pinyon.cli import main; main()", "embed", "in"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        timeout=60,
    )
    os.close(terminal)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 0
    assert "embedding" in shown and "1/1" in shown
    assert len(rows(done.stdout.decode())) == 1


def test_the_bundled_model(pinyon: Pinyon) -> None:
    stdin = "A cat sat on the mat.\nA dog lay on the rug.\nInterest rates rose again.\n"
    result = pinyon("embed", "-o", "out.npy", "--precision", "f32", stdin=stdin)
    assert result.exit_code == 0, result.output
    vectors = np.load("out.npy")
    assert vectors.shape == (3, DIM)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cat, dog, rates = vectors
    assert cat @ dog > cat @ rates + 0.1
