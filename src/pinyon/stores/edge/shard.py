"""One shard of Qdrant's engine: the only place that calls it, and that knows its classes and its errors.

Every call holds the interpreter's lock until it is done. Nothing here is durable by itself: see journal.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as qdrant

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout, Metric, Record, SparseVector
from pinyon.stores.edge.int8 import QUANTILE
from pinyon.stores.edge.journal import Batch
from pinyon.stores.points import (
    DENSE,
    ID,
    METADATA,
    NAMESPACE,
    NUMBER,
    RESTORE,
    SPARSE,
    TERMS,
    Condition,
    Point,
    as_uuid,
    point_id,
    to_record,
    within,
)
from pinyon.types import FloatArray

# Cosine is the dot product of vectors that points.py brought to length 1: the engine, to do that itself, would change
# the stored values.
_DISTANCES = {
    Metric.COSINE: qdrant.Distance.Dot,
    Metric.DOTPRODUCT: qdrant.Distance.Dot,
    Metric.EUCLIDEAN: qdrant.Distance.Euclid,
}
_MATCHES: dict[str, Any] = {
    "value": qdrant.MatchValue,
    "text": qdrant.MatchText,
    "text_any": qdrant.MatchTextAny,
}
# Candidates of a graph search. Measured on 100,000 clustered vectors of 384 dimensions: recall@10 0.9965 in 0.26 ms;
# with 128 0.995 in 0.22, with 192 0.998 in 0.30.
_BREADTH = 160
# With a filter that keeps 40% or more: 0.998 in 0.9 to 1.3 ms. Where one keeps less, a search finds its way by ACORN:
# 0.997 or more in 1.6 to 2.2 ms by numbers, and 8 to 18 by terms; without it 512 candidates gave 0.92 at 20%, and
# nothing at 10%.
_FILTERED_BREADTH = 448
_FEW = 0.4
_FEW_BREADTH = 128
_SCANNED = 48 << 20  # bytes of vectors that are scored one by one where a filter keeps no more: 4 ms
_RESCORED = 48  # of what was found by bytes, so many are scored by floats
# Ranges over more fields than this work too, by an exact scan: each index costs memory and writing time.
_NUMBER_INDEXES = 128
_SCROLL = 1_000
GRAPH_FROM = 10_000 << 10  # bytes of vectors, 6,600 at 384 dimensions: fewer are always searched one by one
_THRESHOLD = 256
# Points that are written between two flushes: until then the engine has 400 bytes of each in memory, where it put what.
# A flush takes 10 ms and 2 us a point.
FLUSH_AFTER = 20_000
# Payload indexes and ids are mapped, not read into memory: loading 100,000 points then holds the interpreter's lock for
# 60 ms instead of 250, and takes 40 MB less. Vectors and graph stay as they are: mapped lazily they made a query 1.3
# times as long.
_PLACE = qdrant.Memory.Cold


@contextmanager
def _translated() -> Iterator[None]:
    """The engine's errors as Unavailable: what it is given was checked, so what is left is the disk.

    It raises bare `Exception`, and for its own bugs a PanicException that only BaseException covers.
    """
    try:
        yield
    except (MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise Unavailable("The index failed in its engine; the server's log says why") from error


class Shard:
    """Points, their vectors and their payload indexes, in a folder. One thread at a time."""

    def __init__(self, engine: qdrant.EdgeShard, layout: Layout) -> None:
        self._engine = engine
        self._layout = layout
        self.unflushed = 0  # points that were written, by their number
        with _translated():
            fields = engine.info().payload_schema
        self._numbers = {field for field in fields if field.startswith(NUMBER)}

    @staticmethod
    def create(folder: Path, layout: Layout) -> Shard:
        folder.mkdir()
        with _translated():
            engine = qdrant.EdgeShard.create(str(folder), _config(layout))
            tenant = qdrant.KeywordIndexParams(is_tenant=True, memory=_PLACE)
            engine.update(qdrant.UpdateOperation.create_field_index(NAMESPACE, tenant))
            words = qdrant.TextIndexParams(tokenizer=qdrant.TokenizerType.Whitespace, lowercase=False, memory=_PLACE)
            engine.update(qdrant.UpdateOperation.create_field_index(TERMS, words))
            engine.flush()
        return Shard(engine, layout)

    @staticmethod
    def load(folder: Path, layout: Layout, *, indexing_threads: int = 1, int8: bool = False) -> Shard:
        """The last two are for `optimize`: `int8` says whether what it builds is searched by bytes; see int8.py."""
        with _translated():
            return Shard(qdrant.EdgeShard.load(str(folder), _config(layout, indexing_threads, int8)), layout)

    def apply(self, batch: Batch) -> None:
        """Not atomic, not durable; doing it again does no harm."""
        operation = qdrant.UpdateOperation
        self.unflushed += batch.size
        with _translated():
            for namespace in batch.dropped:
                everything = _filter(within(namespace, None))
                assert everything is not None
                self._engine.update(operation.delete_points_by_filter(everything))
            for namespace, ids in batch.deletes:
                self._engine.update(operation.delete_points([as_uuid(point_id(namespace, id)) for id in ids]))
            if not batch.puts:
                return
            for field in sorted({key for point in batch.puts for key in point.payload if key.startswith(NUMBER)}):
                if field not in self._numbers and len(self._numbers) < _NUMBER_INDEXES:
                    self._engine.update(operation.create_field_index(field, qdrant.FloatIndexParams(memory=_PLACE)))
                    self._numbers.add(field)
            self._engine.update(operation.upsert_points([_to_engine(point) for point in batch.puts]))

    def fetch(self, points: Sequence[bytes]) -> list[tuple[str, Record]]:
        """Namespaces and records, in no order; those that are not there are left out."""
        with _translated():
            found = self._engine.retrieve([as_uuid(id) for id in points], True, True)
        return [(point.payload[NAMESPACE], _record(point, True, True)) for point in found if point.payload]

    def names(self) -> Iterator[tuple[str, str]]:
        """Namespace and id of every point, in no order."""
        offset: qdrant.PointId | None = None
        while True:
            with _translated():
                points, offset = self._engine.scroll(
                    qdrant.ScrollRequest(offset, _SCROLL, None, [ID, NAMESPACE], False)
                )
            for point in points:
                assert point.payload is not None
                yield point.payload[NAMESPACE], point.payload[ID]
            if offset is None:
                return

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Namespace of every point, and what `fetch` finds it by, in no order."""
        offset: qdrant.PointId | None = None
        while True:
            with _translated():
                points, offset = self._engine.scroll(qdrant.ScrollRequest(offset, _SCROLL, None, [NAMESPACE], False))
            for point in points:
                assert point.payload is not None and isinstance(point.id, UUID)
                yield point.payload[NAMESPACE], point.id.bytes
            if offset is None:
                return

    def sample(self, limit: int) -> FloatArray:
        """Dense vectors as they are stored, of some of the records: the order of points is that of their hashes.
        [at most limit, dimension]; 0 where records have none"""
        with _translated():
            points, _ = self._engine.scroll(qdrant.ScrollRequest(None, limit, None, False, True))
        found: list[Any] = [point.vector for point in points]
        rows = [vectors[DENSE] for vectors in found if vectors and DENSE in vectors]
        return np.array(rows, np.float32).reshape(len(rows), self._layout.dimension or 0)

    def ids(self, condition: Condition | None) -> list[str]:
        """Ids of the points that match, in no order. Within one namespace, or they would tell nothing."""
        return [id for page in self.id_pages(condition) for id in page]

    def id_pages(self, condition: Condition | None) -> Iterator[list[str]]:
        """The same, in steps."""
        offset: qdrant.PointId | None = None
        filter = _filter(condition)
        while True:
            with _translated():
                points, offset = self._engine.scroll(qdrant.ScrollRequest(offset, _SCROLL, filter, [ID], False))
            yield [point.payload[ID] for point in points if point.payload]
            if offset is None:
                return

    def count(self, condition: Condition | None, *, exact: bool = True) -> int:
        with _translated():
            return self._engine.count(qdrant.CountRequest(exact, _filter(condition)))

    def search(
        self,
        vector: FloatArray | SparseVector,
        condition: Condition | None,
        limit: int,
        *,
        exact: bool = False,
        with_values: bool = False,
        with_metadata: bool = False,
    ) -> list[tuple[float, Record]]:
        """The nearest points, best first; equal scores in no order. Exact if asked, or if that is cheaper."""
        filter = _filter(condition)
        if isinstance(vector, SparseVector):
            query = qdrant.Query.Nearest(_to_sparse(vector), using=SPARSE)
        else:
            query = qdrant.Query.Nearest(memoryview(vector), using=DENSE)  # type: ignore[arg-type]
        payload = [ID, METADATA] if with_metadata else [ID]
        if with_values:
            payload.append(RESTORE)

        def found(params: qdrant.SearchParams) -> list[qdrant.ScoredPoint]:
            request = qdrant.SearchRequest(
                query, limit, filter=filter, params=params, with_vector=with_values, with_payload=payload
            )
            with _translated():
                return self._engine.search(request)

        if isinstance(vector, SparseVector):  # has no graph
            hits = found(qdrant.SearchParams(exact=exact))
        else:
            graph = None if exact else self._graph_params(condition, limit)
            hits = [] if graph is None else found(graph)
            # A filter that keeps less than the engine takes it to keep may leave a graph search stuck.
            if graph is None or (condition is not None and len(hits) < limit):
                hits = found(qdrant.SearchParams(exact=True))
        squared = self._layout.metric is Metric.EUCLIDEAN  # the engine gives the distance itself
        if not (with_values or with_metadata):
            return [(hit.score * hit.score if squared else hit.score, Record((hit.payload or {})[ID])) for hit in hits]
        return [
            (hit.score * hit.score if squared else hit.score, _record(hit, with_values, with_metadata)) for hit in hits
        ]

    def _graph_params(self, condition: Condition | None, limit: int) -> qdrant.SearchParams | None:
        """None: better to score all that the condition keeps."""
        breadth, acorn = _BREADTH, None
        if condition is not None:
            if self._scans(condition):
                return None
            kept = self.count(condition, exact=False)
            if kept * 4 * (self._layout.dimension or 0) <= _SCANNED:
                return None
            breadth = _FILTERED_BREADTH
            if kept < _FEW * self.count(None, exact=False):
                breadth, acorn = _FEW_BREADTH, qdrant.AcornSearchParams(enable=True, max_selectivity=1.0)
        # of no effect where there are no bytes
        bytes = qdrant.QuantizationSearchParams(rescore=True, oversampling=max(2.0, _RESCORED / limit))
        return qdrant.SearchParams(max(breadth, limit), quantization=bytes, acorn=acorn)

    def _scans(self, condition: Condition) -> bool:
        """Whether it has a range over a field without an index: the engine cannot tell how few points that leaves."""
        key = condition.get("key")
        if key is not None:
            return "range" in condition and key not in self._numbers
        return any(self._scans(part) for parts in condition.values() for part in parts)

    def unindexed(self) -> int:
        """About how many points no search graph covers."""
        with _translated():
            info = self._engine.info()
        return max(0, info.points_count - info.indexed_vectors_count)

    def flush(self) -> None:
        """On disk is all that was written. What it had of that in memory alone, it lets go."""
        with _translated():
            self._engine.flush()
        self.unflushed = 0

    def optimize(self) -> None:
        """Builds the graph over everything. Takes minutes."""
        with _translated():
            self._engine.optimize()

    def close(self) -> None:
        """Without a flush, unless the engine does one."""
        with _translated():
            self._engine.close()


def _config(layout: Layout, indexing_threads: int = 1, int8: bool = False) -> qdrant.EdgeConfig:
    dense = {}
    if layout.dimension is not None:
        bytes = qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8, QUANTILE, True) if int8 else None
        dense[DENSE] = qdrant.EdgeVectorParams(layout.dimension, _DISTANCES[layout.metric], quantization_config=bytes)
    sparse = {SPARSE: qdrant.EdgeSparseVectorParams()} if layout.metric is Metric.DOTPRODUCT else None
    return qdrant.EdgeConfig(
        vectors=dense,
        sparse_vectors=sparse,
        # its third is in KB
        # No links of its own for each indexed value: they doubled the graph, the time to build it, and that of a query
        # without a filter.
        hnsw_config=qdrant.HnswIndexConfig(
            16, 100, GRAPH_FROM // 1024, max_indexing_threads=indexing_threads, payload_m=0
        ),
        # one segment: each has a graph of its own, and a query goes through all. Merging reuses the largest graph.
        # The threshold is in KB: a compaction leaves nothing outside the graph.
        optimizers=qdrant.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=_THRESHOLD),
        max_search_threads=1,
        wal_enabled=False,
        id_tracker_memory=_PLACE,
    )


def _to_engine(point: Point) -> qdrant.Point:
    vectors: dict[str, Any] = {}
    if point.dense is not None:
        vectors[DENSE] = memoryview(point.dense).cast("f")  # a list of floats would cost more to make than to read
    if point.indices is not None and point.weights is not None:
        indices, weights = np.frombuffer(point.indices, "<u4"), np.frombuffer(point.weights, "<f4")
        vectors[SPARSE] = qdrant.SparseVector(indices.tolist(), weights.tolist())
    return qdrant.Point(as_uuid(point.id), vectors, point.payload)


def _to_sparse(vector: SparseVector) -> qdrant.SparseVector:
    return qdrant.SparseVector(vector.indices.tolist(), vector.values.tolist())


def _record(point: qdrant.Record | qdrant.ScoredPoint, with_values: bool, with_metadata: bool) -> Record:
    dense = sparse = None
    if with_values:
        vectors: Any = point.vector or {}
        if DENSE in vectors:
            dense = np.array(vectors[DENSE], np.float32)
        if SPARSE in vectors:
            stored = vectors[SPARSE]
            sparse = SparseVector(np.array(stored.indices, np.uint32), np.array(stored.values, np.float32))
    assert point.payload is not None
    return to_record(point.payload, dense, sparse, with_metadata=with_metadata)


def _filter(condition: Condition | None) -> qdrant.Filter | None:
    if condition is None:
        return None
    made = _condition(condition)
    return made if isinstance(made, qdrant.Filter) else qdrant.Filter(must=[made])


def _condition(condition: Condition) -> Any:
    """A condition in REST form as the engine's."""
    if "has_id" in condition:
        return qdrant.HasIdCondition({as_uuid(id) for id in condition["has_id"]})
    if "key" not in condition:
        clauses: dict[str, Any] = {name: [_condition(part) for part in parts] for name, parts in condition.items()}
        return qdrant.Filter(**clauses)
    if "range" in condition:
        return qdrant.FieldCondition(condition["key"], range=qdrant.RangeFloat(**condition["range"]))
    ((kind, wanted),) = condition["match"].items()
    return qdrant.FieldCondition(condition["key"], match=_MATCHES[kind](wanted))
