"""bm25-english through the engine, beside bm25s, which tokenizes, stems and indexes the same texts.

The peer's work is not the same (it counts the collection and keeps it, all at once), so their ratio is no aim.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import bm25s
import Stemmer

from bench.figures import Aim, Figures
from bench.texts import paragraphs
from pinyon.catalog import Catalogue
from pinyon.engine.engine import Engine
from pinyon.types import EmbedRequest

MODEL = "bm25-english"
BATCH = 96  # texts of a request, the most that Pinecone's API takes
QUERIES = 2000


def measure(rounds: int, figures: Figures) -> list[Aim]:
    texts = paragraphs()
    for number in range(rounds):
        figures.heading(f"round {number + 1} of {rounds}")
        passages, queries = asyncio.run(_engine(texts))
        figures.add("engine, passages in requests of 96, texts/s", passages)
        figures.add("engine, one query at a time, texts/s", queries)
        figures.add("bm25s, tokenize and index, texts/s", _peer(texts))
    found = sorted(figures.rounds["engine, passages in requests of 96, texts/s"])[rounds // 2]
    return [Aim("bm25-english, passages in requests of 96, texts/s", found, 20_000)]


async def _engine(texts: list[str]) -> tuple[float, float]:
    """Passages and queries a second."""
    catalogue = Catalogue.build(Path("/nonexistent"))
    spec = catalogue.get(MODEL)
    made = Engine(catalogue)
    await made.load(spec)
    started = time.perf_counter()
    for at in range(0, len(texts), BATCH):
        await made.embed_sparse(spec, EmbedRequest(MODEL, texts[at : at + BATCH], "passage"))
    passages = len(texts) / (time.perf_counter() - started)
    started = time.perf_counter()
    for text in texts[:QUERIES]:
        await made.embed_sparse(spec, EmbedRequest(MODEL, [text], "query"))
    queries = QUERIES / (time.perf_counter() - started)
    await made.close()
    return passages, queries


def _peer(texts: list[str]) -> float:
    started = time.perf_counter()
    tokens = bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    bm25s.BM25().index(tokens, show_progress=False)
    return len(texts) / (time.perf_counter() - started)
