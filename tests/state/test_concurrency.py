"""Two States on one database, as two processes have them, and many requests at once in each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from pinyon.errors import AlreadyExists, FailedPrecondition, NotFound
from pinyon.state import IndexRecord
from tests.state.making import make_ready, opened, settings

ALL_AT_ONCE = 12


async def _outcomes(calls: list[Coroutine[Any, Any, Any]]) -> tuple[list[Any], list[BaseException]]:
    done = await asyncio.gather(*calls, return_exceptions=True)
    return (
        [result for result in done if not isinstance(result, BaseException)],
        [result for result in done if isinstance(result, BaseException)],
    )


def test_one_of_many_creates_gets_the_name(url: str) -> None:
    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            wanted = [settings(dimension=1 + i) for i in range(ALL_AT_ONCE)]
            calls = [(one, other)[i % 2].create_index(each) for i, each in enumerate(wanted)]
            won, lost = await _outcomes(calls)
            assert len(won) == 1
            assert {type(error) for error in lost} == {AlreadyExists}
            assert await one.list_indexes() == await other.list_indexes() == won

    asyncio.run(run())


def test_no_two_indexes_get_one_port(url: str) -> None:
    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            calls = [(one, other)[i % 2].create_index(settings(f"i{i}")) for i in range(ALL_AT_ONCE)]
            won, lost = await _outcomes(calls)
            assert lost == []
            assert sorted(record.port for record in won) == list(range(5081, 5081 + ALL_AT_ONCE))

    asyncio.run(run())


def test_one_of_many_updates_of_one_version_wins(url: str) -> None:
    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            seen = await make_ready(one)
            calls = [
                (one, other)[i % 2].update_index(replace(seen, tags={"winner": str(i)})) for i in range(ALL_AT_ONCE)
            ]
            won, lost = await _outcomes(calls)
            assert len(won) == 1
            assert {type(error) for error in lost} == {FailedPrecondition}
            assert await other.get_index("notes") == won[0]

    asyncio.run(run())


def test_no_change_is_lost_to_another(url: str) -> None:
    def tagging(i: int) -> Any:
        return lambda record: replace(record, tags={**record.tags, str(i): "here"})

    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            await make_ready(one)
            calls = [(one, other)[i % 2].change_index("notes", tagging(i)) for i in range(ALL_AT_ONCE)]
            _, lost = await _outcomes(calls)
            assert lost == []
            assert set((await one.get_index("notes")).tags) == {str(i) for i in range(ALL_AT_ONCE)}

    asyncio.run(run())


def test_protecting_and_terminating_cannot_both_win(url: str) -> None:
    def protected(record: IndexRecord) -> IndexRecord:
        return replace(record, deletion_protection=True)

    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            for name in ("a", "b", "c", "d"):
                await make_ready(one, name)
                won, lost = await _outcomes([one.change_index(name, protected), other.terminate_index(name)])
                assert (len(won), [type(error) for error in lost]) == (1, [FailedPrecondition])

    asyncio.run(run())


def test_one_of_many_deletions_wins(url: str) -> None:
    async def run() -> None:
        async with opened(url) as one, opened(url) as other:
            made = await make_ready(one)
            won, lost = await _outcomes([(one, other)[i % 2].terminate_index("notes") for i in range(4)])
            assert (len(won), {type(error) for error in lost}) == (1, {FailedPrecondition})
            won, lost = await _outcomes([(one, other)[i % 2].delete_index(made.id) for i in range(4)])
            assert (len(won), {type(error) for error in lost}) == (1, {NotFound})

    asyncio.run(run())


def test_reads_do_not_wait_for_a_writer(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            seen = await make_ready(state)
            started, go_on = asyncio.Event(), asyncio.Event()
            loop = asyncio.get_running_loop()

            def slow(record: IndexRecord) -> IndexRecord:
                loop.call_soon_threadsafe(started.set)
                asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
                return replace(record, tags={"a": "b"})

            write = asyncio.create_task(state.change_index("notes", slow))
            await started.wait()
            assert await state.get_index("notes") == seen
            go_on.set()
            assert await state.get_index("notes") in (seen, await write)

    asyncio.run(run())


_OPEN = """
import asyncio, sys
from pinyon.state import State

async def run():
    sys.stdin.read()  # all begin together
    state = await State.open(sys.argv[1])
    print(await state.list_indexes())
    await state.close()

asyncio.run(run())
"""


def test_many_processes_may_make_one_database(url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", _OPEN, url]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate(timeout=60) for process in started] == [("[]\n", "")] * 3
