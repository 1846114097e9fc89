"""When /ready says yes: after every model of `preload` has been loaded, whatever went wrong before."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pinyon.app.preloading import Preloading
from pinyon.catalog import ModelSpec
from pinyon.errors import NotFound, Unavailable


def spec(name: str) -> ModelSpec:
    return ModelSpec(name=name, task="embed", description="", provider="", license="")


class Loads:
    """Fails as often as it is told, by name."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures
        self.asked: list[str] = []

    async def __call__(self, spec: ModelSpec) -> None:
        self.asked.append(spec.name)
        left = self.failures.get(spec.name, 0)
        if left:
            self.failures[spec.name] = left - 1
            raise Unavailable("broken") if left % 2 else NotFound("not here", "model", spec.name)


def test_all_at_once() -> None:
    loads = Loads()
    preloading = Preloading(loads, [spec("a"), spec("b")])
    assert not preloading.is_ready
    asyncio.run(preloading.run())
    assert preloading.is_ready and loads.asked == ["a", "b"]


def test_nothing_to_load_is_ready() -> None:
    preloading = Preloading(Loads(), [])
    asyncio.run(preloading.run())
    assert preloading.is_ready


def test_what_failed_is_tried_again_and_keeps_no_other_waiting(caplog: pytest.LogCaptureFixture) -> None:
    loads = Loads(a=3)
    preloading = Preloading(loads, [spec("a"), spec("b")], first_pause=0.001)
    with caplog.at_level(logging.ERROR, "pinyon.app"):
        asyncio.run(asyncio.wait_for(preloading.run(), 30))
    assert preloading.is_ready and loads.asked == ["a", "b", "a", "a", "a"]
    assert [record.__dict__["again_in"] for record in caplog.records] == [0.001, 0.002, 0.004]


def test_not_before_all_are_loaded() -> None:
    async def check() -> None:
        loads = Loads(b=1000)
        preloading = Preloading(loads, [spec("a"), spec("b")], first_pause=0.001)
        running = asyncio.create_task(preloading.run())
        while loads.asked.count("b") < 3:
            await asyncio.sleep(0.001)
        assert not preloading.is_ready
        loads.failures.clear()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not preloading.is_ready

    asyncio.run(check())
