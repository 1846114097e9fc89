"""Live servers for the tests of the HTTP glue."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pinyon.app import asgi, dialects
from pinyon.dialects.base import Dialect, Handler, Route
from pinyon.http.metrics import Metrics
from pinyon.http.room import ConnectionLimits
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue
from tests.http.serving import Live, serving

Start = Callable[..., Live]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Start]:
    """Starts servers. `handlers` are more routes of OpenAI's dialect, path -> handler of POST."""
    with contextlib.ExitStack() as stack:

        def start(
            *,
            keys: Sequence[str] = (),
            engine: FakeEngine | None = None,
            handlers: dict[str, Handler] | None = None,
            max_body_bytes: int = 1 << 20,
            max_held_bytes: int = 1 << 30,
            max_connections: int = 100,
            limits: ConnectionLimits | None = None,
        ) -> Live:
            engine, metrics = engine or FakeEngine(), Metrics()
            spoken = dialects(InferenceService(fake_catalogue(tmp_path), engine))
            more = tuple(Route("POST", path, "embed", handle) for path, handle in (handlers or {}).items())
            app = asgi(
                (*spoken[:-1], _with_routes(spoken[-1], more)),
                keys=keys,
                metrics=metrics,
                max_body_bytes=max_body_bytes,
                max_held_bytes=max_held_bytes,
                is_ready=lambda: True,
            )
            running = serving(app, engine, metrics, max_connections=max_connections, limits=limits)
            return stack.enter_context(running)

        yield start


def _with_routes(dialect: Dialect, routes: tuple[Route, ...]) -> Dialect:
    return dataclasses.replace(dialect, routes=(*dialect.routes, *routes))


class Lines(logging.Handler):
    """Keeps every record of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def named(self, name: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.name == name]

    @property
    def access(self) -> list[logging.LogRecord]:
        return self.named("pinyon.access")


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged while the test runs."""
    handler = Lines()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)
