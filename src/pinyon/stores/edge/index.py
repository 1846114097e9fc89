"""The async face of an index: what each call writes or reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pinyon.errors import Unavailable
from pinyon.filters import And, Filter
from pinyon.stores.base import Change, Check, Layout, Match, Metadata, Query, Record, Snapshot
from pinyon.stores.edge.compactor import Compactor
from pinyon.stores.edge.contents import Contents
from pinyon.stores.edge.journal import Batch
from pinyon.stores.edge.link import Link
from pinyon.stores.edge.messages import Row, to_record
from pinyon.stores.edge.snapshot import Copying, Snapshots
from pinyon.stores.edge.writer import Writer
from pinyon.stores.points import Condition, Point, point_id, to_condition, to_points, within

_WALKED = 1000  # ids looked through at once, where a filter matches most of them
_READ_AT_ONCE = 500
_CONVERTED = 64  # records made points at once, in half a millisecond: the event loop does nothing else then


class EdgeIndex:
    """See base.Index. For the event loop that opened it."""

    def __init__(
        self,
        contents: Contents,
        link: Link,
        snapshots: Snapshots,
        compacting: asyncio.Semaphore,
        compact_after: int,
    ) -> None:
        self._contents = contents
        self._snapshots = snapshots
        self._writer = Writer(contents, link, lambda: self._compactor.wrote())
        self._compactor = Compactor(self._writer, compacting, compact_after)

    @classmethod
    async def open(
        cls,
        folder: Path,
        snapshots: Snapshots,
        compacting: asyncio.Semaphore,
        *,
        compact_after: int,
        flush_after: int,
        reserve: int,
    ) -> EdgeIndex:
        """See EdgeStore. Raises Unavailable, OSError."""
        contents = await asyncio.to_thread(Contents, folder, flush_after, reserve)
        try:
            link = await Link.open(contents.shard, contents.layout, contents.flush_after)
            try:
                await link.replay(folder, contents.shard_sequence, contents.sequence)
                if not contents.named:
                    contents.remember(await link.names())
                state = await link.state()
            except BaseException:
                await link.end()
                raise
        except BaseException:
            contents.close(flushed=False)
            raise
        contents.unindexed, contents.huge = state.unindexed, state.huge
        return cls(contents, link, snapshots, compacting, compact_after)

    @property
    def layout(self) -> Layout:
        return self._contents.layout

    @property
    def sequence(self) -> int:
        return self._contents.sequence

    @property
    def closed(self) -> bool:
        """Whether it answers no more: it was closed, or its engine failed. Opened anew, it may."""
        return self._writer.closing or self._writer.failed

    # --- writes ------------------------------------------------------------------------------------------------------

    async def upsert(self, namespace: str, records: Sequence[Record]) -> int:
        last = list({record.id: record for record in records}.values())
        points = await self._points(namespace, last)

        async def batch(number: int) -> Batch:
            return Batch(number, created=[namespace] if points else [], puts=points)

        return await self._writer.write(batch, blindly=True)

    async def update(self, namespace: str, id: str, change: Change, *, check: Check | None = None) -> int:
        async def batch(number: int) -> Batch:
            changed = [old.changed(change, check) for old in await self._fetched(namespace, [id])]
            return Batch(number, puts=to_points(self.layout, namespace, changed))

        return await self._writer.write(batch)

    async def update_where(
        self, namespace: str, filter: Filter, metadata: Metadata, *, check: Check | None = None
    ) -> tuple[int, int]:
        matched = 0
        change = Change(metadata=metadata)

        async def batch(number: int) -> Batch:
            nonlocal matched
            ids = await self._matching(namespace, filter)
            matched = len(ids)
            puts = []
            for at in range(0, len(ids), _READ_AT_ONCE):
                old = await self._fetched(namespace, ids[at : at + _READ_AT_ONCE])
                puts += await self._points(namespace, [record.changed(change, check) for record in old])
            return Batch(number, puts=puts)

        return await self._writer.write(batch), matched

    async def delete(self, namespace: str, ids: Sequence[str]) -> int:
        async def batch(number: int) -> Batch:
            known = self._contents.ids(namespace)
            found = [id for id in dict.fromkeys(ids) if id in known]
            return Batch(number, deletes=[(namespace, found)] if found else [])

        return await self._writer.write(batch)

    async def delete_where(self, namespace: str, filter: Filter) -> int:
        async def batch(number: int) -> Batch:
            found = await self._matching(namespace, filter)
            return Batch(number, deletes=[(namespace, found)] if found else [])

        return await self._writer.write(batch)

    async def create_namespace(self, namespace: str) -> int:
        async def batch(number: int) -> Batch:
            return Batch(number, created=[namespace])

        return await self._writer.write(batch)

    async def delete_namespace(self, namespace: str) -> int:
        async def batch(number: int) -> Batch:
            return Batch(number, dropped=[namespace])

        return await self._writer.write(batch)

    async def _points(self, namespace: str, records: Sequence[Record]) -> list[Point]:
        """With turns for others."""
        points: list[Point] = []
        for at in range(0, len(records), _CONVERTED):
            if at:
                await asyncio.sleep(0)
            points += to_points(self.layout, namespace, records[at : at + _CONVERTED])
        return points

    # --- reads -------------------------------------------------------------------------------------------------------

    async def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        self._writer.check()
        found = {record.id: record for record in await self._fetched(namespace, ids)}
        return {id: found[id] for id in ids if id in found}

    async def fetch_where(self, namespace: str, filter: Filter, *, after: str | None, limit: int) -> list[Record]:
        """Few matches are all found and sorted; of many, ids are walked through in order until there are enough."""
        self._writer.check()
        if not self._contents.ids(namespace):
            return []
        among = None if filter == And(()) else to_condition(filter)
        if among is not None:
            condition = within(namespace, among)
            assert condition is not None
            if await self._link.count(condition, exact=False) <= 10 * limit + _WALKED:
                rows = await self._link.fetch_where(namespace, condition, after, limit)
                return [to_record(row) for row in rows]
        found: list[Row] = []
        while (missing := limit - len(found)) > 0:
            walked = self._contents.ids(namespace).page(after=after, limit=_WALKED if among else missing)
            if not walked:
                break
            found += await self._link.fetch_among(namespace, walked, among, missing)
            after = walked[-1]
        return [to_record(row) for row in found]

    async def query(self, namespace: str, query: Query) -> list[Match]:
        self._writer.check()
        contents = self._contents
        if not contents.ids(namespace):
            return []
        condition = self._condition(namespace, query.filter)
        return await self._link.query(namespace, condition, query, huge=contents.huge)

    async def list_ids(self, namespace: str, *, prefix: str, after: str | None, limit: int) -> list[str]:
        self._writer.check()
        return self._contents.ids(namespace).page(prefix=prefix, after=after, limit=limit)

    async def count_where(self, namespace: str, filter: Filter) -> int:
        self._writer.check()
        known = self._contents.ids(namespace)
        if not known or filter == And(()):
            return len(known)
        return await self._link.count(self._condition(namespace, filter))

    async def namespaces(self) -> dict[str, int]:
        self._writer.check()
        return self._contents.counts()

    async def snapshot(self) -> Snapshot:
        async def hold(copy: Copying) -> tuple[int, dict[str, int]]:
            contents = self._contents
            async with self._writer.still():
                await self._writer.on_disk(contents.rotate)
                await copy(contents.shard, contents.shard_sequence, contents.sequence)
                return contents.sequence, contents.counts()

        self._writer.check()
        return await self._snapshots.open(self._contents, hold)

    async def close(self) -> None:
        if not self._writer.closing:
            self._writer.closing = True
            await self._compactor.close()
            await self._writer.close()

    @property
    def _link(self) -> Link:
        return self._writer.link

    def _condition(self, namespace: str, filter: Filter | None) -> Condition | None:
        """A condition on the namespace is left out where all records are in it: it costs the search as much as any."""
        alone = self._writer.has_alone(namespace)
        return within(None if alone else namespace, None if filter is None else to_condition(filter))

    async def _fetched(self, namespace: str, ids: Sequence[str]) -> list[Record]:
        known = self._contents.ids(namespace)
        points = {point_id(namespace, id): id for id in ids if id in known}
        if not points:
            return []
        still = not self._writer.applying  # or what is being deleted is named until it is applied
        found = await self._link.fetch(list(points))
        asked = set(points.values())
        if (still and len(found) != len(points)) or any(
            there.namespace != namespace or there.row.id not in asked for there in found
        ):
            raise Unavailable("The index is damaged: a record is not where it was put")
        return [to_record(there.row) for there in found]

    async def _matching(self, namespace: str, filter: Filter) -> list[str]:
        known = self._contents.ids(namespace)
        if not known or filter == And(()):
            return list(known)
        return await self._link.ids(self._condition(namespace, filter))
