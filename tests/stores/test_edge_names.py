"""The file of names: what it says is what was written, and nothing else is believed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from shutil import copytree

import pytest

from pinyon.errors import Unavailable
from pinyon.filters import And
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


@pytest.mark.parametrize("kept", [True, False])
def test_a_killed_index_goes_on_from_its_last_flush_with_names_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    replayed: list[tuple[int, int]] = []
    replay = Link.replay

    async def recorded(link: Link, folder: Path, after: int, upto: int) -> None:
        replayed.append((after, upto))
        await replay(link, folder, after, upto)

    async def scenario() -> None:
        store, index = await opened(tmp_path / "store", COSINE, flush_after=20)
        rows = random_vectors(10, 8)
        await index.upsert("gone", [Record(f"{n}", row) for n, row in enumerate(rows)])
        await index.upsert("emptied", [Record(f"{n}", row) for n, row in enumerate(rows)])
        for batch in count():
            await index.upsert("", [Record(f"{batch}-{n}", row) for n, row in enumerate(rows)])
            if index._contents.shard_sequence > 10:
                break
        await index.delete_namespace("gone")
        await index.create_namespace("made")
        await index.delete("", ["0-0", "1-1"])
        await index.delete_where("emptied", And(()))
        killed = tmp_path / "killed"
        copytree(tmp_path / "store", killed)
        if not kept:
            for path in killed.glob("*/names-*"):
                path.unlink()
        monkeypatch.setattr(Link, "replay", recorded)
        again = await (other := EdgeStore(killed, reserve=0, flush_after=20)).open("one")
        assert await again.namespaces() == await index.namespaces() == {"": 10 * batch + 8, "emptied": 0, "made": 0}
        ids = await index.list_ids("", prefix="", after=None, limit=10**6)
        assert await again.list_ids("", prefix="", after=None, limit=10**6) == ids
        assert list(await again.fetch("", ids)) == ids
        assert replayed == [(index._contents.shard_sequence, index.sequence)]
        assert 10 < replayed[0][0] < replayed[0][1]
        await other.close()
        await store.close()

    run(scenario())


def test_a_journal_that_ends_before_its_shard_is_damage(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path / "store", COSINE, flush_after=1)
        while index._contents.shard_sequence < 5:
            await index.upsert("", [Record("a", row) for row in random_vectors(1, 8)])
        copytree(tmp_path / "store", tmp_path / "killed")
        await store.close()
        for path in (tmp_path / "killed").glob("*/journal-*"):
            path.unlink()
        other = EdgeStore(tmp_path / "killed", reserve=0)
        with pytest.raises(Unavailable, match="journal"):
            await other.open("one")
        await other.close()

    run(scenario())
