"""A model in memory: its queue, and the thread that empties it.

The thread takes batches, runs them, and hands finished requests back to the event loop. While one batch runs, the
results of the one before are delivered.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Protocol

import numpy as np

from pinyon.catalog import ModelSpec
from pinyon.engine import loader, residents
from pinyon.engine.backends import CompiledModel, TokenBatch
from pinyon.engine.scheduler import Batch, QueueFull, Scheduler
from pinyon.engine.tokenizer import Tokenizer, TokenSequence
from pinyon.errors import Overloaded, Unavailable
from pinyon.types import FloatArray

logger = logging.getLogger("pinyon.engine")


class Observer(residents.Observer, Protocol):
    """Who is told what the engine does, besides which models come and go. Called from the models' threads."""

    def watch_queue(self, model: str, tokens: Callable[[], float]) -> None: ...

    def ran_batch(self, model: str, rows: int, tokens: int, padded_tokens: int, seconds: float) -> None: ...


class Job:
    """A request inside the engine: its sequences, and what the model made of their spans, one after another."""

    __slots__ = ("firsts", "future", "loop", "remaining", "results", "sequences")

    def __init__(self, sequences: Sequence[TokenSequence], width: int) -> None:
        self.sequences = sequences
        counts = [len(sequence.spans) for sequence in sequences]
        self.firsts = list(accumulate(counts, initial=0))  # of each sequence, where its spans' results begin
        self.results: FloatArray = np.empty((self.firsts[-1], width), dtype=np.float32)
        self.remaining = len(sequences)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[FloatArray] = self.loop.create_future()

    def finish(self, error: Exception | None = None) -> None:
        """Wakes whoever waits, from any thread."""

        def wake() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(self.results)

        # The loop may be gone if the request was abandoned while the program ends.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(wake)


class LoadedModel:
    """A model in memory, its queue, and the thread that empties it."""

    def __init__(
        self, spec: ModelSpec, files: loader.ModelFiles, compiled: CompiledModel, tokenizer: Tokenizer,
        scheduler: Scheduler[Job], observer: Observer | None,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.files = files
        self.tokenizer = tokenizer
        self.scheduler = scheduler
        self._compiled = compiled
        self._observer = observer
        self._changed = threading.Condition()
        self._closing = False
        self._rate = 0.0  # tokens a second, smoothed
        self._thread = threading.Thread(target=self._run, name=f"pinyon-{spec.name}", daemon=True)
        self._thread.start()

    async def run(self, sequences: Sequence[TokenSequence]) -> FloatArray:
        """What the model makes of the spans of sequences, [spans, width]: a vector, weights of terms, or a logit.

        Raises Overloaded, Unavailable.
        """
        job = Job(sequences, self._compiled.width)
        with self._changed:
            if self._closing:
                raise Unavailable("The server is shutting down")
            try:
                self.scheduler.add(job, [len(sequence) for sequence in sequences], time.monotonic())
            except QueueFull:
                waiting = self.scheduler.queued_tokens / self._rate if self._rate else 1.0
                raise Overloaded("Too much work is waiting for this model", retry_after=waiting / 2) from None
            self._changed.notify()
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._changed:
                self.scheduler.cancel(job)
            raise

    def close(self) -> None:
        """Finishes the work that is queued, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        running: _Run | None = None
        while True:
            if running is not None:
                running.wait()
            # The next batch is chosen only now, so that a query which came meanwhile is in it.
            batch = self._next_batch(block=running is None)
            started = self._start(batch) if batch is not None else None
            if running is not None:
                self._deliver(running)
            elif started is None:
                return
            running = started

    def _next_batch(self, *, block: bool) -> Batch[Job] | None:
        with self._changed:
            while (batch := self.scheduler.next_batch(time.monotonic())) is None and block and not self._closing:
                self._changed.wait()
            return batch

    def _start(self, batch: Batch[Job]) -> _Run:
        rows, length = len(batch.items), batch.length
        ids = np.zeros((rows, length), dtype=np.int32)
        mask = np.zeros((rows, length), dtype=np.int32)
        types = np.zeros((rows, length), dtype=np.int32)
        spans = []
        for row, item in enumerate(batch.items):
            sequence = item.job.sequences[item.row]
            ids[row, : item.tokens] = sequence.ids
            mask[row, : item.tokens] = 1
            if sequence.types is not None:
                types[row, : item.tokens] = sequence.types
            spans.append(sequence.spans + np.int32(row * length))
        return _Run(batch, self._compiled, TokenBatch(ids, mask, types, np.concatenate(spans)))

    def _deliver(self, run: _Run) -> None:
        batch = run.batch
        if run.results is None:
            logger.error("a run of the model failed", extra={"model": self.spec.name, "reason": run.failure})
            for job in {item.job for item in batch.items}:
                with self._changed:
                    self.scheduler.cancel(job)
                job.finish(Unavailable("The model could not be run"))
            return
        done = 0
        for item in batch.items:
            job = item.job
            first, end = job.firsts[item.row], job.firsts[item.row + 1]
            job.results[first:end] = run.results[done : done + end - first]
            done += end - first
            job.remaining -= 1
            if not job.remaining:
                job.finish()
        tokens = batch.tokens
        rate = tokens / run.seconds
        self._rate = 0.9 * self._rate + 0.1 * rate if self._rate else rate
        if self._observer is not None:
            self._observer.ran_batch(self.spec.name, len(batch.items), tokens, batch.padded_tokens, run.seconds)


class _Run:
    """A batch in the model, and what came of it."""

    def __init__(self, batch: Batch[Job], compiled: CompiledModel, tokens: TokenBatch) -> None:
        self.batch = batch
        self.results: FloatArray | None = None  # [spans, width]; None if it failed
        self.failure = ""
        self.seconds = 0.0
        self._started = time.perf_counter()
        self._wait: Callable[[], FloatArray] | None = None
        try:
            self._wait = compiled.start(tokens)
        except Exception as error:
            self.failure = type(error).__name__

    def wait(self) -> None:
        """Waits for the end, without the GIL."""
        if self._wait is None:
            return
        try:
            self.results = self._wait()
        except Exception as error:
            # The kind alone: a message might hold what the run was about.
            self.failure = type(error).__name__
        self.seconds = time.perf_counter() - self._started
