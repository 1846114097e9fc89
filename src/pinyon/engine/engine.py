"""The engine: tokenize -> schedule -> run -> deliver.

Requests come from the event loop and go to their model's thread (`pinyon.engine.running`); what comes back is put into
the form that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from pinyon.catalog import Catalogue, ModelSpec
from pinyon.config import Limits
from pinyon.engine import backends, encoding, heads, loader, memory
from pinyon.engine.backends import CompiledModel, Precision, TokenBatch
from pinyon.engine.bm25 import MAX_WORDS, MEMORY_BYTES, Bm25, is_bm25
from pinyon.engine.loader import Kind
from pinyon.engine.ops import Ops, TokenTensors
from pinyon.engine.residents import Residents
from pinyon.engine.running import Job, LoadedModel, Observer
from pinyon.engine.scheduler import Scheduler
from pinyon.engine.tokenizer import Tokenizer, TokenSequence
from pinyon.errors import InputTooLong, InvalidRequest, Unsupported
from pinyon.types import (
    EmbedDocumentsRequest,
    EmbedDocumentsResult,
    EmbedRequest,
    EmbedResult,
    FloatArray,
    IntArray,
    RerankRequest,
    RerankResult,
    SparseEmbedding,
    SparseEmbedResult,
)

logger = logging.getLogger("pinyon.engine")

T = TypeVar("T")

# Up to so many characters are tokenized on the event loop: it takes less time than handing them to a thread and back.
_INLINE_CHARACTERS = 1024


class Engine:
    """Models by name, loaded when they are first needed. Used from one event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        precision: Literal["auto", "f32", "bf16", "int8"] = "auto",
        threads: int = 0,
        limits: Limits | None = None,
        memory_budget: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        """`memory_budget` in bytes, of all models together; None: no bound."""
        self._wanted = precision
        self._threads = threads
        self._limits = limits or Limits()
        self._observer = observer
        self._models: Residents[LoadedModel | Bm25] = Residents(
            self._load, catalogue.folder, self._size, budget=memory_budget, observer=observer
        )
        self._tokenizing = ThreadPoolExecutor(2, thread_name_prefix="pinyon-tokenize")

    async def load(self, spec: ModelSpec) -> None:
        """Loads and warms a model, unless it is in memory. Raises NotFound, Unavailable."""
        async with self._models.using(spec):
            pass

    @asynccontextmanager
    async def using(self, spec: ModelSpec, kind: Kind) -> AsyncIterator[LoadedModel]:
        """A model of this kind, which stays in memory while it is used. Raises NotFound, Unsupported, Unavailable."""
        async with self._models.using(spec) as model:
            yield _of_kind(model, kind)

    async def embed(self, spec: ModelSpec, request: EmbedRequest) -> EmbedResult:
        """Vectors of `request.inputs`, in their order, in the form that the request asks for.

        Raises InputTooLong and InvalidRequest at ("inputs", position), NotFound, Overloaded, Unavailable.
        """
        async with self.using(spec, "dense") as model:
            sequences, tokens = await self._tokenize(model, request)
            pooled = await model.run(sequences)
        return EmbedResult(spec.name, _encoded(pooled, model, request), tokens)

    async def embed_documents(self, spec: ModelSpec, request: EmbedDocumentsRequest) -> EmbedDocumentsResult:
        """Vectors of the chunks of documents, each document in one pass.

        Raises InputTooLong at ("documents", position), InvalidRequest at ("documents", ...) and at ("model",) for a
        model that cannot do it, NotFound, Overloaded, Unavailable.
        """
        async with self.using(spec, "dense") as model:
            sequences = await self._encode_documents(model, request)
            tokens = _counts(sequences)
            _check_total(tokens, request.max_total_tokens, "documents")
            pooled = await model.run(sequences)
        vectors = _encoded(pooled, model, request)
        ends = accumulate(len(sequence.spans) for sequence in sequences)
        parts = [vectors[end - len(one.spans) : end] for end, one in zip(ends, sequences, strict=True)]
        return EmbedDocumentsResult(spec.name, parts, tokens)

    async def embed_sparse(self, spec: ModelSpec, request: EmbedRequest) -> SparseEmbedResult:
        """As `embed`, for models that give sparse vectors."""
        async with self._models.using(spec) as model:
            if isinstance(model, Bm25):
                return await self._embed_bm25(spec, model, request)
            model = _of_kind(model, "sparse")
            sequences, tokens = await self._tokenize(model, request)
            weights = await model.run(sequences)
        embeddings = [_sparse(row, model.tokenizer if request.return_tokens else None) for row in weights]
        return SparseEmbedResult(spec.name, embeddings, tokens)

    async def _embed_bm25(self, spec: ModelSpec, model: Bm25, request: EmbedRequest) -> SparseEmbedResult:
        embed = partial(
            model.embed,
            request.inputs,
            is_query=request.input_type == "query",
            max_tokens=request.max_tokens or spec.max_tokens or MAX_WORDS,
            truncate=request.truncate,
            return_tokens=request.return_tokens,
        )
        embeddings, tokens = await self._inline_or_beside(sum(map(len, request.inputs)), embed)
        _check_total(tokens, request.max_total_tokens, "inputs")
        return SparseEmbedResult(spec.name, embeddings, tokens)

    async def rerank(self, spec: ModelSpec, request: RerankRequest) -> RerankResult:
        """Documents by a cross-encoder's score of each with the query.

        Raises InputTooLong at ("query",) or ("documents", position), NotFound, Overloaded, Unavailable.
        """
        async with self.using(spec, "rerank") as model:
            sequences = await self._encode_pairs(model, request)
            logits = (await model.run(sequences))[:, 0]
        # By the logits: sigmoids of sure answers are all 1.
        scores = encoding.sigmoid(logits)
        return RerankResult.ranked(spec.name, logits, scores, request.top_n, int(_counts(sequences).sum()))

    async def close(self) -> None:
        """Finishes queued work and frees the models."""
        await self._models.close()
        self._tokenizing.shutdown()

    async def _tokenize(self, model: LoadedModel, request: EmbedRequest) -> tuple[list[TokenSequence], IntArray]:
        """What the model is to read, and how many tokens the request is counted with, [inputs]."""
        reads = min(model.files.max_tokens, model.spec.max_tokens or model.files.max_tokens)
        limit = request.max_tokens or reads
        limit = limit if request.reads_less else min(limit, reads)
        prompt = model.files.prompt(request.input_type, model.spec.prompts)

        def encode() -> tuple[list[TokenSequence], IntArray]:
            tokenizer = model.tokenizer
            given = tokenizer.encode(request.inputs, prompt=prompt, max_tokens=limit, truncate=request.truncate)
            return [TokenSequence.whole(tokenizer.shortened(ids, reads)) for ids in given], _counts(given)

        sequences, tokens = await self._inline_or_beside(sum(map(len, request.inputs)), encode)
        _check_total(tokens, request.max_total_tokens, "inputs")
        return sequences, tokens

    async def _encode_pairs(self, model: LoadedModel, request: RerankRequest) -> list[TokenSequence]:
        encode = partial(
            model.tokenizer.encode_pairs,
            request.query,
            request.documents,
            max_tokens=min(model.files.max_tokens, model.spec.max_tokens or model.files.max_tokens),
            truncate=request.truncate,
        )
        try:
            return await self._inline_or_beside(len(request.query) + sum(map(len, request.documents)), encode)
        except InputTooLong as error:
            names = {"first": "query", "seconds": "documents"}
            param = (names[str(error.param[0])], *error.param[1:])
            raise InputTooLong(error.tokens, error.limit, param) from None

    async def _encode_documents(self, model: LoadedModel, request: EmbedDocumentsRequest) -> list[TokenSequence]:
        name = model.files.separator
        separator = model.tokenizer.id_of(name) if name is not None else None
        if separator is None or model.files.pooling != "mean":
            reason = f"must be a model of mean pooling with a separator of chunks, which {request.model!r} is not"
            raise InvalidRequest(reason, ("model",))
        encode = partial(
            model.tokenizer.encode_documents,
            request.documents,
            separator=separator,
            max_tokens=min(model.files.max_tokens, model.spec.max_tokens or model.files.max_tokens),
        )
        return await self._inline_or_beside(sum(len(text) for one in request.documents for text in one), encode)

    async def _inline_or_beside(self, characters: int, work: Callable[[], T]) -> T:
        if characters <= _INLINE_CHARACTERS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    def _size(self, spec: ModelSpec, folder: Path) -> int:
        """What a model takes in memory, in bytes, about."""
        if is_bm25(folder):
            return MEMORY_BYTES
        return memory.model_bytes(memory.parameter_count(folder), self._precision(spec))

    def _precision(self, spec: ModelSpec) -> Precision:
        return backends.choose_precision(self._wanted, quantises=spec.quantises)

    def _load(self, spec: ModelSpec, folder: Path) -> LoadedModel | Bm25:
        started = time.perf_counter()
        if is_bm25(folder):
            loader.check_digests(folder, spec.sha256)
            bm25 = Bm25(folder)
            logger.info("model ready", extra={"model": spec.name, "seconds": round(time.perf_counter() - started, 2)})
            return bm25
        with ThreadPoolExecutor(1) as beside:
            checked = beside.submit(loader.check_digests, folder, spec.sha256)
            files = loader.for_spec(loader.read_folder(folder), spec)
            weights = loader.SafetensorsWeights(folder, files.architecture.prefix)
            tokenizer = Tokenizer(files.tokenizer_path, files.vocabulary(weights))
            precision = self._precision(spec)
            compiled = compile_folder(files, weights, precision=precision, threads=self._threads)
            checked.result()
        scheduler: Scheduler[Job] = Scheduler(
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


def compile_folder(
    files: loader.ModelFiles, weights: loader.SafetensorsWeights, *, precision: Precision, threads: int
) -> CompiledModel:
    """A folder's model with what stands on it, ready to run. Raises ModelError."""
    architecture, config = files.architecture, files.config

    def definition(ops: Ops[Any], tokens: TokenTensors[Any]) -> Any:
        hidden = architecture.hidden_states(ops, config, tokens)
        if files.kind == "rerank":
            assert architecture.classify is not None, "read_folder checks it"
            return architecture.classify(ops, config, hidden, tokens)
        if files.kind == "sparse":
            assert architecture.predict is not None, "read_folder checks it"
            return heads.splade(ops, files.splade, architecture.predict(ops, config, hidden), tokens)
        return heads.pool(ops, files.pooling, hidden, tokens)

    try:
        compiled = backends.compile_model(definition, weights, precision=precision, threads=threads)
    except backends.GraphError as error:
        raise loader.ModelError(f"{weights.path}: does not fit its config.json: {error}") from None
    weights.check_layers()
    return compiled


def _of_kind(model: LoadedModel | Bm25, kind: Kind) -> LoadedModel:
    """Raises Unsupported for a model whose folder says that it is for something else."""
    found = model.files.kind if isinstance(model, LoadedModel) else "sparse"
    if not isinstance(model, LoadedModel) or found != kind:
        raise Unsupported(f"The model's folder is of another kind: {found}, not {kind}")
    return model


def _encoded(pooled: FloatArray, model: LoadedModel, request: EmbedRequest | EmbedDocumentsRequest) -> encoding.Vectors:
    return encoding.encode(
        pooled,
        dimension=request.dimension or model.spec.default_dimension,
        encoding=request.encoding,
        normalise=model.files.normalise,
        int8=model.spec.int8,
    )


def _counts(sequences: Sequence[TokenSequence] | Sequence[IntArray]) -> IntArray:
    return np.array([len(sequence) for sequence in sequences], dtype=np.int32)


def _check_total(tokens: IntArray, highest: int | None, param: str) -> None:
    """Of all texts together: [texts]. Raises InvalidRequest."""
    if highest is not None and tokens.sum() > highest:
        raise InvalidRequest(f"must hold at most {highest} tokens together, and holds {tokens.sum()}", (param,))


def _sparse(weights: FloatArray, tokenizer: Tokenizer | None) -> SparseEmbedding:
    """The terms of weights [vocabulary], with their names if there is a tokenizer to tell them."""
    indices = np.flatnonzero(weights > 0).astype(np.uint32)
    names = None if tokenizer is None else [tokenizer.token(int(index)) for index in indices]
    return SparseEmbedding(indices, weights[indices], names)


def _warm(compiled: CompiledModel, scheduler: Scheduler[Job], max_tokens: int) -> None:
    """Runs the shapes that come first in any day: lone short queries, and a full batch."""
    full = min(scheduler.grid.length(32), max_tokens)
    shapes = [(1, min(length, max_tokens)) for length in (8, 12, 16, 24, 32)]
    for rows, length in (*shapes, (max(1, scheduler.budget // full), full)):
        compiled.start(TokenBatch.of(np.zeros((rows, length), dtype=np.int32)))()
