"""The stores that Pinyon is measured beside: `python -m bench.store_peers NAME FOLDER`, in a process of its own.

edge: qdrant-edge-py called directly, in one thread. It is what Pinyon's own store is built on.
faiss: faiss's HNSW, called directly.
chroma: its own server, which this starts; it is driven over HTTP, as Pinyon is.

FOLDER has the data, as store_data saves it. Commands come on standard input, one JSON object a line: a method's name
under `do`, and its arguments; an answer a line goes back. faiss and chroma need what requirements/bench.txt names, in
an environment of their own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.store_data import DIMENSION, RANK, TOP_K, VALUES, Data, Filter, Floats, recall, units

BATCH = 200  # records an upsert
LINKS, BUILD_BREADTH = 16, 100  # M and efConstruction, for all
_BREADTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_WANTED = 0.99


def _rate(search: Callable[[Any], object], queries: Sequence[Any], seconds: float) -> float:
    """Searches a second, one after the other."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        search(queries[done % len(queries)])
        done += 1
    return done / (time.perf_counter() - started)


class Edge:
    def __init__(self, folder: Path) -> None:
        self._data = Data.load(folder)
        self._folder = folder / "edge"
        self._shard: Any = None

    def upsert(self) -> float:
        """Records a second into a new shard, a payload of plain fields with each, and a flush at the end."""
        import qdrant_edge as qdrant

        if self._shard is not None:
            self._shard.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self._shard = qdrant.EdgeShard.create(
            str(self._folder),
            qdrant.EdgeConfig(
                vectors=qdrant.EdgeVectorParams(DIMENSION, qdrant.Distance.Cosine),
                hnsw_config=qdrant.HnswIndexConfig(LINKS, BUILD_BREADTH, 10_000),
                optimizers=qdrant.EdgeOptimizersConfig(default_segment_number=1),
                max_search_threads=1,
            ),
        )
        count, seconds = len(self._data.vectors), 0.0
        for at in range(0, count, BATCH):
            rows = range(at, min(at + BATCH, count))
            # What a program has at hand before it calls: lists and dicts.
            batch = [(row, self._data.vectors[row].tolist(), self._data.metadata(row)) for row in rows]
            started = time.perf_counter()
            points = [qdrant.Point(row, vector, payload) for row, vector, payload in batch]
            self._shard.update(qdrant.UpdateOperation.upsert_points(points))
            seconds += time.perf_counter() - started
        started = time.perf_counter()
        self._shard.flush()
        return count / (seconds + time.perf_counter() - started)

    def build(self) -> float:
        """Seconds to index the fields and to build the graph, on all cores."""
        import qdrant_edge as qdrant

        started = time.perf_counter()
        operation = qdrant.UpdateOperation
        for field in VALUES:
            self._shard.update(operation.create_field_index(field, qdrant.KeywordIndexParams()))
        self._shard.update(operation.create_field_index(RANK, qdrant.IntegerIndexParams()))
        self._shard.optimize()
        self._shard.flush()
        return time.perf_counter() - started

    def queries(self, breadth: int, seconds: float) -> float:
        return _rate(self._search(breadth, None), self._data.queries.tolist(), seconds)

    def recall(self, breadth: int, filter: Sequence[Any] | None, queries: int) -> float:
        condition = None if filter is None else Filter(*filter)
        wanted = self._data.queries[:queries]
        search = self._search(breadth, condition)
        found = [[hit.id for hit in search(query)] for query in wanted.tolist()]
        return recall(found, self._data.nearest(wanted, condition))

    def _search(self, breadth: int, filter: Filter | None) -> Callable[[list[float]], Any]:
        import qdrant_edge as qdrant

        condition = None
        if filter is not None and isinstance(filter.value, int):
            condition = qdrant.FieldCondition(filter.field, range=qdrant.RangeFloat(lt=filter.value))
        elif filter is not None:
            condition = qdrant.FieldCondition(filter.field, match=qdrant.MatchValue(filter.value))
        only = None if condition is None else qdrant.Filter(must=[condition])
        params = qdrant.SearchParams(breadth)

        def search(query: list[float]) -> Any:
            return self._shard.search(
                qdrant.SearchRequest(qdrant.Query.Nearest(query), TOP_K, filter=only, params=params)
            )

        return search


class Faiss:
    def __init__(self, folder: Path) -> None:
        self._data = Data.load(folder)
        self._units = units(self._data.vectors)
        self._queries = units(self._data.queries)
        self._index: Any = None
        self._breadth = 0

    def build(self) -> float:
        """Seconds, on all cores."""
        import faiss

        started = time.perf_counter()
        self._index = faiss.IndexHNSWFlat(DIMENSION, LINKS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = BUILD_BREADTH
        self._index.add(self._units)
        return time.perf_counter() - started

    def tune(self) -> int:
        """Finds the smallest breadth of a search that has the recall, and keeps to it. From here on in one thread."""
        import faiss

        faiss.omp_set_num_threads(1)
        exact = self._data.nearest(self._data.queries)
        for self._breadth in _BREADTHS:
            if recall(self._found(self._queries, None), exact) >= _WANTED:
                break
        return self._breadth

    def queries(self, seconds: float) -> float:
        search = self._search(None)
        return _rate(search, [query[None] for query in self._queries], seconds)

    def recall(self, filter: Sequence[Any] | None, queries: int) -> float:
        condition = None if filter is None else Filter(*filter)
        exact = self._data.nearest(self._data.queries[:queries], condition)
        return recall(self._found(self._queries[:queries], condition), exact)

    def _found(self, queries: Floats, filter: Filter | None) -> list[list[int]]:
        search = self._search(filter)
        return [[int(row) for row in search(query[None])[1][0] if row >= 0] for query in queries]

    def _search(self, filter: Filter | None) -> Callable[[Floats], Any]:
        import faiss

        params = faiss.SearchParametersHNSW(efSearch=self._breadth)
        if filter is not None:
            kept = faiss.IDSelectorBatch(np.flatnonzero(self._data.kept(filter)))
            params = faiss.SearchParametersHNSW(efSearch=self._breadth, sel=kept)
        return lambda query: self._index.search(query, TOP_K, params=params)


class Chroma:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "chroma"
        self._server: subprocess.Popen[bytes] | None = None

    def serve(self, breadth: int) -> dict[str, Any]:
        """Starts the server and makes a collection. Gives its process id, address, and the collection's path."""
        import chromadb

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(self._folder)]
        self._server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        settings = chromadb.Settings(anonymized_telemetry=False)
        client = _patiently(lambda: chromadb.HttpClient("127.0.0.1", port, settings=settings))
        graph = {
            "space": "cosine",
            "max_neighbors": LINKS,
            "ef_construction": BUILD_BREADTH,
            "ef_search": breadth,
        }
        made = client.create_collection("bench", configuration={"hnsw": graph}, embedding_function=None)
        path = f"/api/v2/tenants/{client.tenant}/databases/{client.database}/collections/{made.id}"
        return {"url": f"http://127.0.0.1:{port}", "path": path, "pid": self._server.pid}

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(60)


def _patiently(connect: Callable[[], Any], seconds: float = 60) -> Any:
    started = time.monotonic()
    while True:
        try:
            return connect()
        except Exception:  # its client raises bare ones
            if time.monotonic() - started > seconds:
                raise
            time.sleep(0.1)


def answer(peer: object, lines: Iterable[str]) -> None:
    for line in lines:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command.pop("do"))(**command)), flush=True)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    if name == "chroma":
        with contextlib.closing(Chroma(folder)) as chroma:
            answer(chroma, sys.stdin)
    else:
        answer({"edge": Edge, "faiss": Faiss}[name](folder), sys.stdin)


if __name__ == "__main__":
    main()
