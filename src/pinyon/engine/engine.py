"""The engine: tokenize -> schedule -> run -> deliver.

Each loaded model has a scheduler and a thread. Requests come from the event loop; the thread takes batches, runs
them, and hands finished requests back to the loop. While one batch runs, the results of the one before are delivered.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.config import Limits
from pinyon.engine import backends, encoding, heads, loader
from pinyon.engine.backends import CompiledModel, Precision
from pinyon.engine.bm25 import MAX_WORDS, Bm25, is_bm25
from pinyon.engine.ops import Ops, TokenTensors
from pinyon.engine.scheduler import Batch, QueueFull, Scheduler
from pinyon.engine.tokenizer import Tokenizer
from pinyon.errors import InvalidRequest, Overloaded, Unavailable, Unsupported
from pinyon.types import EmbedRequest, EmbedResult, FloatArray, IntArray, SparseEmbedding, SparseEmbedResult

logger = logging.getLogger("pinyon.engine")

T = TypeVar("T")

# Up to so many characters are tokenized on the event loop: it takes less time than handing them to a thread and back.
_INLINE_CHARACTERS = 1024


class Observer(Protocol):
    """Who is told what the engine does. Called from the models' threads."""

    def watch_queue(self, model: str, tokens: Callable[[], float]) -> None: ...

    def ran_batch(self, model: str, rows: int, tokens: int, padded_tokens: int, seconds: float) -> None: ...


class _Job:
    """A request inside the engine: its token ids, and where its vectors go."""

    __slots__ = ("future", "loop", "pooled", "remaining", "sequences")

    def __init__(self, sequences: list[IntArray], dim: int) -> None:
        self.sequences = sequences
        self.pooled: FloatArray = np.empty((len(sequences), dim), dtype=np.float32)
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
                self.future.set_result(self.pooled)

        # The loop may be gone if the request was abandoned while the program ends.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(wake)


class LoadedModel:
    """A model in memory, its queue, and the thread that empties it."""

    def __init__(
        self, spec: ModelSpec, files: loader.ModelFiles, compiled: CompiledModel, tokenizer: Tokenizer,
        scheduler: Scheduler[_Job], observer: Observer | None,
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

    async def pooled(self, sequences: list[IntArray]) -> FloatArray:
        """Pooled vectors of token sequences, [sequences, dim]. Raises Overloaded, Unavailable."""
        job = _Job(sequences, self.files.hidden_size)
        with self._changed:
            if self._closing:
                raise Unavailable("The server is shutting down")
            try:
                self.scheduler.add(job, [len(ids) for ids in sequences], time.monotonic())
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

    def _next_batch(self, *, block: bool) -> Batch[_Job] | None:
        with self._changed:
            while (batch := self.scheduler.next_batch(time.monotonic())) is None and block and not self._closing:
                self._changed.wait()
            return batch

    def _start(self, batch: Batch[_Job]) -> _Run:
        rows, length = len(batch.items), batch.length
        ids = np.zeros((rows, length), dtype=np.int32)
        mask = np.zeros((rows, length), dtype=np.int32)
        for row, item in enumerate(batch.items):
            ids[row, : item.tokens] = item.job.sequences[item.row]
            mask[row, : item.tokens] = 1
        return _Run(batch, self._compiled, ids, mask)

    def _deliver(self, run: _Run) -> None:
        batch = run.batch
        if run.vectors is None:
            logger.error("a run of the model failed", extra={"model": self.spec.name, "reason": run.failure})
            for job in {item.job for item in batch.items}:
                with self._changed:
                    self.scheduler.cancel(job)
                job.finish(Unavailable("The model could not be run"))
            return
        for item, vector in zip(batch.items, run.vectors, strict=True):
            job = item.job
            job.pooled[item.row] = vector
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

    def __init__(self, batch: Batch[_Job], compiled: CompiledModel, ids: IntArray, mask: IntArray) -> None:
        self.batch = batch
        self.vectors: FloatArray | None = None  # [rows, dim]; None if it failed
        self.failure = ""
        self.seconds = 0.0
        self._started = time.perf_counter()
        self._wait: Callable[[], FloatArray] | None = None
        try:
            self._wait = compiled.start(ids, mask, np.zeros_like(ids))
        except Exception as error:
            self.failure = type(error).__name__

    def wait(self) -> None:
        """Waits for the end, without the GIL."""
        if self._wait is None:
            return
        try:
            self.vectors = self._wait()
        except Exception as error:
            # The kind alone: a message might hold what the run was about.
            self.failure = type(error).__name__
        self.seconds = time.perf_counter() - self._started


class Engine:
    """Models by name, loaded when they are first needed. Used from one event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        precision: Literal["auto", "f32", "bf16"] = "auto",
        threads: int = 0,
        limits: Limits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._wanted = precision
        self._threads = threads
        self._limits = limits or Limits()
        self._observer = observer
        self._models: dict[str, asyncio.Task[LoadedModel | Bm25]] = {}
        self._tokenizing = ThreadPoolExecutor(2, thread_name_prefix="pinyon-tokenize")
        self._closed = False

    @property
    def precision(self) -> Precision:
        return backends.choose_precision(self._wanted)

    async def load(self, spec: ModelSpec) -> None:
        """Loads and warms a model, unless it is in memory. Raises NotFound, Unavailable."""
        await self._loaded(spec)

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        """Vectors of `request.inputs`, in their order, in the form that the request asks for.

        Raises InputTooLong and InvalidRequest at ("inputs", position), NotFound, Overloaded, Unavailable.
        """
        model = await self._model(spec)
        sequences = await self._tokenize(model, request)
        tokens = np.array([len(ids) for ids in sequences], dtype=np.int32)
        _check_total(tokens, request)
        vectors = encoding.encode(
            await model.pooled(sequences),
            dimension=request.dimension or spec.default_dimension,
            encoding=request.encoding,
            normalise=model.files.normalise,
            int8=spec.int8,
        )
        return EmbedResult(model=spec.name, vectors=vectors, tokens=tokens)

    async def embed_sparse(self, spec: ModelSpec, request: EmbedRequest) -> SparseEmbedResult:
        """As `embed`, for models that give sparse vectors. Queries are what `request.input_type` "query" says."""
        model = await self._loaded(spec)
        if not isinstance(model, Bm25):
            raise Unsupported(f"Model {spec.name!r} gives no sparse vectors")
        limit = request.max_tokens or spec.max_tokens or MAX_WORDS

        def embed() -> tuple[list[SparseEmbedding], IntArray]:
            return model.embed(
                request.inputs,
                is_query=request.input_type == "query",
                max_tokens=limit,
                truncate=request.truncate,
                return_tokens=request.return_tokens,
            )

        is_short = sum(map(len, request.inputs)) <= _INLINE_CHARACTERS
        embeddings, tokens = embed() if is_short else await self._beside(embed)
        _check_total(tokens, request)
        return SparseEmbedResult(spec.name, embeddings, tokens)

    async def close(self) -> None:
        """Finishes queued work and frees the models."""
        self._closed = True
        for task in list(self._models.values()):
            with suppress(Exception):
                model = await task
                if isinstance(model, LoadedModel):
                    await asyncio.to_thread(model.close)
        self._models.clear()
        self._tokenizing.shutdown()

    async def _tokenize(self, model: LoadedModel, request: EmbedRequest) -> list[IntArray]:
        limit = min(model.files.max_tokens, model.spec.max_tokens or model.files.max_tokens)
        limit = min(limit, request.max_tokens or limit)
        prompt = model.files.prompt(request.input_type, model.spec.prompts)

        def encode() -> list[IntArray]:
            return model.tokenizer.encode(request.inputs, prompt=prompt, max_tokens=limit, truncate=request.truncate)

        if sum(map(len, request.inputs)) <= _INLINE_CHARACTERS:
            return encode()
        return await self._beside(encode)

    async def _beside(self, work: Callable[[], T]) -> T:
        """What takes longer than a thread's hand-over, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    async def _model(self, spec: ModelSpec) -> LoadedModel:
        model = await self._loaded(spec)
        if not isinstance(model, LoadedModel):
            raise Unsupported(f"Model {spec.name!r} gives no dense vectors")
        return model

    async def _loaded(self, spec: ModelSpec) -> LoadedModel | Bm25:
        task = self._models.get(spec.name)
        if task is None:
            if self._closed:
                raise Unavailable("The server is shutting down")
            folder = self._catalogue.folder(spec)
            task = asyncio.create_task(asyncio.to_thread(self._load, spec, folder))
            self._models[spec.name] = task
            task.add_done_callback(lambda done: self._forget_failure(spec.name, done))
        try:
            # Shielded: a client that goes away does not stop the loading that others wait for.
            return await asyncio.shield(task)
        except loader.ModelError as error:
            # The reason names folders of this machine: it is for the operator, in the log, and not for a client.
            raise Unavailable(f"Model {spec.name!r} could not be loaded; the server's log says why") from error

    def _forget_failure(self, name: str, task: asyncio.Task[LoadedModel | Bm25]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.error("a model could not be loaded", extra={"model": name, "reason": str(error)})
        if self._models.get(name) is task:
            del self._models[name]  # so that the next request tries again

    def _load(self, spec: ModelSpec, folder: Path) -> LoadedModel | Bm25:
        if is_bm25(folder):
            loader.check_digests(folder, spec.sha256)
            return Bm25(folder)
        started = time.perf_counter()
        with ThreadPoolExecutor(1) as beside:
            checked = beside.submit(loader.check_digests, folder, spec.sha256)
            files = loader.read_folder(folder)
            weights = loader.SafetensorsWeights(folder, files.architecture.prefix)
            tokenizer = Tokenizer(files.tokenizer_path, files.vocabulary(weights))
            precision = self.precision
            compiled = compile_folder(files, weights, precision=precision, threads=self._threads)
            checked.result()
        scheduler: Scheduler[_Job] = Scheduler(
            self._limits.batch_tokens,
            max_queued=self._limits.max_queued_tokens,
            max_wait=self._limits.max_wait_ms / 1000,
        )
        _warm(compiled, scheduler, files.max_tokens)
        if self._observer is not None:
            self._observer.watch_queue(spec.name, lambda: float(scheduler.queued_tokens))
        seconds = round(time.perf_counter() - started, 2)
        logger.info("model ready", extra={"model": spec.name, "precision": precision, "seconds": seconds})
        return LoadedModel(spec, files, compiled, tokenizer, scheduler, self._observer)


def _check_total(tokens: IntArray, request: EmbedRequest) -> None:
    """Of all inputs together: [inputs]. Raises InvalidRequest."""
    highest = request.max_total_tokens
    if highest is not None and tokens.sum() > highest:
        raise InvalidRequest(f"must hold at most {highest} tokens together, and holds {tokens.sum()}", ("inputs",))


def compile_folder(
    files: loader.ModelFiles, weights: loader.SafetensorsWeights, *, precision: Precision, threads: int
) -> CompiledModel:
    """A folder's model with its pooling, ready to run. Raises ModelError."""

    def definition(ops: Ops[Any], tokens: TokenTensors[Any]) -> Any:
        hidden = files.architecture.hidden_states(ops, files.config, tokens)
        return heads.pool(ops, files.pooling, hidden, tokens)

    try:
        return backends.compile_model(definition, weights, precision=precision, threads=threads)
    except backends.GraphError as error:
        raise loader.ModelError(f"{files.folder}: its weights do not fit its config.json: {error}") from None


def _warm(compiled: CompiledModel, scheduler: Scheduler[_Job], max_tokens: int) -> None:
    """Runs the shapes that come first in any day: lone short queries, and a full batch."""
    full = min(scheduler.grid.length(32), max_tokens)
    shapes = [(1, min(length, max_tokens)) for length in (8, 12, 16, 24, 32)]
    for rows, length in (*shapes, (max(1, scheduler.budget // full), full)):
        ids = np.zeros((rows, length), dtype=np.int32)
        compiled.start(ids, np.ones_like(ids), np.zeros_like(ids))()
