"""What was written comes back: to the bit, by id, by filter, in order and by pages."""

from __future__ import annotations

from typing import Any

import numpy as np

from pinyon.filters import parse
from pinyon.stores.base import Layout, Metric, Query, Record, SparseVector, Store
from pinyon.testing_stores.scenario import (
    EVERYTHING,
    ODD_IDS,
    PLANE,
    SPARSE,
    StoreTests,
    content,
    contents,
    found,
    scenario,
    sparse,
    tagged,
    vector,
)


class Reads(StoreTests):
    """Fetch and list."""

    @scenario
    async def test_values_come_back_bit_for_bit(self, store: Store) -> None:
        odd = vector(-0.0, 1e-45, -1e-38, 1e-30, 0.1, 1 / 3, 16777217, 3e38)
        rng = np.random.default_rng(3)
        plain = (rng.standard_normal((20, 8)) * 10.0 ** rng.integers(-20, 20, (20, 1))).astype(np.float32)
        for metric in Metric:
            index = await store.create(metric.value, Layout(8, metric))
            records = [Record(f"r{n:02}", row) for n, row in enumerate([odd, *plain])]
            await index.upsert("", records)
            back = await index.fetch("", [record.id for record in records])
            assert contents(back[record.id] for record in records) == contents(records)
            assert contents(await index.fetch_where("", EVERYTHING, after=None, limit=99)) == contents(records)
            matches = await index.query("", Query(99, vector(*[1] * 8), with_values=True))
            by_id = {match.record.id: match.record for match in matches}
            assert contents(by_id[record.id] for record in records) == contents(records)

    @scenario
    async def test_sparse_vectors_come_back_bit_for_bit(self, store: Store) -> None:
        wide = SparseVector(np.arange(2048, dtype=np.uint32) * 2097152, np.linspace(-1, 1, 2048, dtype=np.float32))
        records = [Record("edges", sparse=sparse(_0=1e-45, _7=-3e38, _4294967295=0.1)), Record("wide", sparse=wide)]
        index = await store.create("one", SPARSE)
        await index.upsert("", records)
        assert contents(await index.fetch_where("", EVERYTHING, after=None, limit=9)) == contents(records)

    @scenario
    async def test_metadata_comes_back_as_it_was(self, store: Store) -> None:
        metadata: dict[str, Any] = {
            **{"": "empty", " ": " ", "a.b": 1.0, "a": 2.0, "a[]": True, "a[0]": False},
            **{'quo"te': 'v"', "back\\": "\\", "日本": "語\x00\n", "é": "e\u0301", "x" * 1000: "y" * 10_000},
            **{"tags": ["b", "a", "b", ""], "none": [], "tiny": 5e-324, "big": 1.7e308, "minus": -0.5, "one": 1.0},
            **{"id": "not-the-id", "namespace": "n", "values": [], "metadata": "m", "_id": 1.0},
        }
        index = await store.create("one", PLANE)
        await index.upsert("", [Record("a", vector(1, 2), metadata=metadata), tagged("bare")])
        assert content((await index.fetch("", ["a"]))["a"]) == content(Record("a", vector(1, 2), metadata=metadata))
        matches = await index.query("", Query(1, vector(1, 1), filter=parse({"a": 2}), with_metadata=True))
        assert content(matches[0].record) == content(Record("a", metadata=metadata))

    @scenario
    async def test_what_is_stored_is_a_copy(self, store: Store) -> None:
        values, weights, tags = vector(1, 2), sparse(_1=1), ["a"]
        given: dict[str, Any] = {"tags": tags}
        index = await store.create("one", PLANE)
        await index.upsert("", [Record("a", values, weights, given)])
        wanted = content(Record("a", vector(1, 2), sparse(_1=1), {"tags": ["a"]}))
        values[0], weights.values[0], given["x"] = 9, 9, 9.0
        tags.append("b")
        back = (await index.fetch("", ["a"]))["a"]
        assert content(back) == wanted
        assert back.values is not None
        if back.values.flags.writeable:
            back.values[0] = 9
        assert isinstance(back.metadata["tags"], list)
        back.metadata["tags"].append("c")
        assert content((await index.fetch("", ["a"]))["a"]) == wanted

    @scenario
    async def test_ids_list_by_their_bytes_with_prefix_and_pages(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        ids = sorted(ODD_IDS, key=str.encode)
        await index.upsert("", [tagged(id) for id in reversed(ids)])
        assert await index.list_ids("", prefix="", after=None, limit=99) == ids
        pages: list[str] = []
        while page := await index.list_ids("", prefix="", after=pages[-1] if pages else None, limit=4):
            assert len(page) == min(4, len(ids) - len(pages))
            pages += page
        assert pages == ids
        for prefix in ("a", "a/", "é", "zz", "日", "%", '"', "none-such"):
            under = [id for id in ids if id.startswith(prefix)]
            assert await index.list_ids("", prefix=prefix, after=None, limit=99) == under
            assert (
                await index.list_ids("", prefix=prefix, after="a b", limit=2) == [id for id in under if id > "a b"][:2]
            )
        assert await index.list_ids("", prefix="", after="aa-not-there", limit=1) == [next(i for i in ids if i > "aa-")]
        assert list((await index.fetch("", ids)).keys() - set(ids)) == []
        assert len(await index.fetch("", [*ids, "unknown", ids[0]])) == len(ids)
        await index.delete("", ids[::2])
        assert await index.list_ids("", prefix="", after=None, limit=99) == ids[1::2]

    @scenario
    async def test_records_by_filter_come_by_rising_id_in_pages(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        records = [Record(id, vector(n, 1), sparse(_1=1), {"odd": n % 2 == 1}) for n, id in enumerate("ebdacf")]
        await index.upsert("", records)
        wanted = sorted(records[1::2], key=lambda record: record.id)
        odd = parse({"odd": True})
        assert contents(await index.fetch_where("", odd, after=None, limit=2)) == contents(wanted[:2])
        assert contents(await index.fetch_where("", odd, after=wanted[1].id, limit=2)) == contents(wanted[2:])
        assert await index.fetch_where("", odd, after="zz", limit=2) == []

    @scenario
    async def test_a_match_holds_what_was_asked_for(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        whole = Record("a", vector(1, 2), sparse(_1=1), {"x": 1.0})
        await index.upsert("", [whole])
        wanted = {
            (False, False): Record("a"),
            (False, True): Record("a", metadata=whole.metadata),
            (True, False): Record("a", whole.values, whole.sparse),
            (True, True): whole,
        }
        for (values, metadata), record in wanted.items():
            query = Query(1, vector(1, 1), with_values=values, with_metadata=metadata)
            assert contents(match.record for match in await index.query("", query)) == contents([record])

    @scenario
    async def test_long_vectors(self, store: Store) -> None:
        rng = np.random.default_rng(5)
        index = await store.create("one", Layout(20_000, Metric.COSINE))
        records = [Record(f"r{n}", rng.standard_normal(20_000, dtype=np.float32)) for n in range(5)]
        await index.upsert("", records)
        assert contents((await index.fetch("", ["r3"])).values()) == contents([records[3]])
        assert (await found(index, Query(1, records[2].values)))[0] == ("r2", 1)
