"""Embedding over HTTP, beside sentence-transformers and beside the engine driven directly, in rounds that alternate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median, quantiles

import msgspec
import uvloop

from bench import machine
from bench.client import Load, drive, drive_beside, post
from bench.figures import Aim, Figures
from bench.peers import MODEL, QUERY
from bench.server import peak_memory, server
from bench.texts import paragraphs


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


def flops_per_token(tokens: float) -> float:
    """Floating-point operations of one token of the bundled model in a text of so many: products alone."""
    dim, inner, layers = 384, 1536, 6
    return layers * (2 * (4 * dim * dim + 2 * dim * inner) + 4 * tokens * dim)


def measure(rounds: int, figures: Figures) -> list[Aim]:
    """Runs everything `rounds` times in turn."""
    texts = paragraphs()
    note = figures.add
    with server("bf16") as bf16, server("f32") as f32:
        note("ready, s", bf16.ready_seconds)
        for running in (bf16, f32):  # each batch shape is seen once, as after a server's first minute
            over_http(running.url, texts, 64, 4)
            over_http(running.url, texts[:1000], 1, 16)
        for part in range(rounds):
            figures.heading(f"round {part + 1} of {rounds}")
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
        note("peak memory, MB", peak_memory(bf16.pid) / 1e6)
    with server("bf16") as again:
        note("ready, s", again.ready_seconds)
    _derive(figures)
    return _aims(figures)


def _derive(figures: Figures) -> None:
    tokens_per_text = figures.value("engine bf16, tokens/s") / figures.value("engine bf16, texts/s")
    flops = flops_per_token(tokens_per_text)
    figures.add("tokens a text", tokens_per_text)
    figures.add("http bf16 64x4, tokens/s", figures.value("http bf16 64x4, texts/s") * tokens_per_text)
    for name in ("engine bf16", "http bf16 64x4", "http bf16 1x16"):
        rate = figures.value(f"{name}, texts/s") * tokens_per_text * flops / 1e9
        figures.add(f"{name}, share of the bf16 matrix rate", rate / figures.value("matrix bf16, GFLOP/s"))


def _aims(figures: Figures) -> list[Aim]:
    return [
        Aim("64 texts x 4 connections, bf16, against sentence-transformers fp32",
            figures.ratio("http bf16 64x4, texts/s", "peer, texts/s"), 7),
        Aim("64 texts x 4 connections, f32, against sentence-transformers fp32",
            figures.ratio("http f32 64x4, texts/s", "peer, texts/s"), 4),
        Aim("64 texts x 4 connections, bf16, against the engine driven directly",
            figures.ratio("http bf16 64x4, texts/s", "engine bf16, texts/s"), 0.85),
        Aim("1 text x 16 connections, bf16, against the engine driven directly",
            figures.ratio("http bf16 1x16, texts/s", "engine bf16, texts/s"), 0.6),
        Aim("one query at a time: p50 beyond the bare model's, ms",
            figures.value("http query, ms") - figures.value("bare query, ms"), 2.0, at_most=True),
        Aim("peak memory of the server, MB", figures.value("peak memory, MB"), 600, at_most=True),
        Aim("ready after start, s", figures.value("ready, s"), 2.0, at_most=True),
    ]  # fmt: skip
