"""The composition root: which vendor a request belongs to, and what a configuration becomes."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pinyon.app import _whose, asgi, build, catalogue, dialects
from pinyon.config import Config, ConfigError
from pinyon.dialects.base import Dialect
from pinyon.http.metrics import Metrics
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue, tiny_bert

MODEL = "all-minilm-l6-v2"


@pytest.fixture
def spoken(tmp_path: Path) -> tuple[Dialect, ...]:
    known = fake_catalogue(tmp_path, **{"pplx-mine": MODEL})
    return dialects(InferenceService(known, FakeEngine()))


@pytest.fixture
def client(spoken: tuple[Dialect, ...]) -> Iterator[TestClient]:
    app = asgi(spoken, keys=("right",), metrics=Metrics(), max_body_bytes=10_000, is_ready=lambda: False)
    with TestClient(app, headers={"authorization": "Bearer right", "api-key": "right"}) as client:
        yield client


def answered_by(answer: Any) -> str:
    match answer.json():
        case {"error": {"message": _, "type": _, "param": _}} | {
            "usage": {"prompt_tokens": int()},
            "data": [{"embedding": list()}, *_],
        }:
            return "openai"
        case {"error": {"message": _, "type": _, "code": int()}} | {"usage": {"cost": _}}:
            return "perplexity"
        case {"detail": list()}:
            return "perplexity"
        case {"detail": str()} | {"id": str(), "created": float()}:
            return "nugen"
        case {"error": {"code": str()}, "status": int()} | {"vector_type": _}:
            return "pinecone"
    raise AssertionError(answer.text)


@pytest.mark.parametrize(
    ("body", "status", "vendor"),
    [
        ({"model": MODEL, "input": "a"}, 200, "openai"),
        ({"model": "pplx-mine", "input": "a"}, 200, "perplexity"),
        ({"model": "pplx-embed-v1-4b", "input": "a"}, 404, "perplexity"),
        ({"model": "pplx-unknown", "input": "a"}, 422, "perplexity"),
        ({"model": "pplx-mine", "input": 5}, 422, "perplexity"),
        ({"model": "pplx", "input": "a"}, 404, "openai"),
        ({"model": "PPLX-mine", "input": "a"}, 404, "openai"),
        ({"model": "text-embedding-3-small", "input": "a"}, 404, "openai"),
        ({"model": "", "input": "a"}, 404, "openai"),
        ({"model": 5, "input": "a"}, 400, "openai"),
        ({"model": None}, 400, "openai"),
        ({"model": ["pplx-mine"]}, 400, "openai"),
        ({"input": "a"}, 400, "openai"),
        ([], 400, "openai"),
        ("pplx-mine", 400, "openai"),
        (None, 400, "openai"),
    ],
)
def test_the_shared_path(client: TestClient, body: Any, status: int, vendor: str) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answered_by(answer)) == (status, vendor)
    wrong = client.post("/v1/embeddings", json=body, headers={"authorization": "Bearer wrong"})
    assert (wrong.status_code, answered_by(wrong)) == (401, vendor)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b'{"model": "pplx-mine"', b'{"model": "pplx-mine", "input": "\\ud800"}x', b"[" * 5000,
        b'{"model": "pplx-\\ud800"}', b'{"model": "pplx-\xff"}', b'{"x": ' + b"[" * 5000, b"\0",
    ],
)  # fmt: skip
def test_a_malformed_body_is_openais(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/embeddings", content=body)
    assert (answer.status_code, answered_by(answer)) == (400, "openai")


def test_a_body_past_the_limit_is_openais(client: TestClient) -> None:
    body = json.dumps({"model": "pplx-mine", "input": "a" * 20_000})
    answer = client.post("/v1/embeddings", content=body)
    assert (answer.status_code, answered_by(answer)) == (413, "openai")


def test_the_last_model_of_a_body_counts_as_it_does_for_the_vendor(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", content=b'{"model": "a", "model": "pplx-mine", "input": "a"}')
    assert (answer.status_code, answered_by(answer)) == (200, "perplexity")


@pytest.mark.parametrize(
    ("method", "path", "vendor"),
    [
        ("POST", "/openai/v1/embeddings", "openai"),
        ("POST", "/perplexity/v1/embeddings", "perplexity"),
        ("POST", "/nugen/api/v3/inference/embeddings", "nugen"),
        ("POST", "/api/v3/inference/embeddings", "nugen"),
    ],
)
def test_under_its_prefix_a_vendor_takes_every_model(client: TestClient, method: str, path: str, vendor: str) -> None:
    for model in (MODEL, "pplx-mine"):
        answer = client.request(method, path, json={"model": model, "input": "a"})
        assert (answer.status_code, answered_by(answer)) == (200, vendor)


@pytest.mark.parametrize("prefix", ["", "/pinecone"])
def test_pinecone_at_the_root_and_under_its_prefix(client: TestClient, prefix: str) -> None:
    answer = client.post(f"{prefix}/embed", json={"model": MODEL, "inputs": [{"text": "a"}]})
    assert (answer.status_code, answered_by(answer)) == (200, "pinecone")
    assert client.get(f"{prefix}/models").status_code == 200
    assert client.get(f"{prefix}/models/{MODEL}").json()["model"] == MODEL


def test_every_route_is_at_the_root_and_under_its_prefix(spoken: tuple[Dialect, ...]) -> None:
    app = asgi(spoken, keys=(), metrics=Metrics(), max_body_bytes=1, is_ready=lambda: True)
    client = TestClient(app)
    for dialect in spoken:
        assert dialect.prefix == f"/{dialect.name}"
        for route in dialect.routes:
            for path in (route.path, dialect.prefix + route.path):
                # a method that no route has: what is not there is not found
                assert client.patch(re.sub(r"\{.*?\}", "x", path)).status_code == 405, path
    assert client.patch("/x").status_code == 404
    for path in ("/health", "/ready", "/metrics"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "vendor"),
    [
        ("/", "pinecone"), ("", "pinecone"), ("*", "pinecone"), ("/x", "pinecone"), ("/embed", "pinecone"),
        ("/models/x", "pinecone"), ("/v1", "openai"), ("/v1/x", "openai"), ("/v2/x", "pinecone"), ("/api", "nugen"),
        ("/api/v4", "nugen"), ("/openai", "openai"), ("/openai/embed", "openai"), ("/openaix", "pinecone"),
        ("/perplexity/v1/x", "perplexity"), ("/nugen/", "nugen"), ("/pinecone/v1/embeddings", "pinecone"),
    ],
)  # fmt: skip
def test_whose(spoken: tuple[Dialect, ...], path: str, vendor: str) -> None:
    assert _whose(path, spoken).name == vendor


def test_ready_says_no_until_it_is(client: TestClient) -> None:
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
    assert client.get("/health").status_code == 200


# --- a configuration


def test_the_operators_models(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "tiny")
    known = catalogue(Config(data_dir=str(tmp_path), models={"mine": str(folder)}, aliases={"other": "mine"}))
    spec = known.get("other")
    assert (spec.name, spec.default_dimension, known.folder(spec)) == ("mine", 32, folder)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"aliases": {"mine": "nothing"}}, "alias 'mine'"),
        ({"models": {"mine": "org/not-pulled"}}, "mine: org/not-pulled is not on this machine"),
        ({"preload": ("nothing",)}, "preload: .*'nothing'"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        asyncio.run(build(Config(data_dir=str(tmp_path), **settings), 5080))


def test_a_server_starts_without_what_only_imports_need(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pinyon.app import build; from pinyon.config import Config\n"
        f"asyncio.run(build(Config(data_dir={str(tmp_path)!r}, index_hosts='path', preload=()), 5080))\n"
        "print('sqlalchemy' in sys.modules, 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_server_whose_model_is_mended_becomes_ready(tmp_path: Path) -> None:
    weights = tiny_bert(tmp_path / "tiny") / "model.safetensors"
    aside = weights.rename(tmp_path / "aside")
    config = Config(models={"mine": str(weights.parent)}, preload=("mine",), threads=1, no_auth=True, indexes=False)
    with TestClient(asyncio.run(build(config, 5080))) as client:
        body = {"model": "mine", "input": "the cat"}
        assert client.post("/v1/embeddings", json=body).status_code == 503
        assert client.get("/ready").status_code == 503
        aside.rename(weights)
        assert client.post("/v1/embeddings", json=body).status_code == 200
        deadline = time.monotonic() + 30
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_whole_server(tmp_path: Path) -> None:
    """A tiny model from a folder, loaded at the start, answers through the real engine."""
    folder = tiny_bert(tmp_path / "tiny")
    config = Config(
        data_dir=str(tmp_path), models={"mine": str(folder)}, preload=("mine",), precision="f32", threads=1,
        prices={"mine": 1.0}, api_keys=("right",), indexes=False,
    )  # fmt: skip
    with TestClient(asyncio.run(build(config, 5080)), headers={"authorization": "Bearer right"}) as client:
        answer = client.post("/v1/embeddings", json={"model": "mine", "input": ["the cat", "a dog sat"]})
        assert answer.status_code == 200
        assert [len(item["embedding"]) for item in answer.json()["data"]] == [32, 32]
        assert answer.json()["usage"]["total_tokens"] == 9
        assert client.get("/ready").json() == {"status": "ready"}
        numbers = client.get("/metrics").text
        assert 'pinyon_batch_rows_count{model="mine"}' in numbers
        assert 'pinyon_queued_tokens{model="mine"} 0.0' in numbers
