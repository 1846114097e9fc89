"""Which models are in memory: over models that are nothing but a name, loaded when the test says so."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pinyon.catalog import ModelSpec
from pinyon.engine.loader import ModelError
from pinyon.engine.residents import Residents
from pinyon.errors import NotFound, Unavailable

DEADLINE = 30


def spec(name: str) -> ModelSpec:
    return ModelSpec(name=name, task="embed", description="", provider="", license="")


class Thing:
    """A model. `world` is told what happens to it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.world.alive.remove(self)
        self.world.events.append(f"-{self.name}")


class World:
    """Loads things, of the sizes and with the faults that a test gives them, and is the observer."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.begun: list[str] = []
        self.events: list[str] = []
        self.told: list[tuple[str, ...]] = []
        self.alive: list[Thing] = []
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, threading.Event] = {}

    def load(self, spec: ModelSpec, folder: Path) -> Thing:
        self.begun.append(spec.name)
        if (gate := self.gates.get(spec.name)) is not None:
            assert gate.wait(DEADLINE)
        self.events.append(f"+{spec.name}")
        if (error := self.errors.get(spec.name)) is not None:
            raise error
        thing = Thing(self, spec.name)
        self.alive.append(thing)
        return thing

    def folder(self, spec: ModelSpec) -> Path:
        if spec.name not in self.sizes:
            raise NotFound("not here", "model", spec.name)
        return Path(spec.name)

    def size(self, spec: ModelSpec, folder: Path) -> int:
        assert folder.name == spec.name
        return self.sizes[spec.name]

    def loaded(self, model: str, memory_bytes: int, seconds: float) -> None:
        assert memory_bytes == self.sizes[model] and seconds >= 0
        self.told.append(("loaded", model))

    def load_failed(self, model: str) -> None:
        self.told.append(("failed", model))

    def unloaded(self, model: str) -> None:
        self.told.append(("unloaded", model))

    @asynccontextmanager
    async def residents(self, budget: int | None = None) -> AsyncIterator[Residents[Thing]]:
        made = Residents[Thing](self.load, self.folder, self.size, budget=budget, observer=self)
        try:
            yield made
        finally:
            await made.close()
            assert self.alive == []


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), DEADLINE))


async def use(made: Residents[Thing], *names: str) -> None:
    """One after the other."""
    for name in names:
        async with made.using(spec(name)) as thing:
            assert thing.name == name and not thing.closed


class Holding:
    """A request that uses a model until it is told to end."""

    def __init__(self, made: Residents[Thing], name: str) -> None:
        self.entered = asyncio.Event()
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._hold(made, name))

    async def _hold(self, made: Residents[Thing], name: str) -> None:
        async with made.using(spec(name)) as thing:
            self.entered.set()
            await self._end.wait()
            assert not thing.closed

    async def end(self) -> None:
        self._end.set()
        await self.task


async def settled() -> None:
    """Until whatever can go on by itself, threads apart, has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_requests_at_once_load_a_model_once() -> None:
    async def check() -> None:
        world = World(a=1)
        async with world.residents() as made:
            await asyncio.gather(*(use(made, "a") for _ in range(50)))
            await use(made, "a")
        assert world.events == ["+a", "-a"]
        assert world.told == [("loaded", "a")]

    run(check)


def test_the_least_recently_used_goes_first() -> None:
    async def check() -> None:
        world = World(a=4, b=4, c=4, d=8)
        async with world.residents(budget=12) as made:
            await use(made, "a", "b", "c", "a")
            assert made.names == ["b", "c", "a"]
            await use(made, "d")  # needs the room of two
            assert made.names == ["a", "d"]
            assert world.events == ["+a", "+b", "+c", "-b", "-c", "+d"]
            await use(made, "b")
            assert made.names == ["d", "b"]
        assert world.told.count(("unloaded", "a")) == 1

    run(check)


def test_without_a_budget_all_stay() -> None:
    async def check() -> None:
        world = World(a=10**12, b=10**12)
        async with world.residents() as made:
            await use(made, "a", "b")
            assert made.names == ["a", "b"]

    run(check)


def test_a_model_in_use_stays_until_nobody_uses_it() -> None:
    async def check() -> None:
        world = World(a=2, b=2)
        async with world.residents(budget=3) as made:
            first = Holding(made, "a")
            await first.entered.wait()
            waiting = asyncio.create_task(use(made, "b"))
            while "a" in made.names:  # it has to go ...
                await asyncio.sleep(0)
            late = Holding(made, "a")  # ... and who comes now waits behind b
            await settled()
            assert world.events == ["+a"] and not late.entered.is_set()
            await first.end()
            await waiting
            await late.entered.wait()
            assert world.events == ["+a", "-a", "+b", "-b", "+a"]
            await late.end()

    run(check)


def test_what_nobody_uses_goes_before_what_is_in_use() -> None:
    async def check() -> None:
        world = World(a=1, b=1, c=1)
        async with world.residents(budget=2) as made:
            first = Holding(made, "a")
            await first.entered.wait()
            await use(made, "b", "c")
            assert made.names == ["a", "c"]
            assert "-a" not in world.events
            await first.end()

    run(check)


def test_two_that_wait_for_room_get_it_in_their_order() -> None:
    async def check() -> None:
        world = World(a=2, b=2, c=2)
        async with world.residents(budget=2) as made:
            first = Holding(made, "a")
            await first.entered.wait()
            second = asyncio.create_task(use(made, "b"))
            while "a" in made.names:  # b has begun to wait
                await asyncio.sleep(0)
            third = asyncio.create_task(use(made, "c"))
            await settled()
            await first.end()
            await asyncio.gather(second, third)
            assert world.events == ["+a", "-a", "+b", "-b", "+c"]

    run(check)


def test_a_model_larger_than_the_budget_is_refused_and_no_other_let_go() -> None:
    async def check() -> None:
        world = World(a=2_000_000_000, large=9_500_000_000)
        async with world.residents(budget=9_000_000_000) as made:
            await use(made, "a")
            with pytest.raises(
                Unavailable, match=r"needs about 9\.5 GB of memory, and the budget for models is 9\.0 GB"
            ):
                await use(made, "large")
            assert made.names == ["a"]
        assert world.events == ["+a", "-a"]

    run(check)


@pytest.mark.parametrize("error", [ModelError("/secret/folder: broken"), OSError("/secret: gone"), MemoryError()])
def test_a_failed_load_is_an_error_for_its_callers_and_nothing_else(error: Exception) -> None:
    async def check() -> None:
        world = World(a=2, b=2)
        world.errors["a"] = error
        async with world.residents(budget=3) as made:
            found = await asyncio.gather(*(use(made, "a") for _ in range(5)), return_exceptions=True)
            assert {type(one) for one in found} == {Unavailable}
            assert all("secret" not in str(one) for one in found)
            assert made.names == [] and world.events == ["+a"]
            await use(made, "b")  # the room is free again
            assert made.names == ["b"]
            del world.errors["a"]
            await use(made, "a")
            assert world.events == ["+a", "+b", "-b", "+a"]
        assert world.told[0] == ("failed", "a")

    run(check)


def test_a_model_that_is_not_here_is_not_kept() -> None:
    async def check() -> None:
        world = World()
        async with world.residents() as made:
            with pytest.raises(NotFound):
                await use(made, "a")
            assert made.names == []
            world.sizes["a"] = 1  # pulled meanwhile
            await use(made, "a")

    run(check)


def test_a_caller_that_goes_away_does_not_stop_the_loading() -> None:
    async def check() -> None:
        world = World(a=1)
        world.gates["a"] = threading.Event()
        async with world.residents() as made:
            gone, stays = Holding(made, "a"), Holding(made, "a")
            await settled()
            gone.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone.task
            world.gates["a"].set()
            await stays.entered.wait()
            await stays.end()
        assert world.events == ["+a", "-a"]

    run(check)


def test_a_load_that_fails_when_all_callers_are_gone_is_no_warning() -> None:
    async def check() -> None:
        world = World(a=1)
        world.gates["a"] = threading.Event()
        world.errors["a"] = ModelError("broken")
        async with world.residents() as made:
            gone = Holding(made, "a")
            await settled()
            gone.task.cancel()
            world.gates["a"].set()
            while made.names:
                await asyncio.sleep(0.001)

    run(check)


def test_a_model_on_its_way_gives_way_once_it_is_there() -> None:
    async def check() -> None:
        world = World(a=2, b=2)
        world.gates["a"] = threading.Event()
        async with world.residents(budget=2) as made:
            first = asyncio.create_task(use(made, "a"))
            while not world.begun:
                await asyncio.sleep(0.001)
            second = asyncio.create_task(use(made, "b"))
            while "a" in made.names:
                await asyncio.sleep(0.001)
            assert world.events == []
            world.gates["a"].set()
            await asyncio.gather(first, second)
        assert world.events == ["+a", "-a", "+b", "-b"]

    run(check)


def test_closing_waits_for_what_loads_and_refuses_what_comes() -> None:
    async def check() -> None:
        world = World(a=1, b=1)
        world.gates["a"] = threading.Event()
        made = Residents[Thing](world.load, world.folder, world.size, budget=2, observer=world)
        first = asyncio.create_task(use(made, "a"))
        while not world.begun:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(made.close())
        await settled()
        with pytest.raises(Unavailable, match="shutting down"):
            await use(made, "b")
        assert not closing.done()
        world.gates["a"].set()
        await closing
        await asyncio.gather(first, return_exceptions=True)  # it may find its model closed already
        assert world.events == ["+a", "-a"]

    run(check)


@pytest.mark.parametrize("seed", range(8))
def test_many_requests_at_once(seed: int) -> None:
    """Never more than the budget, no model closed under a request, each in memory once, and all come to an end."""

    async def check() -> None:
        chance = random.Random(seed)
        sizes = {name: chance.randint(1, 6) for name in "abcdefgh"}
        world = World(**sizes)
        budget = 10
        worst = 0

        async with world.residents(budget=budget) as made:

            async def request(name: str, steps: int) -> None:
                nonlocal worst
                async with made.using(spec(name)) as thing:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                        assert not thing.closed
                        names = [one.name for one in list(world.alive)]
                        assert len(names) == len(set(names))
                        worst = max(worst, sum(sizes[one] for one in names))

            tasks = []
            for _ in range(150):
                tasks.append(asyncio.create_task(request(chance.choice("abcdefgh"), chance.randint(0, 5))))
                for _ in range(chance.randint(0, 6)):
                    await asyncio.sleep(0)
                if chance.random() < 0.1:
                    chance.choice(tasks).cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        assert 0 < worst <= budget

    run(check)
