"""One event loop a test, and what services stand on: an empty database of every kind there is, and a server with its
copies on each ground."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinyon.state import State
from pinyon.stores.base import Store
from tests.grounds import DATABASES, GROUNDS, database, ground
from tests.services.copying import Copying, Run, Work
from tests.services.one_loop import one_loop


@pytest.fixture(autouse=True)
def _one_loop() -> Iterator[None]:
    with one_loop():
        yield


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=GROUNDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test's work with a server on each ground."""

    def run(work: Work) -> None:
        async def whole(store: Store, url: str) -> None:
            state = await State.open(url)
            made = Copying(state, store, tmp_path)
            await made.start()
            try:
                await work(made)
            finally:
                await made.close()
                await store.close()
                await state.close()

        with ground(request.param, tmp_path) as (store, url):
            asyncio.run(whole(store, url))

    return run
