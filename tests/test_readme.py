"""The README's examples, run as they stand against a real server; only its address is another."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADDRESS = "127.0.0.1:5080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, "-m", "pinyon", "serve", "--port", "0"]
    folder = tmp_path_factory.mktemp("readme")
    environment = os.environ | {"PINYON_DATA_DIR": str(folder)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment)
    with contextlib.ExitStack() as stack:
        assert process.stderr is not None
        stack.callback(process.stderr.close)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        found = (re.search(r"127\.0\.0\.1:\d+", line) for line in process.stderr)
        yield next(match[0] for match in found if match)


EXPECTED_OUTPUT = {
    "create_index_for_model": r"1 Pines are conifers\.\n",
    "grpc=True": r"east\n",
    "pinecone": r"384 \d+\n1 0\.\d+\n",
    "openai": r"384 \d+\n",
    "perplexity": r"384 \d+\n",
    "urllib": r"384 \d+\n",
}


def test_there_is_an_example_of_each_vendor() -> None:
    pages = "".join(blocks("sh"))
    for path in ("/embed", "/v1/embeddings", "/perplexity/v1/embeddings", "/api/v3/inference/embeddings"):
        assert ADDRESS + path in pages
    assert len(blocks("python")) == len(EXPECTED_OUTPUT)


@pytest.mark.parametrize("example", blocks("python"))
def test_python_examples(address: str, example: str) -> None:
    assert ADDRESS in example
    code = example.replace(ADDRESS, address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    name = next(name for name in EXPECTED_OUTPUT if name in example)
    assert re.fullmatch(EXPECTED_OUTPUT[name], done.stdout), done.stdout


@pytest.mark.parametrize("example", blocks("sh"))
def test_shell_examples(address: str, example: str) -> None:
    code = example.replace(ADDRESS, address).replace("curl ", "curl --silent --show-error --fail-with-body ")
    code = code.replace(".venv/bin/pinyon", f"{sys.executable} -m pinyon")
    done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'"(values|embedding)":\s*["\[]', done.stdout), done.stdout[:500]
    assert "error" not in done.stdout.lower()
