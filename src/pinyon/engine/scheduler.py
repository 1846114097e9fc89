"""What the model runs next: sequences of near-equal length, up to a budget of tokens.

Pure: no threads, no clock, no arrays. Its caller says what time it is and keeps it from concurrent use.

Every sequence waits in a queue of its padded length. Each has a time at which it is due: that of its arrival, plus a
patience that grows with the size of the request it belongs to, up to `max_wait`. The sequence that is due first decides
the length of the next batch, and those of the same length that are due next fill it. So a short query overtakes a bulk
request that came before it, and nothing is overtaken for longer than `max_wait` by what came later.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class QueueFull(Exception):
    """More tokens would wait than the queue may hold."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The batch shapes that are used, few enough for a backend to keep something compiled for each.

    `lengths` and `rows` rise. A sequence longer than the last length is its own length rounded up to `long_step`.
    """

    lengths: tuple[int, ...] = (*range(8, 64, 4), *range(64, 128, 8), *range(128, 256, 16), *range(256, 513, 32))
    rows: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
    long_step: int = 64

    def length(self, tokens: int) -> int:
        """The padded length of a sequence."""
        if tokens > self.lengths[-1]:
            return -(-tokens // self.long_step) * self.long_step
        return self.lengths[bisect_left(self.lengths, tokens)]

    def fitting_rows(self, rows: int) -> int:
        """The largest row count in use that is at most `rows` (1 or more)."""
        return self.rows[bisect_right(self.rows, rows) - 1]


@dataclass(frozen=True, slots=True, order=True)
class Item(Generic[K]):
    """One sequence in a queue. Ordered by when it is due, then by arrival."""

    due: float
    arrival: int
    job: K = field(compare=False)
    row: int = field(compare=False)  # its position in the job
    tokens: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Batch(Generic[K]):
    """Sequences to run together, each padded to `length` tokens."""

    items: list[Item[K]]
    length: int

    @property
    def tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(item.tokens for item in self.items)

    @property
    def padded_tokens(self) -> int:
        return len(self.items) * self.length


class Scheduler(Generic[K]):
    """Queues of sequences, by padded length. `job` is any hashable that stands for a request.

    `budget` bounds a batch's tokens, padding included (a longer sequence runs alone). `max_queued` bounds the tokens
    that wait. A request of `bulk_tokens` or more has the full patience of `max_wait` seconds, a smaller one a share
    of it.
    Running one more batch costs about as much as `batch_overhead` more tokens in another: sequences of different padded
    length share a batch only where that adds no more padding than this.
    """

    def __init__(
        self,
        budget: int,
        *,
        max_queued: int,
        max_wait: float,
        bulk_tokens: int = 8192,
        batch_overhead: int = 16,
        grid: Grid | None = None,
    ) -> None:
        self.grid = grid or Grid()
        self.budget = budget
        self._max_queued = max_queued
        self._max_wait = max_wait
        self._bulk_tokens = bulk_tokens
        self._overhead = batch_overhead
        self._queues: dict[int, list[Item[K]]] = {}  # padded length -> heap
        self._waiting: dict[K, int] = {}  # job -> its tokens that still wait
        self._queued = 0
        self._arrivals = itertools.count()

    @property
    def queued_tokens(self) -> int:
        return self._queued

    def add(self, job: K, lengths: Sequence[int], now: float) -> None:
        """Queues a request's sequences, each of 1 token or more. Raises QueueFull, and queues none of them then.

        A request is never too large for an empty queue: it may exceed `max_queued` alone.
        """
        total = sum(lengths)
        if self._queued and self._queued + total > self._max_queued:
            raise QueueFull
        assert job not in self._waiting, "a job is added once"
        due = now + self._max_wait * min(1.0, total / self._bulk_tokens)
        for row, tokens in enumerate(lengths):
            item = Item(due, next(self._arrivals), job, row, tokens)
            heapq.heappush(self._queues.setdefault(self.grid.length(tokens), []), item)
        self._waiting[job] = total
        self._queued += total

    def cancel(self, job: K) -> None:
        """Forgets what of a request still waits. A request that is unknown or already out is no error."""
        tokens = self._waiting.pop(job, 0)
        if not tokens:
            return
        self._queued -= tokens
        for length, queue in list(self._queues.items()):
            kept = [item for item in queue if item.job != job]
            if not kept:
                del self._queues[length]
            elif len(kept) < len(queue):
                heapq.heapify(kept)
                self._queues[length] = kept

    def next_batch(self) -> Batch[K] | None:
        """The next sequences to run, or None if nothing waits."""
        if not self._queues:
            return None
        length = min(self._queues, key=lambda waiting: self._queues[waiting][0])
        items = self._take(length, self._room(length, 0))
        for near in sorted(self._queues, key=lambda other: abs(other - length)):
            if near == length:
                continue
            # The padding of sharing a batch: the neighbours grow to this length, or all that is here to theirs.
            if near < length:
                room = self._room(length, len(items))
                if len(self._queues[near]) <= min(room, self._overhead // (length - near)):
                    items += self._take(near, room)
            elif len(items) * (near - length) <= self._overhead and (room := self._room(near, len(items))) > 0:
                items += self._take(near, room)
                length = near
        items.sort()
        if self._room(length, len(items)) > 0:
            # Not full: keep to the row counts of the grid, and leave what is due last for the next batch.
            kept = self.grid.fitting_rows(len(items))
            for item in items[kept:]:
                heapq.heappush(self._queues.setdefault(self.grid.length(item.tokens), []), item)
            del items[kept:]
            length = max(self.grid.length(item.tokens) for item in items)
        for item in items:
            self._waiting[item.job] -= item.tokens
            self._queued -= item.tokens
            if not self._waiting[item.job]:
                del self._waiting[item.job]
        return Batch(items, length)

    def _room(self, length: int, rows: int) -> int:
        """How many more sequences of this length fit beside `rows` of them. The first one always does."""
        return max(1, self.budget // length) - rows

    def _take(self, length: int, count: int) -> list[Item[K]]:
        """The `count` items of a queue that are due first, or all of it."""
        queue = self._queues[length]
        taken = [heapq.heappop(queue) for _ in range(min(count, len(queue)))]
        if not queue:
            del self._queues[length]
        return taken
