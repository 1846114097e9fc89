"""The file of names: what it says is what was written, and nothing else is believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pinyon.stores.base import Record
from pinyon.stores.edge import EdgeStore, names
from pinyon.stores.edge.link import Link

from .edge_scenario import COSINE, opened, random_vectors, run

NAMES = {"": ["a", "b"], "é": [], "x": ["\x7f", "z" * 512]}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    names.save(tmp_path, 7, NAMES)
    assert names.load(tmp_path, 7) == NAMES
    assert names.load(tmp_path, 8) is None
    names.save(tmp_path, 8, {})
    names.forget(tmp_path, 8)
    assert names.load(tmp_path, 7) is None
    assert names.load(tmp_path, 8) == {}


def test_damage_is_not_believed(tmp_path: Path) -> None:
    names.save(tmp_path, 7, NAMES)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert names.load(tmp_path, 7) is None
        path.write_bytes(whole[:at])
        assert names.load(tmp_path, 7) is None


@pytest.mark.parametrize("kept", [True, False])
def test_an_index_is_opened_with_its_names_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    asked = 0
    names_of = Link.names

    async def counted(link: Link) -> Mapping[str, list[str]]:
        nonlocal asked
        asked += 1
        return await names_of(link)

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        records = [Record(f"{n:03}", row) for n, row in enumerate(random_vectors(30, 8))]
        await index.upsert("", records)
        await index.upsert("other", records[:5])
        await index.create_namespace("empty")
        await index.delete("", ["003"])
        await store.close()
        if not kept:
            for path in tmp_path.glob("*/names-*"):
                path.unlink()
        monkeypatch.setattr(Link, "names", counted)
        store = EdgeStore(tmp_path)
        again = await store.open("one")
        assert await again.namespaces() == {"": 29, "empty": 0, "other": 5}
        assert await again.list_ids("", prefix="00", after=None, limit=99) == [f"{n:03}" for n in range(10) if n != 3]
        assert asked == (0 if kept else 1)
        await store.close()

    run(scenario())
