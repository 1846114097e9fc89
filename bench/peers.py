"""What is measured beside the server, each in a process of its own: `python -m bench.peers NAME ROUND`, JSON on stdout.

sentence-transformers: the library that most people embed with, as its documentation calls it, in float32.
engine-bf16, engine-f32: Pinyon's engine driven directly, every text in one request: what HTTP is compared with.
bare-bf16: the compiled model alone on one short query: no tokenizing, no queue, no HTTP.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np

from bench.texts import paragraphs
from pinyon.catalog import Catalogue
from pinyon.engine.backends import TokenBatch
from pinyon.engine.engine import Engine
from pinyon.types import EmbedRequest

MODEL = "all-minilm-l6-v2"
QUERY = "how do I read a file line by line?"
# The slow peer gets a part of the texts in each round.
PEER_TEXTS = 1000


def catalogue() -> Catalogue:
    return Catalogue.build(Path("/nonexistent"))


def sentence_transformers(part: int) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer

    known = catalogue()
    model = SentenceTransformer(str(known.folder(known.get(MODEL))), device="cpu", local_files_only=True)
    texts = paragraphs()
    mine = [texts[n % len(texts)] for n in range(part * PEER_TEXTS, (part + 1) * PEER_TEXTS)]
    model.encode(mine[:64], batch_size=64)
    started = time.perf_counter()
    model.encode(mine, batch_size=64)
    seconds = time.perf_counter() - started
    tokens = sum(len(ids) for ids in model.tokenizer(mine)["input_ids"])
    return {"texts": len(mine) / seconds, "tokens": tokens / seconds}


def engine(precision: Literal["bf16", "f32"]) -> dict[str, float]:
    texts = paragraphs()

    async def measure() -> dict[str, float]:
        known = catalogue()
        spec = known.get(MODEL)
        made = Engine(known, precision=precision)
        # Once over everything, as a server has after its first minute: each batch shape was seen.
        await made.embed(spec, EmbedRequest(MODEL, texts[:1000]))
        started = time.perf_counter()
        result = await made.embed(spec, EmbedRequest(MODEL, texts))
        seconds = time.perf_counter() - started
        await made.close()
        return {"texts": len(texts) / seconds, "tokens": float(result.tokens.sum()) / seconds}

    return asyncio.run(measure())


def bare(precision: Literal["bf16", "f32"]) -> dict[str, float]:
    async def measure() -> dict[str, float]:
        known = catalogue()
        spec = known.get(MODEL)
        made = Engine(known, precision=precision)
        async with made.using(spec, "dense") as model:
            pass
        count = int((await made.embed(spec, EmbedRequest(MODEL, [QUERY]))).tokens[0])
        ids = np.full((1, model.scheduler.grid.length(count)), 2000, dtype=np.int32)
        batch = TokenBatch.of(ids)
        times = []
        for _ in range(300):
            started = time.perf_counter()
            model._compiled.start(batch)()
            times.append(time.perf_counter() - started)
        await made.close()
        return {"p50": float(np.median(times)) * 1000}

    return asyncio.run(measure())


def main() -> None:
    name, part = sys.argv[1], int(sys.argv[2])
    if name == "sentence-transformers":
        figures = sentence_transformers(part)
    else:
        kind, _, precision = name.partition("-")
        figures = {"engine": engine, "bare": bare}[kind]("bf16" if precision == "bf16" else "f32")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
