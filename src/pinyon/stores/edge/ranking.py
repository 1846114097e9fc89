"""From the engine's searches to a query's answer: ties in order of id, and both kinds of vector at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pinyon.stores.base import Layout, Match, Metric, Query, SparseVector
from pinyon.stores.edge.shard import Shard
from pinyon.stores.points import Condition, is_huge, point_id, query_vector
from pinyon.types import FloatArray

_GROWTH = 4
_SCANNED = 1000  # records fetched at once
# Most candidates a side of a hybrid query. Below it answers are as exact as the two searches.
_MOST_CANDIDATES = 20_000


def answer(
    shard: Shard, layout: Layout, namespace: str, condition: Condition | None, query: Query, *, huge: bool
) -> list[Match]:
    """The best `top_k`, best first. `condition` keeps to the namespace and the filter. `huge`: the index has vectors
    that overflow the engine's float32."""
    if layout.metric is not Metric.COSINE and (huge or is_huge(query.values, query.sparse)):
        return _scan(shard, layout, namespace, condition, query)
    dense = None if query.values is None else query_vector(layout, query.values)
    if dense is not None and query.sparse is not None:
        return _hybrid(shard, namespace, condition, query, dense, query.sparse)
    vector = query.sparse if dense is None else dense
    if vector is None:
        return []
    return _nearest(shard, layout, condition, query, vector)


def _nearest(
    shard: Shard, layout: Layout, condition: Condition | None, query: Query, vector: FloatArray | SparseVector
) -> list[Match]:
    """Asks for one more than wanted: if that is as good as the last one wanted, ids decide between them, and all that
    are as good must be seen."""
    wanted, exact = query.top_k + 1, False
    while True:
        hits = shard.search(
            vector,
            condition,
            wanted,
            exact=exact,
            with_values=query.with_values,
            with_metadata=query.with_metadata,
        )
        if len(hits) < wanted or hits[-1][0] != hits[query.top_k - 1][0]:
            break
        wanted, exact = wanted * _GROWTH, True
    sign = 1 if layout.metric is Metric.EUCLIDEAN else -1
    hits.sort(key=lambda hit: (sign * hit[0], hit[1].id))
    return [Match(score, record) for score, record in hits[: query.top_k]]


def _scan(shard: Shard, layout: Layout, namespace: str, condition: Condition | None, query: Query) -> list[Match]:
    """Scores everything in float64. Slow, and for an index that no model's embeddings make."""
    found: list[Match] = []
    ids = shard.ids(condition)
    for at in range(0, len(ids), _SCANNED):
        for _, record in shard.fetch([point_id(namespace, id) for id in ids[at : at + _SCANNED]]):
            parts = []
            if query.values is not None and record.values is not None:
                asked, stored = query.values.astype(np.float64), record.values.astype(np.float64)
                euclidean = layout.metric is Metric.EUCLIDEAN
                parts.append(float(np.square(asked - stored).sum() if euclidean else (asked * stored).sum()))
            if query.sparse is not None and record.sparse is not None:
                _, left, right = np.intersect1d(query.sparse.indices, record.sparse.indices, True, True)
                if left.size:
                    parts.append(
                        float((query.sparse.values[left].astype(np.float64) * record.sparse.values[right]).sum())
                    )
            if parts:
                found.append(Match(sum(parts), query.shown(record)))
    sign = 1 if layout.metric is Metric.EUCLIDEAN else -1
    return sorted(found, key=lambda match: (sign * match.score, match.record.id))[: query.top_k]


def _hybrid(
    shard: Shard, namespace: str, condition: Condition | None, query: Query, dense: FloatArray, sparse: SparseVector
) -> list[Match]:
    """The best sums of two products, by Fagin's threshold algorithm: the best of each side, with their other side
    looked up, until no record that neither side has shown can reach the last one wanted."""
    wanted = max(64, _GROWTH * query.top_k)
    while True:
        left = {record.id: score for score, record in shard.search(dense, condition, wanted)}
        right = {record.id: score for score, record in shard.search(sparse, condition, wanted)}
        bounds = [min(side.values()) for side in (left, right) if len(side) == wanted]
        left |= _scores(shard, namespace, dense, [id for id in right if id not in left])
        right |= _scores(shard, namespace, sparse, [id for id in left if id not in right])
        sums = {id: left.get(id, 0.0) + right.get(id, 0.0) for id in {**left, **right}}
        best = sorted(sums, key=lambda id: (-sums[id], id))[: query.top_k]
        # an unseen record has one part or both, each no better than its side's last; a side that gave all has none left
        most = max([*bounds, sum(bounds)]) if bounds else None
        if most is None or wanted >= _MOST_CANDIDATES or (len(best) == query.top_k and sums[best[-1]] > most):
            break
        wanted *= _GROWTH
    found = {record.id: record for _, record in shard.fetch([point_id(namespace, id) for id in best])}
    return [Match(sums[id], query.shown(found[id])) for id in best]


def _scores(shard: Shard, namespace: str, vector: FloatArray | SparseVector, ids: Sequence[str]) -> dict[str, float]:
    if not ids:
        return {}
    these: Condition = {"must": [{"has_id": [point_id(namespace, id) for id in ids]}]}
    return {record.id: score for score, record in shard.search(vector, these, len(ids), exact=True)}
