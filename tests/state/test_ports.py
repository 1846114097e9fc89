from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pinyon.errors import FailedPrecondition
from pinyon.state import State
from pinyon.state.ports import choose_port
from tests.state.making import make_ready, opened, remove, settings

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 20).map(lambda hours: START + timedelta(hours=hours))
PORTS = st.integers(1, 30)


@given(st.integers(1, 20), st.integers(0, 12), st.frozensets(PORTS), st.dictionaries(PORTS, MOMENTS))
def test_the_chosen_port_is_free_and_rested_longest(
    first: int, count: int, taken: frozenset[int], released: dict[int, datetime]
) -> None:
    ports = range(first, first + count)
    chosen = choose_port(ports, taken, released)
    free = [port for port in ports if port not in taken]
    if not free:
        assert chosen is None
        return
    assert chosen in free
    fresh = [port for port in free if port not in released]
    if fresh:
        assert chosen == min(fresh)
    else:
        assert all((released[chosen], chosen) <= (released[port], port) for port in free)


@hypothesis_settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["create", "delete", "move", "restart"]), st.integers(0, 5)), max_size=25))
def test_ports_are_kept_for_life_and_rest_longest_before_they_are_used_again(steps: list[tuple[str, int]]) -> None:
    ports = range(7001, 7005)

    async def run(url: str) -> None:
        # The clock stands still: ports are released in an order all the same.
        state = await State.open(url, ports=ports, clock=lambda: START)
        resting = list(ports)  # first the fresh ones, then those released, in order
        held: dict[str, int] = {}
        for action, number in steps:
            name = f"i{number}"
            if action == "restart":
                await state.close()
                state = await State.open(url, ports=ports, clock=lambda: START)
            elif action == "create" and name not in held:
                if not resting:
                    with pytest.raises(FailedPrecondition, match="Every port from 7001 to 7004"):
                        await state.create_index(settings(name))
                    continue
                assert (await state.create_index(settings(name))).port == resting[0]
                held[name] = resting.pop(0)
            elif action == "delete" and name in held:
                await remove(state, name)
                resting.append(held.pop(name))
            elif action == "move" and name in held:
                record = await state.get_index(name)
                if not resting:
                    with pytest.raises(FailedPrecondition, match="Every port"):
                        await state.change_port(record)
                    continue
                resting.append(held[name])
                held[name] = resting.pop(0)
                assert (await state.change_port(record)).port == held[name]
            assert {record.name: record.port for record in await state.list_indexes()} == held
        await state.close()

    with TemporaryDirectory() as folder:
        asyncio.run(run(f"sqlite:///{Path(folder, 'state.db')}"))


def test_a_port_is_not_reused_while_there_is_a_fresh_one(url: str) -> None:
    async def run() -> None:
        async with opened(url, ports=range(7001, 7004)) as state:
            seen = []
            for _ in range(5):
                seen.append((await make_ready(state)).port)
                await remove(state, "notes")
            assert seen == [7001, 7002, 7003, 7001, 7002]

    asyncio.run(run())


def test_ports_rest_in_order_though_the_clock_is_set_back(url: str) -> None:
    now = [START + timedelta(days=2), START + timedelta(days=1), START]

    async def run() -> None:
        async with opened(url, ports=range(7001, 7004), clock=lambda: now[0]) as state:
            for name in ("a", "b", "c"):
                await make_ready(state, name)
            for name in ("b", "c", "a"):
                await remove(state, name)
                now.append(now.pop(0))
            assert [(await state.create_index(settings(name))).port for name in ("x", "y", "z")] == [7002, 7003, 7001]

    asyncio.run(run())


def test_other_ports_change_nothing_for_the_indexes_there_are(url: str) -> None:
    async def run() -> None:
        async with opened(url, ports=range(7001, 7003)) as state:
            old = await make_ready(state, "old")
        async with opened(url, ports=range(8001, 8003)) as state:
            assert (await state.get_index("old")).port == old.port == 7001
            assert (await state.create_index(settings("new"))).port == 8001
        async with opened(url, ports=range(0)) as state:
            bare = await state.create_index(settings("bare"))
            assert bare.port is None
            assert (await state.create_index(settings("bare-too"))).port is None
        async with opened(url, ports=range(7001, 7003)) as state:  # and it can be given one later
            given_one = await state.change_port(await state.get_index("bare"))
            assert (given_one.port, given_one.version) == (7002, bare.version + 1)
            assert await state.get_index("bare") == given_one

    asyncio.run(run())


@pytest.mark.parametrize("act", [lambda state: state.create_index(settings()), lambda state: make_ready(state, "x")])
def test_a_refused_creation_takes_no_port(url: str, act: Callable[[State], Awaitable[object]]) -> None:
    async def run() -> None:
        async with opened(url, ports=range(7001, 7002)) as state:
            await make_ready(state)
            with pytest.raises(Exception, match=r"already exists|Every port"):
                await act(state)
            await remove(state, "notes")
            assert (await state.create_index(settings())).port == 7001

    asyncio.run(run())
