"""Filters: every operator over every type of value, odd names, many conditions."""

from __future__ import annotations

from typing import Any

from pinyon.stores.base import Record, Store
from pinyon.testing_stores.scenario import PLANE, StoreTests, scenario, selected, tagged, vector


class Filtering(StoreTests):
    """Filters, as filters.matches has them."""

    @scenario
    async def test_filters_of_every_operator(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert("", [tagged(id, **({} if value is None else {"f": value})) for id, value in MIXED.items()])
        for filter, ids in FILTERS:
            assert await selected(index, {"f": filter}) == list(ids), filter
            either = {"$or": [{"f": filter}, {"f": {"$exists": False}}]}
            assert await selected(index, either) == sorted({*ids, "z"}), filter

    @scenario
    async def test_filters_on_odd_names_and_values(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        names = [
            "",
            " ",
            "a.b",
            "a[]",
            "a[0]",
            '"',
            "'",
            "\\",
            "日本",
            "😀",
            "é",
            "e\u0301",
            "x" * 500,
            "null",
            "a\x00b",
        ]
        await index.upsert("", [Record(f"{n:02}", vector(1, 1), metadata={name: name}) for n, name in enumerate(names)])
        for n, name in enumerate(names):
            assert await selected(index, {name: name}) == [f"{n:02}"]
            assert await selected(index, {name: {"$in": names}}) == [f"{n:02}"]
            assert await selected(index, {name: {"$exists": True}}) == [f"{n:02}"]
            assert len(await selected(index, {name: {"$exists": False}})) == len(names) - 1

    @scenario
    async def test_filters_join_fields(self, store: Store) -> None:
        index = await store.create("one", PLANE)
        await index.upsert(
            "", [tagged(f"{n:02}", n=float(n), even=n % 2 == 0, tags=["all", f"t{n}"]) for n in range(20)]
        )
        assert await selected(index, {"n": {"$gte": 4, "$lt": 9}, "even": False}) == ["05", "07"]
        either = {"$or": [{"tags": "t3"}, {"$and": [{"n": {"$gt": 16}}, {"even": {"$ne": False}}]}], "tags": "all"}
        assert await selected(index, either) == ["03", "18"]
        many = {"n": {"$nin": [float(n) for n in range(2, 10_000)]}}
        assert await selected(index, many) == ["00", "01"]
        assert await selected(index, {}) == [f"{n:02}" for n in range(20)]


MIXED: dict[str, Any] = {
    **{"a": "x", "b": "y", "c": "1", "d": "", "e": 1.0, "f": 2.0, "g": -0.5, "h": 0.0, "i": True, "j": False},
    **{"k": ["x"], "l": ["y", "1"], "m": [], "n": 9007199254740992.0, "z": None},
}

# What the field must be, and the ids of MIXED, run together, that match.
FILTERS: list[tuple[object, str]] = [
    ("x", "ak"),
    ("1", "cl"),
    ("", "d"),
    (1, "e"),
    (1.0, "e"),
    (0, "h"),
    (-0.0, "h"),
    (True, "i"),
    (False, "j"),
    ("true", ""),
    (9007199254740993, "n"),
    ({"$eq": "y"}, "bl"),
    ({"$ne": "x"}, "bcdefghijlmn"),
    ({"$ne": 1}, "abcdfghijklmn"),
    ({"$ne": True}, "abcdefghjklmn"),
    ({"$gt": 0}, "efn"),
    ({"$gte": 0}, "efhn"),
    ({"$lt": 1}, "gh"),
    ({"$lte": 1}, "egh"),
    ({"$gt": 0, "$lt": 2}, "e"),
    ({"$gt": 1, "$lt": 1}, ""),
    ({"$in": ["x", 1, True]}, "aeik"),
    ({"$in": ["1"]}, "cl"),
    ({"$in": [0, 2, 7]}, "fh"),
    ({"$in": [False]}, "j"),
    ({"$nin": ["x", 1, True]}, "bcdfghjlmn"),
    ({"$nin": [0]}, "abcdefgijklmn"),
    ({"$nin": ["1", "x"], "$ne": 2}, "bdeghijmn"),
    ({"$exists": True}, "abcdefghijklmn"),
    ({"$exists": False}, "z"),
    ({"$exists": True, "$ne": ""}, "abcefghijklmn"),
]
