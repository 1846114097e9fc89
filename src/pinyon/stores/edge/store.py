"""Indexes under one folder, each in a folder of its own, and the lock that says which process has them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pinyon.errors import AlreadyExists, NotFound, Unavailable
from pinyon.stores.base import Index, Layout
from pinyon.stores.edge import child, contents
from pinyon.stores.edge.index import EdgeIndex
from pinyon.stores.edge.journal import sync_folder
from pinyon.stores.edge.shard import FLUSH_AFTER
from pinyon.stores.edge.snapshot import LEFTOVER, Snapshots

_LOCK = "lock"
_KEY = re.compile(r"[A-Za-z0-9_-]+")

P = ParamSpec("P")
T = TypeVar("T")


class EdgeStore:
    """See base.Store. The first call takes the folder's lock, and removes what a killed process left half done."""

    def __init__(
        self, root: Path, *, compact_after: int = 5_000, flush_after: int = FLUSH_AFTER, reserve: int = 256 << 20
    ) -> None:
        """`compact_after`: points outside the search graph, from which on it is built anew. `flush_after`: points that
        were written, behind which the engine puts on disk what of them it has in memory alone. `reserve`: bytes that
        writes leave free on disk."""
        self._root = root
        self._compact_after = compact_after
        self._flush_after = flush_after
        self._reserve = reserve
        self._lock: int | None = None
        self._closed = False
        self._open: dict[str, EdgeIndex] = {}
        self._changing = asyncio.Lock()
        self._compacting = asyncio.Semaphore(1)
        self._snapshots = Snapshots(root)

    async def create(self, key: str, layout: Layout) -> Index:
        async def made() -> Index:
            async with self._changing:
                await self._run(self._create, key, layout)
                return await self._opened(key)

        return await _to_the_end(made())

    async def open(self, key: str) -> Index:
        if (index := self._open.get(key)) is not None and not index.closed:
            return index

        async def opened() -> Index:
            async with self._changing:
                return await self._opened(key)

        return await _to_the_end(opened())

    async def drop(self, key: str) -> None:
        async def dropped() -> None:
            async with self._changing:
                if (index := self._open.pop(key, None)) is not None:
                    await index.close()
                await self._run(self._remove, key)

        await _to_the_end(dropped())

    async def keys(self) -> list[str]:
        async with self._changing:
            return await self._run(self._keys)

    async def close(self) -> None:
        async with self._changing:
            for index in self._open.values():
                await index.close()
            self._open.clear()
            await self._snapshots.close()
            self._closed = True
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    async def _opened(self, key: str) -> Index:
        index = self._open.get(key)
        if index is not None and not index.closed:
            return index
        if index is not None:
            await index.close()
        folder = await self._run(self._found, key)
        try:
            index = self._open[key] = await EdgeIndex.open(
                folder,
                self._snapshots,
                self._compacting,
                compact_after=self._compact_after,
                flush_after=self._flush_after,
                reserve=self._reserve,
            )
        except OSError as error:
            raise _translated(error) from error
        return index

    async def _run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """On a thread, with the lock taken, the disk's errors translated."""

        def run() -> T:
            try:
                self._take()
                return work(*arguments, **named)
            except OSError as error:
                raise _translated(error) from error

        return await asyncio.get_running_loop().run_in_executor(None, run)

    def _take(self) -> None:
        """Takes the root folder's lock, once, and clears it up. Raises Unavailable with the process that has it."""
        if self._closed:
            raise Unavailable("The store is closed")
        if self._lock is not None:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise Unavailable(f"The store's folder is in use by process {holder}") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock = handle
        child.wait_for_orphans(self._root)
        child.prepare()  # while the rest goes on: the first index that is opened needs it
        for path in self._root.glob(f"{LEFTOVER}*"):
            shutil.rmtree(path, ignore_errors=True)

    def _create(self, key: str, layout: Layout) -> None:
        """Under a name that is none, then by one rename."""
        target = self._path(key)
        if target.exists():
            raise AlreadyExists("There is an index of this key already")
        new = self._root / f"{LEFTOVER}new-{key}-{secrets.token_hex(4)}"
        try:
            contents.create(new, layout)
            new.rename(target)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        sync_folder(self._root)

    def _found(self, key: str) -> Path:
        folder = self._path(key)
        if not folder.exists():
            raise NotFound("There is no index of this key", "index", key)
        return folder

    def _remove(self, key: str) -> None:
        folder = self._path(key)
        if folder.exists():
            gone = self._root / f"{LEFTOVER}gone-{key}-{secrets.token_hex(4)}"
            folder.rename(gone)
            sync_folder(self._root)
            shutil.rmtree(gone, ignore_errors=True)

    def _keys(self) -> list[str]:
        return sorted(path.parent.name for path in self._root.glob(f"[!{LEFTOVER}]*/{contents.MANIFEST}"))

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise NotFound("There is no index of this key", "index", key)
        return self._root / key


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Whoever waits may be cancelled, and the work goes on: half of it would leave processes and files behind."""
    working = asyncio.ensure_future(work)
    working.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(working)


def _translated(error: OSError) -> Unavailable:
    return Unavailable(f"The store cannot use its folder: {os.strerror(error.errno or 0)}")
