"""What tests of the embedded store are written with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pinyon.stores.base import Layout, Metric
from pinyon.stores.edge import EdgeStore, compactor
from pinyon.stores.edge.index import EdgeIndex
from pinyon.types import FloatArray

COSINE = Layout(8, Metric.COSINE)
PLANE = Layout(2, Metric.DOTPRODUCT)
T = TypeVar("T")


def no_load(set_attribute: Callable[[object, str, object], None]) -> None:
    set_attribute(compactor, "_BULK_RATE", 1e9)
    set_attribute(compactor, "_SETTLING", 0.0)


def run(call: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(call)


def random_vectors(n: int, dimension: int) -> FloatArray:
    """[n, dimension], in clusters, as embeddings lie"""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(n // 50, 2), dimension))
    rows = centres[rng.integers(0, len(centres), n)] + 0.7 * rng.standard_normal((n, dimension))
    return rows.astype(np.float32)


async def opened(root: Path, layout: Layout, **options: int) -> tuple[EdgeStore, EdgeIndex]:
    store = EdgeStore(root, **{"reserve": 0, **options})
    index = await store.create("one", layout)
    assert isinstance(index, EdgeIndex)
    return store, index


async def compacted(index: EdgeIndex) -> None:
    while index._compactor.running is not None:
        await asyncio.sleep(0.005)


def shards(root: Path) -> list[str]:
    return [path.name for path in (root / "one").glob("shard-*")]
