"""Records that a query or a filter finds: read in pieces, and no more of them than an answer may hold.

Pinecone refuses a query whose result is larger than 4 MB: to ask for fewer matches, or for no values or metadata, is
what it says to do. A page of a filter ends early. Without a bound 10,000 records of 120 KB each would be in memory at
once, and more than once.

Bytes are counted as those of upserts are: 4 a dense value, 8 a sparse one, ids, and metadata as JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import orjson

from pinyon.errors import InvalidRequest
from pinyon.filters import Filter
from pinyon.services.record_checks import record_size
from pinyon.stores.base import Index, Match, Query, Record

_AT_ONCE = 250  # records that are read at once, of 120 KB each at most


async def find(
    index: Index,
    namespace: str,
    query: Query,
    max_bytes: int,
    *,
    show: Callable[[Record], Record | None] = lambda record: record,
    top_k: int | None = None,
) -> list[Match]:
    """The matches of a query with what it asks for, best first.

    max_bytes: of all of them together. show: what of each record is given; None leaves it out. top_k: so many of those
    that are shown, at most. Raises InvalidRequest: there is more.
    """
    found: list[Match] = []
    size = 0
    async for match in _whole(index, namespace, query):
        record = show(match.record)
        if record is None:
            continue
        size += _size(record)
        if size > max_bytes:
            megabytes = round(max_bytes / (1 << 20), 2)
            reason = f"asks for more than {megabytes:g}MB: ask for fewer matches, or for no values or metadata"
            raise InvalidRequest(reason, ("top_k",))
        found.append(Match(match.score, record))
        if len(found) == top_k:
            break
    return found


async def page(
    index: Index, namespace: str, filter: Filter, after: str | None, limit: int, max_bytes: int
) -> tuple[list[Record], bool]:
    """Records that match, by rising id, from behind `after`, and whether there are more. At most `limit`, and no more
    than `max_bytes` together, but one at least."""
    found: list[Record] = []
    size = 0
    while True:
        # One more than asked for tells whether there is another page.
        wanted = min(_AT_ONCE, limit + 1 - len(found))
        piece = await index.fetch_where(namespace, filter, after=after, limit=wanted)
        for record in piece:
            size += _size(record)
            if len(found) == limit or (found and size > max_bytes):
                return found, True
            found.append(record)
        if len(piece) < wanted:
            return found, False
        after = piece[-1].id


async def _whole(index: Index, namespace: str, query: Query) -> AsyncIterator[Match]:
    if query.top_k <= _AT_ONCE or not (query.with_values or query.with_metadata):
        for match in await index.query(namespace, query):
            yield match
        return
    ranked = await index.query(namespace, replace(query, with_values=False, with_metadata=False))
    for at in range(0, len(ranked), _AT_ONCE):
        piece = ranked[at : at + _AT_ONCE]
        records = await index.fetch(namespace, [match.record.id for match in piece])
        for match in piece:
            record = records.get(match.record.id)
            if record is not None:  # else it was deleted meanwhile
                yield Match(match.score, query.shown(record))


def _size(record: Record) -> int:
    return record_size(record, len(orjson.dumps(record.metadata)) if record.metadata else 0)
