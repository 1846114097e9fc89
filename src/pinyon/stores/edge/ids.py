"""Ids in order: what listing pages through, since the engine knows none. Not for several threads at once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

_CHUNK = 512  # ids a chunk, after a split


class OrderedIds:
    """A set of strings by rising code point, which is the order of their UTF-8 bytes.

    Sorted chunks, so that adding one moves at most 1,024 others however many there are.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        ordered = sorted(set(ids))
        self._chunks = [ordered[at : at + _CHUNK] for at in range(0, len(ordered), _CHUNK)]
        self._lasts = [chunk[-1] for chunk in self._chunks]
        self._length = len(ordered)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            yield from chunk

    def __contains__(self, id: str) -> bool:
        at = bisect_left(self._lasts, id)
        if at == len(self._chunks):
            return False
        chunk = self._chunks[at]
        return chunk[bisect_left(chunk, id)] == id

    def add(self, id: str) -> bool:
        """Whether it is new: one that is there already stays."""
        if not self._chunks:
            self._chunks, self._lasts, self._length = [[id]], [id], 1
            return True
        at = min(bisect_left(self._lasts, id), len(self._chunks) - 1)
        chunk = self._chunks[at]
        place = bisect_left(chunk, id)
        if place < len(chunk) and chunk[place] == id:
            return False
        chunk.insert(place, id)
        self._length += 1
        if len(chunk) > 2 * _CHUNK:
            self._chunks[at : at + 1] = [chunk[:_CHUNK], chunk[_CHUNK:]]
            self._lasts[at : at + 1] = [chunk[_CHUNK - 1], chunk[-1]]
        else:
            self._lasts[at] = chunk[-1]
        return True

    def discard(self, id: str) -> bool:
        """Whether it was there: one that is not is no error."""
        at = bisect_left(self._lasts, id)
        if at == len(self._chunks):
            return False
        chunk = self._chunks[at]
        place = bisect_left(chunk, id)
        if chunk[place] != id:
            return False
        del chunk[place]
        self._length -= 1
        if chunk:
            self._lasts[at] = chunk[-1]
        else:
            del self._chunks[at], self._lasts[at]
        return True

    def page(self, *, prefix: str = "", after: str | None = None, limit: int) -> list[str]:
        """At most `limit` ids that begin with `prefix`, from behind `after`."""
        start, place_of = (prefix, bisect_left) if after is None or after < prefix else (after, bisect_right)
        found: list[str] = []
        at = place_of(self._lasts, start)
        while at < len(self._chunks) and len(found) < limit:
            chunk = self._chunks[at]
            for id in chunk[place_of(chunk, start) :]:
                if len(found) == limit or not id.startswith(prefix):
                    return found
                found.append(id)
            at += 1
        return found
