"""A host on its own, with its socket in this process: in which order it does what it is asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from pinyon.errors import Unavailable
from pinyon.filters import And
from pinyon.stores.base import Query, Record
from pinyon.stores.edge import child, messages
from pinyon.stores.edge.compaction import copy_shard
from pinyon.stores.edge.host import Flushing, Host
from pinyon.stores.edge.journal import Batch
from pinyon.stores.edge.link import Link
from pinyon.stores.edge.messages import Status, Verb, encode
from pinyon.stores.edge.shard import Shard
from pinyon.stores.points import to_points, within

from .edge_scenario import COSINE, opened, random_vectors, run

ROWS = random_vectors(100, 8)


class Asked:
    """A host that has been sent everything before it begins, and what it answered."""

    def __init__(self, shard: Any, folder: Path = Path(), flush_after: int = 1 << 40) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._host = Host(self._theirs, shard, COSINE, Flushing(shard, folder, flush_after))
        self._calls = 0
        self._sent = b""

    def call(self, verb: Verb, body: object) -> int:
        self._calls += 1
        self._sent += messages.frame(self._calls, verb, encode(body))
        return self._calls

    def answers(self) -> list[tuple[int, int, Any]]:
        """In their order: call, status, body."""
        self.call(Verb.CLOSE, None)
        sending = threading.Thread(target=self._ours.sendall, args=(self._sent,))
        sending.start()
        self._host.run()
        sending.join()
        self._theirs.close()
        received = bytearray()
        while data := self._ours.recv(1 << 16):
            received += data
        self._ours.close()
        return [(call, status, msgspec.msgpack.decode(body)) for call, status, body in messages.frames(received)]


class Recorded:
    """Stands for a shard: what was done, in order."""

    unflushed = 0

    def __init__(self) -> None:
        self.done: list[str] = []

    def apply(self, batch: Batch) -> None:
        self.done.append(f"apply {len(batch.puts)}")

    def count(self, condition: object, *, exact: bool = True) -> int:
        self.done.append("count")
        return len(self.done)

    def id_pages(self, condition: object) -> Iterator[list[str]]:
        for page in range(3):
            self.done.append(f"page {page}")
            yield [f"{page}"]

    def flush(self) -> None:
        self.done.append("flush")
        raise Unavailable("The disk is full")

    def close(self) -> None:
        self.done.append("close")


COUNT = messages.CountCall(None, True)


def batch(size: int) -> Batch:
    return Batch(1, puts=to_points(COSINE, "", [Record(f"{n:03}", ROWS[n]) for n in range(size)]))


def test_short_calls_go_first_and_starve_no_write() -> None:
    shard = Recorded()
    asked = Asked(shard)
    asked.call(Verb.WRITE, batch(10))
    for _ in range(9):
        asked.call(Verb.COUNT, COUNT)
    answers = asked.answers()
    # a write begins, and then has pieces of 4, and the call that finds no more
    assert shard.done == [*["count"] * 8, "apply 4", "count", "apply 4", "apply 2", "close"]
    assert [call for call, *_ in answers] == [*range(2, 11), 1, 11]


def test_no_write_begins_before_what_was_asked_before_it() -> None:
    shard = Recorded()
    asked = Asked(shard)
    for _ in range(9):
        asked.call(Verb.COUNT, COUNT)
    asked.call(Verb.WRITE, batch(4))
    for _ in range(2):
        asked.call(Verb.COUNT, COUNT)
    asked.answers()
    assert shard.done == [*["count"] * 11, "apply 4", "close"]


def test_scans_and_writes_take_turns() -> None:
    shard = Recorded()
    asked = Asked(shard)
    asked.call(Verb.IDS, None)
    asked.call(Verb.WRITE, batch(8))
    asked.call(Verb.IDS, None)
    answers = asked.answers()
    pages = ["page 0", "page 1", "page 2"]
    assert shard.done == [*pages, "apply 4", "apply 4", *pages, "close"]
    assert [body for _, _, body in answers] == [["0", "1", "2"], 0, ["0", "1", "2"], None]


def test_what_fails_is_answered_and_the_rest_goes_on() -> None:
    asked = Asked(Recorded())
    asked.call(Verb.FLUSH, None)
    asked.call(Verb.COUNT, COUNT)
    assert sorted(asked.answers()) == [
        (1, Status.UNAVAILABLE, "The disk is full"),
        (2, Status.DONE, 1),
        (3, Status.DONE, None),
    ]


def test_a_host_whose_server_is_gone_ends() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(ConnectionError):
            shard: Any = Recorded()
            Host(theirs, shard, COSINE, Flushing(shard, Path(), 1)).run()


def test_frames_are_taken_whole_however_they_come() -> None:
    sent = b"".join(messages.frame(n, n % 7, bytes(n * 100)) for n in range(1, 20))
    for size in (1, 7, 64, 5000, len(sent)):
        buffer, found = bytearray(), []
        for at in range(0, len(sent), size):
            buffer += sent[at : at + size]
            found += list(messages.frames(buffer))
        assert [(number, kind, len(body)) for number, kind, body in found] == [
            (n, n % 7, n * 100) for n in range(1, 20)
        ]
        assert not buffer


class Flushed(Recorded):
    def flush(self) -> None:
        self.done.append("flush")
        self.unflushed = 0


def test_files_are_synced_before_a_flush_and_behind_it(tmp_path: Path) -> None:
    shard: Any = Flushed()
    flushing = Flushing(shard, tmp_path, 10)
    shard.unflushed = 9
    flushing.wrote(1)
    assert flushing.syncing is None
    shard.unflushed = 10
    flushing.wrote(2)
    assert flushing.syncing is not None
    flushing.syncing.result()
    assert not shard.done
    flushing.wrote(3)
    assert shard.done == ["flush"]
    assert flushing.syncing is not None
    flushing.syncing.result()
    assert flushing.synced == 0
    flushing.wrote(4)
    assert flushing.syncing is None
    assert flushing.synced == 3


def test_a_flush_that_fails_is_no_failed_write_and_is_tried_again(tmp_path: Path) -> None:
    shard: Any = Recorded()
    flushing = Flushing(shard, tmp_path, 10)
    shard.unflushed = 10
    for attempt in range(2):
        flushing.wrote(1)
        assert flushing.syncing is not None
        flushing.syncing.result()
        flushing.wrote(2)
        assert shard.done == ["flush"] * (attempt + 1)
        assert flushing.syncing is None
        assert flushing.synced == 0


def test_a_flush_behind_which_the_files_cannot_be_synced_counts_for_nothing(tmp_path: Path) -> None:
    shard: Any = Flushed()
    flushing = Flushing(shard, tmp_path / "missing" / "missing", 10)
    for number in range(1, 7):
        shard.unflushed = 10
        flushing.wrote(number)
        if flushing.syncing is not None:
            assert flushing.syncing.exception() is not None
    assert shard.done == ["flush"] * 2
    assert flushing.synced == 0


def test_a_host_flushes_what_it_has_written(tmp_path: Path) -> None:
    """Which a shard that is read as a crash would leave it has then, without a journal."""

    async def scenario() -> None:
        store, index = await opened(tmp_path / "store", COSINE, flush_after=30)
        for number in count():
            await index.upsert("", [Record(f"{number}-{n}", ROWS[n]) for n in range(10)])
            copy_shard(index._contents.shard, tmp_path / f"copy-{number}")
            copy = Shard.load(tmp_path / f"copy-{number}", COSINE)
            found = copy.count(None)
            copy.close()
            if found:
                break
        assert number >= 2
        assert 30 <= found <= 10 * (number + 1)
        await store.close()

    run(scenario())


def test_a_real_shard_answers(tmp_path: Path) -> None:
    asked = Asked(Shard.create(tmp_path / "shard", COSINE))
    asked.call(Verb.WRITE, batch(50))
    wanted = within("", None)
    where = asked.call(Verb.FETCH_WHERE, messages.FetchWhereCall("", wanted or {}, "010", 3))
    among = asked.call(Verb.FETCH_AMONG, messages.FetchAmongCall("", ["003", "004", "zzz"], wanted, 9))
    names = asked.call(Verb.NAMES, None)
    state = asked.call(Verb.STATE, None)
    answers = {call: body for call, _, body in asked.answers()}
    assert [row[0] for row in answers[where]] == ["011", "012", "013"]
    assert [row[0] for row in answers[among]] == ["003", "004"]
    assert {namespace: sorted(ids) for namespace, ids in answers[names].items()} == {"": [f"{n:03}" for n in range(50)]}
    assert answers[state] == [50, False]


def test_a_host_may_be_ready_before_anybody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(status: Status, said: object) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(messages.frame(0, status, encode(said)))
            host = SimpleNamespace(socket=ours, end=ours.close, pid=0)
            monkeypatch.setattr(child, "start", lambda *_, **__: host)
            link = await Link.open(Path("/"), COSINE, 1)
            assert not link.lost
            await link.end()
            assert link.lost

    run(scenario(Status.DONE, None))
    with pytest.raises(Unavailable, match="damaged"):
        run(scenario(Status.UNAVAILABLE, "It is damaged"))


def test_writes_that_follow_each_other_are_each_seen_by_what_is_asked_behind_them(tmp_path: Path) -> None:
    """However many are on their way at once."""

    async def one(index: Any, n: int) -> None:
        await index.upsert(f"n{n % 3}", [Record(f"{n:03}-{m}", ROWS[(n + m) % 100]) for m in range(20)])
        assert f"{n:03}-7" in await index.fetch(f"n{n % 3}", [f"{n:03}-7"])
        found = await index.query(f"n{n % 3}", Query(1000, ROWS[0]))
        assert f"{n:03}-19" in {match.record.id for match in found}

    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        before = index.sequence
        await asyncio.gather(*(one(index, n) for n in range(24)))
        assert index.sequence == before + 24
        assert await index.namespaces() == {f"n{n}": 160 for n in range(3)}
        await store.close()

    run(scenario())


def test_fetches_beside_deletes_are_no_damage(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        records = [Record(f"{n:03}", row) for n, row in enumerate(ROWS)]
        ids = [record.id for record in records]
        for _ in range(5):
            await index.upsert("", records)
            deleting = [asyncio.ensure_future(index.delete("", ids[at : at + 10])) for at in range(0, 100, 10)]
            counts = []
            while not all(task.done() for task in deleting):
                await asyncio.sleep(0)  # a fetch of nothing waits for nothing
                counts.append(len(await index.fetch("", ids)))
                assert len(await index.fetch_where("", And(()), after=None, limit=1000)) <= counts[-1]
            assert counts == sorted(counts, reverse=True)
            await asyncio.gather(*deleting)
            assert await index.fetch("", ids) == {}
        await store.close()

    run(scenario())


def test_values_come_back_to_the_bit(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, index = await opened(tmp_path, COSINE)
        rows = ROWS * np.float32(3.7)
        await index.upsert("", [Record(f"{n:03}", row) for n, row in enumerate(rows)])
        found = await index.query("", Query(1000, rows[0], with_values=True))
        for match in found:
            assert match.record.values is not None
            assert match.record.values.tobytes() == rows[int(match.record.id)].tobytes()
        await store.close()

    run(scenario())
