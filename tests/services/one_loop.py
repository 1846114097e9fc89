"""One event loop for all that a test runs: what stays open between its calls belongs to that loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_runner: asyncio.Runner | None = None


def run(call: Coroutine[Any, Any, T]) -> T:
    assert _runner is not None, "the fixture of conftest.py makes it"
    return _runner.run(call)


@contextmanager
def one_loop() -> Iterator[None]:
    global _runner
    with asyncio.Runner() as _runner:
        yield
    _runner = None
