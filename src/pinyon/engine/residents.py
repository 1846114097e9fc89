"""Which models are in memory: loaded when they are first asked for, and let go, the least recently used first, when
others need their room.

It knows names, sizes and who is using what; how a model is loaded, and what one is, the engine knows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pinyon.catalog import ModelSpec
from pinyon.engine.loader import ModelError
from pinyon.errors import PinyonError, Unavailable

logger = logging.getLogger("pinyon.engine")


class Closable(Protocol):
    def close(self) -> None:
        """Finishes what is queued and gives the memory back. May take its time."""
        ...


M = TypeVar("M", bound=Closable)


class Observer(Protocol):
    """Who is told which models come and go. Called from the event loop."""

    def loaded(self, model: str, memory_bytes: int, seconds: float) -> None: ...

    def load_failed(self, model: str) -> None: ...

    def unloaded(self, model: str) -> None: ...


class _Resident(Generic[M]):
    """A model's place in memory, from the first request for it until it is let go."""

    __slots__ = ("bytes", "idle", "loading", "users")

    loading: asyncio.Task[M]

    def __init__(self) -> None:
        self.bytes = 0  # that are set aside for it; 0 until there is room
        self.users = 0  # requests that are using it, or wait for it
        self.idle = asyncio.Event()
        self.idle.set()


class Residents(Generic[M]):
    """Models by name, of `budget` bytes together. Used from one event loop.

    A model that is in use is never let go. One that has to go is out of the table at once: who asks for it from then on
    waits for room as anybody does, behind those who wait already, so that no model keeps another out for ever.
    """

    def __init__(
        self,
        load: Callable[[ModelSpec, Path], M],
        folder: Callable[[ModelSpec], Path],
        size: Callable[[ModelSpec, Path], int],
        *,
        budget: int | None,
        observer: Observer | None,
    ) -> None:
        """`load` and `size` (bytes in memory, about) run on a thread. `folder` raises NotFound."""
        self._load_model = load
        self._folder = folder
        self._size = size
        self._budget = budget
        self._observer = observer
        self._residents: dict[str, _Resident[M]] = {}  # the least recently used first
        self._making_room = asyncio.Lock()
        self._closed = False

    @property
    def names(self) -> list[str]:
        """Of the models that are in memory, or on their way there; the least recently used first."""
        return list(self._residents)

    @asynccontextmanager
    async def using(self, spec: ModelSpec) -> AsyncIterator[M]:
        """The model, loaded, which stays while it is used. Raises NotFound, Unavailable."""
        resident = self._residents.pop(spec.name, None)
        if resident is None:
            if self._closed:
                raise Unavailable("The server is shutting down")
            resident = self._begin(spec, self._folder(spec))
        self._residents[spec.name] = resident  # the most recently used
        resident.users += 1
        resident.idle.clear()
        try:
            # Shielded: a client that goes away does not stop the loading that others wait for.
            yield await asyncio.shield(resident.loading)
        finally:
            resident.users -= 1
            if not resident.users:
                resident.idle.set()

    async def close(self) -> None:
        """Waits for what is loading, and lets all models go."""
        self._closed = True
        for resident in list(self._residents.values()):
            with suppress(Exception):
                model = await resident.loading
                await asyncio.to_thread(model.close)
        self._residents.clear()

    def _begin(self, spec: ModelSpec, folder: Path) -> _Resident[M]:
        resident: _Resident[M] = _Resident()
        resident.loading = asyncio.create_task(self._load(resident, spec, folder))
        resident.loading.add_done_callback(lambda done: self._ended(spec.name, resident, done))
        return resident

    async def _load(self, resident: _Resident[M], spec: ModelSpec, folder: Path) -> M:
        """Makes room, then loads. Raises Unavailable: what went wrong exactly is for the operator, in the log."""
        started = time.perf_counter()
        try:
            size = await asyncio.to_thread(self._size, spec, folder)
            async with self._making_room:
                await self._make_room(spec.name, size)
                resident.bytes = size
            if self._closed:
                raise Unavailable("The server is shutting down")
            model = await asyncio.to_thread(self._load_model, spec, folder)
        except PinyonError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            logger.error("a model could not be loaded", extra={"model": spec.name, "reason": reason})
            # Its reason names folders of this machine.
            raise Unavailable(f"Model {spec.name!r} could not be loaded; the server's log says why") from error
        if self._observer is not None:
            self._observer.loaded(spec.name, size, time.perf_counter() - started)
        return model

    def _ended(self, name: str, resident: _Resident[M], loading: asyncio.Task[M]) -> None:
        if loading.cancelled() or loading.exception() is None:
            return
        if self._observer is not None:
            self._observer.load_failed(name)
        if self._residents.get(name) is resident:
            del self._residents[name]  # so that the next request tries again

    async def _make_room(self, name: str, size: int) -> None:
        """Lets models go until `size` bytes more fit into the budget."""
        if self._budget is None:
            return
        if size > self._budget:
            reason = (
                f"needs about {size / 1e9:.1f} GB of memory, and the budget for models is {self._budget / 1e9:.1f} GB"
            )
            logger.error("a model does not fit", extra={"model": name, "reason": reason})
            raise Unavailable(f"Model {name!r} {reason}")
        while sum(resident.bytes for resident in self._residents.values()) + size > self._budget:
            # One that nobody is using, if there is one. Those of 0 bytes wait for room themselves.
            there = ((other, resident) for other, resident in self._residents.items() if resident.bytes)
            await self._let_go(*min(there, key=lambda found: found[1].users > 0))

    async def _let_go(self, name: str, resident: _Resident[M]) -> None:
        del self._residents[name]
        await resident.idle.wait()
        with suppress(Exception):  # one that did not load has nothing to close
            model = await resident.loading
            await asyncio.to_thread(model.close)
            logger.info("model unloaded", extra={"model": name})
            if self._observer is not None:
                self._observer.unloaded(name)
