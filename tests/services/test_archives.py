"""Archives: every bit comes back, no damaged byte goes unseen, and what was not finished is none."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinyon.errors import FailedPrecondition, Unavailable
from pinyon.services import archives
from pinyon.services.archive_place import Place
from pinyon.services.archives import Archive, ArchiveInfo, delete_archive, open_archive, write_archive
from pinyon.stores.base import Record, SparseVector
from pinyon.testing_stores.scenario import content, sparse, tagged, vector

T = TypeVar("T")
Held = dict[str, list[Record]]


class HeldSnapshot:
    """See base.Snapshot: of records at hand, some at a time."""

    sequence = 1

    def __init__(self, held: Held, *, at_once: int = 7, fails: BaseException | None = None) -> None:
        self.namespaces: Mapping[str, int] = {namespace: len(records) for namespace, records in held.items()}
        self._held, self._at_once, self._fails = held, at_once, fails

    async def batches(self) -> AsyncIterator[tuple[str, Sequence[Record]]]:
        for namespace, records in self._held.items():
            for at in range(0, len(records), self._at_once):
                yield namespace, records[at : at + self._at_once]
        if self._fails is not None:
            raise self._fails

    async def close(self) -> None:
        pass


def run(call: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(call)


async def read(archive: Archive, skip: int = 0) -> list[tuple[str, tuple[object, ...]]]:
    """Every record in its order, comparable."""
    found = []
    async for namespace, records in archive.batches(skip=skip):
        assert 0 < len(records) <= 1000
        found += [(namespace, content(record)) for record in records]
    return found


def listed(held: Held) -> list[tuple[str, tuple[object, ...]]]:
    return [(namespace, content(record)) for namespace, records in held.items() for record in records]


def some(n: int, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 8)).astype(np.float32)
    return [Record(f"id{place}", row, metadata={"n": float(place)}) for place, row in enumerate(rows)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "archives"))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_PART_ROWS", 20)
    monkeypatch.setattr(archives, "_GROUP_ROWS", 10)


# --- What goes in comes out

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 1e-45, -1e-40, 3.4e38])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
metadata = st.dictionaries(
    texts,
    texts | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(texts, max_size=3),
    max_size=4,
)


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    dense = draw(st.none() | st.lists(numbers, min_size=3, max_size=3))
    indices = draw(st.sets(st.integers(0, 2**32 - 1), max_size=4) if dense is None else st.none() | st.just({5, 7}))
    weights = None
    if indices is not None:
        weights = draw(st.lists(numbers, min_size=len(indices), max_size=len(indices)))
    return Record(
        draw(texts.filter(bool) | st.sampled_from(["a/../b", "\x00", "😀"])),
        None if dense is None else np.array(dense, np.float32),
        None if weights is None else SparseVector(np.array(sorted(indices or ()), np.uint32), vector(*weights)),
        draw(metadata),
    )


@given(held=st.dictionaries(texts, st.lists(any_record(), max_size=6), max_size=4), describe=metadata)
@settings(max_examples=60, deadline=None)
def test_odd_records_come_back_to_the_bit(held: Held, describe: dict[str, Any]) -> None:
    async def scenario(folder: str) -> None:
        place = Place(folder)
        info = await write_archive(place, "a", HeldSnapshot(held), describe)
        archive = await open_archive(place, "a")
        assert archive.info == info
        assert info.record_count == sum(map(len, held.values()))
        assert info.namespaces == {namespace: len(records) for namespace, records in held.items()}
        assert archive.description == describe
        assert await read(archive) == listed(held)

    with tempfile.TemporaryDirectory() as folder:
        run(scenario(folder))


def test_parts_and_where_to_go_on(place: Place, tmp_path: Path, small_parts: None) -> None:
    held = {"": some(33), "empty": [], "n": some(17, 1), "o": some(1, 2)}
    told: list[tuple[float, Mapping[str, Any]]] = []

    async def report(percent: float, progress: Mapping[str, Any]) -> None:
        told.append((percent, progress))

    async def scenario() -> None:
        info = await write_archive(place, "a-1", HeldSnapshot(held), {}, report)
        folder = tmp_path / "archives" / "a-1"
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert sorted(sizes) == ["manifest.json", *(f"part-0000{n}.parquet" for n in range(3))]
        assert info == ArchiveInfo(51, {"": 33, "empty": 0, "n": 17, "o": 1}, sum(sizes.values()))
        assert [progress["records"] for _, progress in told] == [10, 20, 30, 40, 50]
        assert [percent for percent, _ in told] == pytest.approx([100 * n / 51 for n in (10, 20, 30, 40, 50)])
        archive = await open_archive(place, "a-1")
        for skip in (0, 1, 9, 10, 19, 20, 21, 33, 45, 50, 51, 52):
            assert await read(archive, skip) == listed(held)[skip:]

    run(scenario())


def test_an_archive_takes_the_place_of_an_earlier_one(place: Place, tmp_path: Path, small_parts: None) -> None:
    async def scenario() -> None:
        await write_archive(place, "a", HeldSnapshot({"": some(60)}), {})
        await write_archive(place, "b", HeldSnapshot({"x": some(3)}), {})
        await write_archive(place, "a", HeldSnapshot({"": some(5)}), {})
        assert len(list((tmp_path / "archives" / "a").iterdir())) == 2
        assert await read(await open_archive(place, "a")) == listed({"": some(5)})
        await delete_archive(place, "a")
        await delete_archive(place, "a")
        assert [path.name for path in (tmp_path / "archives").iterdir()] == ["b"]
        with pytest.raises(FailedPrecondition, match="missing, or was never finished"):
            await open_archive(place, "a")
        assert await read(await open_archive(place, "b")) == listed({"x": some(3)})

    run(scenario())


# --- Damage


@pytest.fixture
def written(place: Place, tmp_path: Path, small_parts: None) -> Path:
    """The folder of an archive of two parts."""
    held = {"": some(25), "ü": [Record("s", sparse=sparse(_1=2)), tagged("t", x=["a"], y=True)]}
    run(write_archive(place, "a", HeldSnapshot(held), {"name": "notes"}))
    return tmp_path / "archives" / "a"


def refused(place: Place, what: str = "damaged") -> None:
    with pytest.raises(FailedPrecondition, match=what) as caught:
        run(open_archive(place, "a"))
    assert "/" not in caught.value.reason


def test_a_change_of_any_byte_is_seen(place: Place, written: Path) -> None:
    async def flip_each(path: Path, step: int) -> None:
        whole = path.read_bytes()
        for at in [*range(0, len(whole), step), len(whole) - 1]:
            changed = whole[at] ^ (1 << at % 8)
            path.write_bytes(whole[:at] + bytes([changed]) + whole[at + 1 :])
            with pytest.raises(FailedPrecondition):
                await open_archive(place, "a")
        path.write_bytes(whole)

    run(flip_each(written / "manifest.json", 1))
    for name in ("part-00000.parquet", "part-00001.parquet"):
        run(flip_each(written / name, 11))
    assert run(open_archive(place, "a")).info.record_count == 27


def test_what_is_cut_off_added_missing_or_another_s_is_seen(place: Place, written: Path, tmp_path: Path) -> None:
    for path in sorted(written.iterdir()):
        whole = path.read_bytes()
        for bytes in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"\0", whole + b"}", whole[1:]):
            path.write_bytes(bytes)
            refused(place)
        path.unlink()
        refused(place, "never finished" if path.name == "manifest.json" else f"{path.name} is missing")
        path.write_bytes(whole)
    one, two = (written / f"part-0000{n}.parquet" for n in range(2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    refused(place)
    one.write_bytes(first)
    two.write_bytes(second)
    run(write_archive(place, "b", HeldSnapshot({"": some(25, 1)}), {}))
    other = tmp_path / "archives" / "b"
    for name in ("part-00000.parquet", "manifest.json"):
        kept = (written / name).read_bytes()
        shutil.copyfile(other / name, written / name)
        refused(place)
        (written / name).write_bytes(kept)
    shutil.rmtree(written)
    shutil.copytree(other, written)
    refused(place)


def test_damage_between_opening_and_reading_is_seen(place: Place, written: Path) -> None:
    archive = run(open_archive(place, "a"))
    path = written / "part-00001.parquet"
    whole = bytearray(path.read_bytes())
    whole[200] ^= 4
    path.write_bytes(whole)
    with pytest.raises(FailedPrecondition, match="part-00001"):
        run(read(archive))


class Forger:
    """Rewrites a manifest, under a checksum that is right."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "manifest.json"
        self.contents = msgspec.json.decode(self._path.read_bytes())["contents"]

    def __call__(self, format: int = 1, **changes: Any) -> None:
        inner = msgspec.json.encode(self.contents | changes)
        outer = {"format": format, "sha256": hashlib.sha256(inner).hexdigest(), "contents": msgspec.Raw(inner)}
        self._path.write_bytes(msgspec.json.encode(outer))


def test_a_later_format_is_refused_by_its_number(place: Place, written: Path) -> None:
    forge = Forger(written)
    forge(format=2)
    refused(place, "later Pinyon: its format is 2, and this one reads 1")
    (written / "manifest.json").write_text('{"format": 3, "all": "else"}')
    refused(place, "its format is 3")
    for earlier in (0, -1):
        forge(format=earlier)
        refused(place)


def test_names_in_an_archive_lead_nowhere_else(place: Place, written: Path, tmp_path: Path) -> None:
    forge = Forger(written)
    one, two = forge.contents["parts"]
    shutil.copyfile(written / "part-00000.parquet", tmp_path / "archives" / "part-00000.parquet")
    forge()
    assert run(open_archive(place, "a")).info.record_count == 27
    for name in ("../part-00000.parquet", str(tmp_path / "archives" / "part-00000.parquet"), "part-00001.parquet", ""):
        forge(parts=[one | {"name": name}, two])
        refused(place)
    wrong: list[dict[str, Any]] = [{"parts": [one]}, {"namespaces": {"": 1}}, {"namespaces": {"": -1, "x": 28}}]
    for changes in [*wrong, {"more": 1}]:
        forge(**changes)
        refused(place)
    forge(parts=[one | {"rows": 21}, two | {"rows": 6}])
    archive = run(open_archive(place, "a"))
    with pytest.raises(FailedPrecondition, match=r"part-00000\.parquet does not hold"):
        run(read(archive))


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "../a", "a\0", "-a", "a" * 201, "ä", "a\n"])
def test_an_id_is_no_path(place: Place, id: str) -> None:
    for call in (write_archive(place, id, HeldSnapshot({}), {}), open_archive(place, id), delete_archive(place, id)):
        with pytest.raises(ValueError, match="id"):
            run(call)


# --- What ends early


def ends_at(monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException) -> None:
    def fails(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(Place, step, fails)


def test_what_fails_leaves_nothing(place: Place, tmp_path: Path, small_parts: None) -> None:
    async def stop(percent: float, progress: Mapping[str, Any]) -> None:
        if progress["records"] > 30:
            raise KeyError("cancelled")

    held = {"": some(60)}
    full = OSError(errno.ENOSPC, f"No space left: {tmp_path}")
    with pytest.raises(KeyError):
        run(write_archive(place, "a", HeldSnapshot(held), {}, stop))
    with pytest.raises(Unavailable, match="gone"):
        run(write_archive(place, "a", HeldSnapshot(held, fails=Unavailable("gone")), {}))
    lies = HeldSnapshot(held)
    lies.namespaces = {"": 61}
    with pytest.raises(Unavailable, match="counted"):
        run(write_archive(place, "a", lies, {}))
    for step in ("writing", "sync", "put"):
        with pytest.MonkeyPatch.context() as patch:
            ends_at(patch, step, full)
            with pytest.raises(Unavailable, match=r"^The place of archives cannot be used: No space left on device$"):
                run(write_archive(place, "a", HeldSnapshot(held), {}))
    assert list((tmp_path / "archives").iterdir()) == []


def test_a_task_that_is_cancelled_leaves_nothing(place: Place, tmp_path: Path, small_parts: None) -> None:
    async def scenario() -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        async def report(percent: float, progress: Mapping[str, Any]) -> None:
            reached.set()
            await never.wait()

        task = asyncio.create_task(write_archive(place, "a", HeldSnapshot({"": some(60)}), {}, report))
        await reached.wait()
        assert list((tmp_path / "archives" / "a").iterdir())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list((tmp_path / "archives").iterdir()) == []

    run(scenario())


def write_until_killed(folder: str, step: str, passes: int) -> None:
    """Kills itself behind a call of this step, the manifest's among them."""
    archives._PART_ROWS, archives._GROUP_ROWS = 20, 10
    owner, name = (os, "fsync") if step == "fsync" else (Path, "rename") if step == "rename" else (Place, step)
    whole = getattr(owner, name)

    def dies(*arguments: Any) -> Any:
        nonlocal passes
        if step == "rename":
            os.kill(os.getpid(), signal.SIGKILL)  # before it
        result = whole(*arguments)
        passes -= 1
        if passes < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dies)
    run(write_archive(Place(folder), "a", HeldSnapshot({"": some(60)}), {}))


@pytest.mark.parametrize(
    ("step", "passes"),
    [("make", 0), ("writing", 0), ("writing", 2), ("sync", 0), ("writing", 3), ("fsync", 3), ("rename", 0)],
)
def test_a_process_that_is_killed_leaves_no_archive(place: Place, tmp_path: Path, step: str, passes: int) -> None:
    folder = str(tmp_path / "archives")
    process = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(folder, step, passes))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(FailedPrecondition, match="never finished"):
        run(open_archive(place, "a"))
    run(write_archive(place, "a", HeldSnapshot({"": some(9)}), {}))
    names = sorted(path.name for path in (tmp_path / "archives" / "a").iterdir())
    assert names == ["manifest.json", "part-00000.parquet"]
    assert run(read(run(open_archive(place, "a")))) == listed({"": some(9)})


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for where in (str(tmp_path / "file"), f"{tmp_path}/file/below", "s3://", "nosuch://a/b"):
        writing = write_archive(Place(where), "a", HeldSnapshot({"": some(1)}), {})
        for call in (writing, open_archive(Place(where), "a")):
            with pytest.raises((Unavailable, FailedPrecondition)) as caught:
                run(call)
            assert str(tmp_path) not in caught.value.reason


def test_bounded_parts_whatever_a_record_weighs(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_PART_BYTES", 100_000)
    monkeypatch.setattr(archives, "_GROUP_BYTES", 20_000)
    rows = np.random.default_rng(0).standard_normal((40, 2000)).astype(np.float32)  # 8,000 bytes each
    held = {"": [Record(f"{n:02}", row, metadata={"text": "x" * 1000}) for n, row in enumerate(rows)]}
    run(write_archive(place, "a", HeldSnapshot(held), {}))
    parts = sorted((tmp_path / "archives" / "a").glob("part-*"))
    assert len(parts) == 4
    assert run(read(run(open_archive(place, "a")))) == listed(held)
