"""What the model runs next: sequences of near-equal length, up to a budget of tokens.

Pure: no threads, no clock, no arrays. Its caller says what time it is and keeps it from concurrent use.

There are two lanes. A request that fits into one batch goes into the express lane, a larger one into the bulk lane. The
express lane goes first, so that a short query waits for the batch that is running and not for the bulk work behind it.
Once bulk work has waited for `max_wait`, every second batch is its own: however many short queries come, it gets
half of the machine at least. Within a lane the oldest sequence decides the length of the next batch and is always in
it, and those of the same length that are next in age fill it. So nothing starves.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Item(Generic[K]):
    """One sequence in a queue."""

    number: int  # by arrival, over all requests
    arrived: float
    job: K
    row: int  # its position in the job
    tokens: int


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


class _Lane(Generic[K]):
    """Sequences that wait, in a queue for each padded length, oldest first."""

    def __init__(self, budget: int, overhead: int, grid: Grid) -> None:
        self._budget = budget
        self._overhead = overhead
        self._grid = grid
        self._queues: dict[int, deque[Item[K]]] = {}

    def add(self, item: Item[K]) -> None:
        self._queues.setdefault(self._grid.length(item.tokens), deque()).append(item)

    def drop(self, job: K) -> None:
        for length, queue in list(self._queues.items()):
            kept = deque(item for item in queue if item.job != job)
            if kept:
                self._queues[length] = kept
            else:
                del self._queues[length]

    def oldest(self) -> Item[K] | None:
        return min((queue[0] for queue in self._queues.values()), key=lambda item: item.number, default=None)

    def batch(self) -> Batch[K]:
        """Takes the next batch. The lane must not be empty."""
        length = min(self._queues, key=lambda waiting: self._queues[waiting][0].number)
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
        items.sort(key=lambda item: item.number)
        if self._room(length, len(items)) > 0:
            # Not full: keep to the row counts of the grid, and leave the youngest for the next batch.
            kept = self._grid.fitting_rows(len(items))
            for item in reversed(items[kept:]):
                self._queues.setdefault(self._grid.length(item.tokens), deque()).appendleft(item)
            del items[kept:]
            length = max(self._grid.length(item.tokens) for item in items)
        return Batch(items, length)

    def _room(self, length: int, rows: int) -> int:
        """How many more sequences of this length fit beside `rows` of them. The first one always does."""
        return max(1, self._budget // length) - rows

    def _take(self, length: int, count: int) -> list[Item[K]]:
        """The `count` oldest of a queue, or all of it."""
        queue = self._queues[length]
        taken = [queue.popleft() for _ in range(min(count, len(queue)))]
        if not queue:
            del self._queues[length]
        return taken


class Scheduler(Generic[K]):
    """Two lanes, and whose turn it is. `job` is any hashable that stands for a request.

    `budget` bounds a batch's tokens, padding included (a longer sequence runs alone). `max_queued` bounds the tokens
    that wait. `max_wait`, in seconds, is what bulk work gives way. Running one more batch costs about as much as
    `batch_overhead` more tokens in another: sequences of different padded length share a batch only where that adds no
    more padding than this.
    """

    def __init__(
        self, budget: int, *, max_queued: int, max_wait: float, batch_overhead: int = 16, grid: Grid | None = None
    ) -> None:
        self.grid = grid or Grid()
        self.budget = budget
        self._max_queued = max_queued
        self._max_wait = max_wait
        self._express: _Lane[K] = _Lane(budget, batch_overhead, self.grid)
        self._bulk: _Lane[K] = _Lane(budget, batch_overhead, self.grid)
        self._express_had_turn = False
        self._waiting: dict[K, int] = {}  # job -> its tokens that still wait
        self._queued = 0
        self._numbers = itertools.count()

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
        lane = self._express if total <= self.budget else self._bulk
        for row, tokens in enumerate(lengths):
            lane.add(Item(next(self._numbers), now, job, row, tokens))
        self._waiting[job] = total
        self._queued += total

    def cancel(self, job: K) -> None:
        """Forgets what of a request still waits. A request that is unknown or already out is no error."""
        tokens = self._waiting.pop(job, 0)
        if tokens:
            self._queued -= tokens
            self._express.drop(job)
            self._bulk.drop(job)

    def next_batch(self, now: float) -> Batch[K] | None:
        """The next sequences to run, or None if nothing waits."""
        express, bulk = self._express.oldest(), self._bulk.oldest()
        if express is None and bulk is None:
            return None
        bulk_is_late = bulk is not None and now - bulk.arrived > self._max_wait
        self._express_had_turn = express is not None and not (bulk_is_late and self._express_had_turn)
        batch = (self._express if self._express_had_turn else self._bulk).batch()
        for item in batch.items:
            self._waiting[item.job] -= item.tokens
            self._queued -= item.tokens
            if not self._waiting[item.job]:
                del self._waiting[item.job]
        return batch
