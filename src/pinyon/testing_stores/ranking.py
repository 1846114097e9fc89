"""Scores, and their order."""

from __future__ import annotations

from pinyon.stores.base import Layout, Metric, Query, Record, Store
from pinyon.testing_stores.scenario import ODD_IDS, PLANE, SPARSE, StoreTests, found, scenario, sparse, vector


class Ranking(StoreTests):
    """Queries, all worked out by hand."""

    @scenario
    async def test_scores_and_their_order(self, store: Store) -> None:
        """Hand-made: the query is (3, 4); euclidean scores are squares, and rise."""
        points = {"a": (3, 4), "b": (-3, -4), "c": (4, -3), "d": (8, 6), "e": (0.5, 0)}
        wanted = {
            Metric.COSINE: [("a", 1), ("d", 0.96), ("e", 0.6), ("c", 0), ("b", -1)],
            Metric.DOTPRODUCT: [("d", 48), ("a", 25), ("e", 1.5), ("c", 0), ("b", -25)],
            Metric.EUCLIDEAN: [("a", 0), ("e", 22.25), ("d", 29), ("c", 50), ("b", 100)],
        }
        for metric, order in wanted.items():
            index = await store.create(metric.value, Layout(2, metric))
            await index.upsert("", [Record(id, vector(*point)) for id, point in points.items()])
            for top_k in (1, 3, 5, 10_000):
                assert await found(index, Query(top_k, vector(3, 4))) == order[:top_k]
            assert await index.query("unknown", Query(5, vector(3, 4))) == []

    @scenario
    async def test_the_cosine_does_not_depend_on_length(self, store: Store) -> None:
        index = await store.create("one", Layout(2, Metric.COSINE))
        lengths = (1e-6, 1e-3, 1, 1e10, 1e19, 1e30)
        await index.upsert("", [Record(f"{n}", vector(3 * x, 4 * x)) for n, x in enumerate(lengths)])
        for length in (1e-6, 1, 1e30):
            got = await found(index, Query(10, vector(4 * length, 3 * length)))
            assert sorted(got) == [(f"{n}", 0.96) for n in range(len(lengths))]

    @scenario
    async def test_equal_scores_sort_by_id(self, store: Store) -> None:
        for metric in Metric:
            index = await store.create(metric.value, Layout(2, metric))
            ids = sorted(ODD_IDS, key=str.encode)
            await index.upsert("", [Record(id, vector(0.5, 2)) for id in reversed(ids)])
            matches = await index.query("", Query(99, vector(1, 1)))
            assert [match.record.id for match in matches] == ids

    @scenario
    async def test_sparse_queries_rank_what_shares_an_index(self, store: Store) -> None:
        for key, layout in (("sparse", SPARSE), ("both", PLANE)):
            index = await store.create(key, layout)
            dense = None if layout.dimension is None else vector(9, 9)
            records = [
                Record("a", dense, sparse(_1=2, _5=1)),
                Record("b", dense, sparse(_5=-3)),
                Record("c", dense, sparse(_2=8)),
                Record("d", dense, sparse(_1=0.5, _4294967295=4)),
            ]
            await index.upsert("", records if dense is None else [*records, Record("dense", dense)])
            asked = sparse(_1=2, _5=1, _4294967295=1)
            assert await found(index, Query(9, sparse=asked)) == [("a", 5), ("d", 5), ("b", -3)]
            assert await found(index, Query(1, sparse=sparse(_2=-1, _3=1))) == [("c", -8)]
            assert await found(index, Query(9, sparse=sparse(_3=1))) == []

    @scenario
    async def test_hybrid_queries_add_both_products(self, store: Store) -> None:
        """A record counts if either part alone would rank it; what it lacks adds nothing."""
        index = await store.create("one", PLANE)
        records = [
            Record("both", vector(1, 1), sparse(_1=2)),
            Record("dense", vector(4, 0)),
            Record("sparse", sparse=sparse(_1=5)),
            Record("apart", vector(0.5, 0), sparse(_2=9)),
            Record("neither", sparse=sparse(_2=9)),
        ]
        await index.upsert("", records)
        hybrid = Query(9, vector(1, 2), sparse(_1=3))
        assert await found(index, hybrid) == [("sparse", 15), ("both", 9), ("dense", 4), ("apart", 0.5)]
        assert await found(index, Query(2, vector(1, 2), sparse(_1=3))) == [("sparse", 15), ("both", 9)]
        assert await found(index, Query(9, vector(1, 2))) == [("dense", 4), ("both", 3), ("apart", 0.5)]
        away = Query(9, vector(1, 2), sparse(_1=-3))
        assert await found(index, away) == [("dense", 4), ("apart", 0.5), ("both", -3), ("sparse", -15)]
