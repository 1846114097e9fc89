"""Fixtures that every folder of tests uses: the application over a fake engine, and a live server on a free port."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from pinyon.app import asgi, dialects
from pinyon.http.metrics import Metrics
from pinyon.http.server import listen, url_of
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue

# Before anything imports them: the contract's asserts are in the package, and should explain themselves as those of a
# test module do.
pytest.register_assert_rewrite("pinyon.testing_stores", "tests.stores.machine")


class _ThreadedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def main_loop(self) -> None:
        self.up.set()
        await super().main_loop()


@contextlib.contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Serves `app` from a thread; gives its base URL."""
    listener = listen("127.0.0.1", 0)
    url = url_of(listener)
    server = _ThreadedServer(uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert server.up.wait(30), "the server did not start"
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"


@dataclass
class FakeServer:
    """A live server over a fake engine. `engine.calls` shows what reached the engine."""

    url: str
    engine: FakeEngine
    metrics: Metrics


@pytest.fixture
def fake_server(tmp_path: Path) -> Iterator[Callable[..., FakeServer]]:
    """Starts servers: `fake_server(keys=("secret",), aliases={"name": "all-minilm-l6-v2"}, prices={...})`."""
    with contextlib.ExitStack() as stack:

        def start(
            keys: tuple[str, ...] = (),
            aliases: dict[str, str] | None = None,
            prices: dict[str, float] | None = None,
            max_body_bytes: int = 1 << 20,
            max_held_bytes: int = 1 << 30,
        ) -> FakeServer:
            engine, metrics = FakeEngine(), Metrics()
            service = InferenceService(fake_catalogue(tmp_path, **(aliases or {})), engine, prices or {})
            app = asgi(
                dialects(service),
                keys=keys,
                metrics=metrics,
                max_body_bytes=max_body_bytes,
                max_held_bytes=max_held_bytes,
                is_ready=lambda: True,
            )
            return FakeServer(stack.enter_context(running(app)), engine, metrics)

        yield start
