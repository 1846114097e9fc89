"""Ids in order, against a set that is sorted each time."""

from __future__ import annotations

import random

import pytest

from pinyon.stores.edge.ids import OrderedIds


@pytest.mark.parametrize("seed", range(3))
def test_pages_are_those_of_a_sorted_set(seed: int) -> None:
    rng = random.Random(seed)
    found = {str(rng.randrange(9000)) for _ in range(3000)} if seed else set()
    ids = OrderedIds(found)
    for step in range(15_000):
        id = rng.choice(["", "\U0001f600", "\uff5e", "é"]) + str(rng.randrange(9000))
        if rng.random() < (0.7 if step < 8000 else 0.2):
            ids.add(id)
            found.add(id)
        else:
            ids.discard(id)
            found.discard(id)
        assert (id in ids) == (id in found)
        if step % 1500 == 0:
            ordered = sorted(found, key=str.encode)
            assert (list(ids), len(ids)) == (ordered, len(ordered))
            for prefix in ("", "1", "12", "é1", "zz"):
                for after in (None, "", "0", "123", "1230", "é", "\U0010ffff"):
                    wanted = [id for id in ordered if id.startswith(prefix) and (after is None or id > after)]
                    for limit in (1, 50, 9999):
                        assert ids.page(prefix=prefix, after=after, limit=limit) == wanted[:limit]


def test_one_that_empties_fills_again() -> None:
    ids = OrderedIds(["b", "a", "b"])
    for id in ("a", "b", "b", "c"):
        ids.discard(id)
    assert (list(ids), len(ids), "a" in ids) == ([], 0, False)
    ids.add("c")
    ids.add("c")
    assert (list(ids), len(ids)) == (["c"], 1)
