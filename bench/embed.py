"""Embedding over HTTP, beside sentence-transformers and beside the engine driven directly, in rounds that alternate."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

import msgspec
import uvloop

from bench import machine
from bench.client import Load, drive, drive_beside, post
from bench.peers import MODEL, QUERY
from bench.texts import paragraphs

Precision = Literal["bf16", "f32"]


@dataclass
class Server:
    url: str
    pid: int
    ready_seconds: float  # from the start of the process to the first 200 of /ready


@contextlib.contextmanager
def server(precision: Precision) -> Iterator[Server]:
    """`pinyon serve` with its defaults, on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pinyon",
            "serve",
            "--port",
            "0",
            "--precision",
            precision,
            "--data-dir",
            folder,
        ]
        started = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
        assert process.stderr is not None
        try:
            url = ""
            for line in process.stderr:
                if (found := re.search(r"http://[0-9.:]+", line)) is not None:
                    url = found[0]
                    break
            if not url:
                raise RuntimeError("the server did not start")
            # Whatever else it logs goes on being read, or its pipe would fill up and hold it.
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            while not _is_ready(url):
                time.sleep(0.005)
            yield Server(url, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait(30)
            drain.wait(30)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def peer(name: str, part: int = 0) -> dict[str, float]:
    """One measurement of `bench.peers`, in a process of its own."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-m", "bench.peers", name, str(part)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _bodies(texts: Sequence[str], size: int) -> list[bytes]:
    return [
        msgspec.json.encode({"model": MODEL, "inputs": [{"text": text} for text in texts[n : n + size]]})
        for n in range(0, len(texts), size)
    ]


def over_http(url: str, texts: Sequence[str], size: int, connections: int) -> tuple[float, Load]:
    """Texts a second through Pinecone's /embed, which writes every number out."""
    requests = [post(url, "/embed", body) for body in _bodies(texts, size)]
    load = uvloop.run(drive(url, requests, connections))
    answer = json.loads(load.last)
    if len(answer["data"][0]["values"]) != 384:
        raise RuntimeError("the answer is not what was asked for")
    return len(texts) / load.seconds, load


@dataclass
class Figures:
    """What the rounds measured, a list of one figure a round under each name."""

    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.rounds.setdefault(name, []).append(value)

    def value(self, name: str) -> float:
        return median(self.rounds[name])

    def ratio(self, name: str, other: str) -> float:
        """The median of the ratios within each round, so that a machine that drifts does not tilt it."""
        return median(a / b for a, b in zip(self.rounds[name], self.rounds[other], strict=True))


def flops_per_token(tokens: float) -> float:
    """Floating-point operations of one token of the bundled model in a text of so many: products alone."""
    dim, inner, layers = 384, 1536, 6
    return layers * (2 * (4 * dim * dim + 2 * dim * inner) + 4 * tokens * dim)


def measure(rounds: int, say: bool = True) -> Figures:
    """Runs everything `rounds` times in turn."""
    texts = paragraphs()
    figures = Figures()

    def note(name: str, value: float) -> None:
        figures.add(name, value)
        if say:
            print(f"  {name:<28}{value:>12.2f}", file=sys.stderr, flush=True)

    with server("bf16") as bf16, server("f32") as f32:
        note("ready, s", bf16.ready_seconds)
        for running in (bf16, f32):  # each batch shape is seen once, as after a server's first minute
            over_http(running.url, texts, 64, 4)
            over_http(running.url, texts[:1000], 1, 16)
        for part in range(rounds):
            if say:
                print(f"round {part + 1} of {rounds}", file=sys.stderr, flush=True)
            note("peer, texts/s", peer("sentence-transformers", part)["texts"])
            direct = peer("engine-bf16")
            note("engine bf16, texts/s", direct["texts"])
            note("engine bf16, tokens/s", direct["tokens"])
            note("http bf16 64x4, texts/s", over_http(bf16.url, texts, 64, 4)[0])
            note("http bf16 1x16, texts/s", over_http(bf16.url, texts, 1, 16)[0])
            note("bare query, ms", peer("bare-bf16")["p50"])
            _, load = over_http(bf16.url, [QUERY] * 400, 1, 1)
            note("http query, ms", median(load.latencies) * 1000)
            bulk = [post(bf16.url, "/embed", body) for body in _bodies(texts, 64)]
            query = post(bf16.url, "/embed", _bodies([QUERY], 1)[0])
            _, singles = uvloop.run(drive_beside(bf16.url, bulk, 4, query))
            note("query beside bulk, p50 ms", median(singles.latencies) * 1000)
            note("query beside bulk, p99 ms", quantiles(singles.latencies, n=100)[98] * 1000)
            note("engine f32, texts/s", peer("engine-f32")["texts"])
            note("http f32 64x4, texts/s", over_http(f32.url, texts, 64, 4)[0])
            note("matrix bf16, GFLOP/s", machine.matrix_rate("bf16") / 1e9)
            note("matrix f32, GFLOP/s", machine.matrix_rate("f32") / 1e9)
        note("peak memory, MB", machine.peak_memory(bf16.pid) / 1e6)
    with server("bf16") as again:
        figures.rounds["ready, s"].append(again.ready_seconds)
    return figures
