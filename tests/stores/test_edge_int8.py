"""Which vectors are searched by bytes: those that lose nothing by it, as a sample shows, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pinyon.stores.base import Layout, Metric, Query, Record
from pinyon.stores.edge.int8 import SAMPLE, keep_neighbours
from pinyon.types import FloatArray

from .edge_scenario import compacted, opened, random_vectors, run

DIMENSION = 384
COUNT = 7000  # enough for the engine to build a graph


def units(rows: FloatArray) -> FloatArray:
    scaled: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def with_outliers(rows: FloatArray) -> FloatArray:
    scale = np.where(np.random.default_rng(1).random(len(rows)) < 0.02, 500, 1)
    return (rows * scale[:, None]).astype(np.float32)


def test_vectors_such_as_embeddings_keep_their_neighbours() -> None:
    rows = random_vectors(SAMPLE, DIMENSION)
    assert keep_neighbours(units(rows), Metric.COSINE)
    assert keep_neighbours(rows, Metric.DOTPRODUCT)
    assert keep_neighbours(rows + 5, Metric.EUCLIDEAN)
    one_far_off = np.concatenate([rows, rows[:1] * 1e6])
    assert keep_neighbours(one_far_off, Metric.EUCLIDEAN)


def test_vectors_whose_scale_a_few_numbers_set_do_not() -> None:
    rows = random_vectors(SAMPLE, DIMENSION)
    assert not keep_neighbours(with_outliers(rows), Metric.EUCLIDEAN)
    few = np.concatenate([rows[:, :4] * 300, rows[:, 4:]], axis=1) / 300
    assert not keep_neighbours((rows * few).astype(np.float32), Metric.DOTPRODUCT)
    assert not keep_neighbours(np.ones((SAMPLE, 8), np.float32), Metric.DOTPRODUCT)
    assert not keep_neighbours(rows[:10], Metric.DOTPRODUCT)


@pytest.mark.parametrize("suits", [True, False])
def test_a_compaction_builds_bytes_where_they_do_no_harm(tmp_path: Path, suits: bool) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, Layout(DIMENSION, Metric.EUCLIDEAN), compact_after=COUNT)
        rows, asked = np.split(random_vectors(COUNT + 40, DIMENSION), [COUNT])
        if not suits:
            rows = with_outliers(rows)
        for at in range(0, COUNT, 1000):
            await index.upsert("", [Record(str(n), rows[n]) for n in range(at, at + 1000)])
        await compacted(index)
        assert (await index._writer.link.state()).unindexed == 0
        assert bool(list(tmp_path.glob("one/shard-*/segments/*/vector_storage-d/quantized.data"))) == suits
        hits = 0
        for row in asked:
            distances = np.square(rows.astype(np.float64) - row).sum(axis=1)
            best = np.argsort(distances)[:10]
            found = await index.query("", Query(10, row))
            hits += len({int(match.record.id) for match in found} & {int(n) for n in best})
            # scores are those of the floats
            for match in found:
                assert match.score == pytest.approx(distances[int(match.record.id)], rel=1e-5)
        assert hits >= 0.99 * 400
        await store.close()

    run(scenario())
