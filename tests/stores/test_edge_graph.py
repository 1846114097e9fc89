"""Searches of a graph with filters, asked of the engine itself: what is found, and which way was taken."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pinyon.filters import And, Eq, Filter, Gte, In, Lt, Ne, Or
from pinyon.stores.base import Layout, Metric, Record
from pinyon.stores.edge import shard as module
from pinyon.stores.edge.journal import Batch
from pinyon.stores.edge.shard import Shard
from pinyon.stores.points import query_vector, to_condition, to_points, within
from pinyon.types import FloatArray

from .edge_scenario import random_vectors

LAYOUT = Layout(32, Metric.COSINE)
COUNT = 8_000
ASKED = 40
TOP_K = 10


@pytest.fixture(scope="module")
def vectors() -> FloatArray:
    return random_vectors(COUNT + ASKED, 32)


@pytest.fixture(scope="module")
def graph(vectors: FloatArray) -> Iterator[Shard]:
    """Of all records, with a graph that is searched however few a filter keeps."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(module, "GRAPH_FROM", 16 << 10)  # bytes: 128 vectors
        made = Shard.create(Path(folder, "shard"), LAYOUT)
        # "near" goes with the first coordinate, so that what it keeps lies together
        near = np.argsort(np.argsort(vectors[:COUNT, 0]))
        records = [
            Record(f"{n:04}", vectors[n], metadata={"n": n * 7 % COUNT, "near": int(near[n]), "kind": f"k{n % 10}"})
            for n in range(COUNT)
        ]
        made.apply(Batch(1, puts=to_points(LAYOUT, "", records)))
        made.flush()
        made.close()
        made = Shard.load(Path(folder, "shard"), LAYOUT)
        made.optimize()
        assert made.unindexed() == 0
        yield made
        made.close()


FILTERS: dict[str, Filter | None] = {
    "none": None,
    "half": Lt("n", COUNT / 2),
    "half that lies together": Gte("near", COUNT / 2),
    "nearly all": Ne("kind", "k3"),
    "a third": And((Gte("n", COUNT / 3), Lt("n", COUNT * 2 / 3))),
    "a fifth": In("kind", ("k1", "k2")),
    "a tenth": Eq("kind", "k7"),
    "a tenth that lies together": Lt("near", COUNT / 10),
    "a fiftieth": Lt("n", COUNT / 50),
    "a part of a part": And((Eq("kind", "k7"), Lt("near", COUNT / 4))),
    "either": Or((Eq("kind", "k7"), Lt("near", COUNT / 4))),
    "four": Lt("n", 4),
}


def found(graph: Shard, vectors: FloatArray, filter: Filter | None, *, exact: bool) -> list[list[str]]:
    condition = None if filter is None else within("", to_condition(filter))
    return [
        [record.id for _, record in graph.search(query_vector(LAYOUT, row), condition, TOP_K, exact=exact)]
        for row in vectors[COUNT:]
    ]


def recall(some: list[list[str]], right: list[list[str]]) -> float:
    return sum(len(set(a) & set(b)) for a, b in zip(some, right, strict=True)) / sum(map(len, right))


@pytest.mark.parametrize("scanned", [0, module._SCANNED])
@pytest.mark.parametrize("name", FILTERS)
def test_recall(
    graph: Shard,
    vectors: FloatArray,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    scanned: int,
) -> None:
    monkeypatch.setattr(module, "_SCANNED", scanned)
    right = found(graph, vectors, FILTERS[name], exact=True)
    assert all(len(ids) == min(TOP_K, 4 if name == "four" else TOP_K) for ids in right)
    some = found(graph, vectors, FILTERS[name], exact=False)
    assert recall(some, right) >= (1 if scanned and FILTERS[name] else 0.99)


def test_a_search_that_is_stuck_is_done_by_scoring_all(
    graph: Shard,
    vectors: FloatArray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a filter keeps far less than the engine takes it to keep: without ACORN little of a tenth is found."""
    monkeypatch.setattr(module, "_SCANNED", 0)
    monkeypatch.setattr(module, "_FEW", 0)
    monkeypatch.setattr(module, "_FILTERED_BREADTH", TOP_K)
    filter = FILTERS["a fiftieth"]
    for some, right in zip(
        found(graph, vectors, filter, exact=False), found(graph, vectors, filter, exact=True), strict=True
    ):
        assert len(some) == len(right) == TOP_K
