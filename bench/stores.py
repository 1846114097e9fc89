"""Vectors over HTTP, beside qdrant-edge-py and faiss called directly, and Chroma's own server, on the same data."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from bench import load, store_data
from bench.figures import Aim, Figures
from bench.peers import MODEL
from bench.server import Server, memory, processor_seconds, server
from bench.store_data import DIMENSION, Filter, recall
from bench.store_peers import BATCH
from bench.store_target import NAME, ChromaCollection, Folder, PineconeIndex, call, create, found_rows
from bench.texts import paragraphs

PEERS = Path(sys.prefix) / "bench-peers"  # an environment of its own: see the Makefile
_CONNECTIONS = 8  # of queries
_WRITERS = 4  # connections of upserts
_WRITTEN = 500  # records a second, beside queries
_STEADY = 1500  # records a second, to set off a compaction
_FILTERED = 300  # queries a filter
_PEERS_BREADTH = 128  # of a search, with which they have the recall that Pinyon has with its own
_REWRITTEN = 50  # batches that are written again and again, to make a compaction due
_WHOLE = ", all in the graph"
_WORDS = 10  # of a text that is searched with


@dataclass(frozen=True, slots=True)
class Plan:
    vectors: int
    rounds: int
    seconds: float = 5.0  # of each load of queries
    queries: int = 1000  # different ones
    texts: int = 300  # that are searched with
    compaction: bool = True
    outside: bool = True  # faiss and Chroma too


class Peer:
    """A program of store_peers, whose methods are called by name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, method: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps({"do": method, **arguments}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a peer failed: see above")
        return json.loads(line)


@contextlib.contextmanager
def peer(name: str, folder: Path) -> Iterator[Peer]:
    python = sys.executable if name == "edge" else str(PEERS / "bin" / "python")
    process = subprocess.Popen(
        [python, "-m", "bench.store_peers", name, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=load.ROOT,
        env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
    )
    try:
        yield Peer(process)
    finally:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # it ends, and what it started
        process.wait(90)
        process.stdout.close()


class Measurement:
    """One run over one set of data. Steps go in the order in which they stand here."""

    def __init__(self, plan: Plan, figures: Figures, folder: Path) -> None:
        self._plan = plan
        self._figures = figures
        self._folder = folder
        figures.heading("making the data and its exact answers")
        self._data = store_data.make(plan.vectors, plan.queries)
        self._data.save(folder)
        self._filters = self._data.filters()
        self._exact = self._data.nearest(self._data.queries)
        self._exact_filtered = [self._data.nearest(self._data.queries[:_FILTERED], each) for each in self._filters]
        self._rate = 0.0

    def run(self) -> None:
        with peer("edge", self._folder) as edge:
            pinyon = self._folder / "pinyon"
            pinyon.mkdir()
            with server(folder=pinyon) as running:
                empty = memory(running.pid)
                index = create(running)
                files = Folder(running)
                self._upsert(edge, running, index, files)
                self._recall("http", index)
                self._breadth(edge)
                self._queries(edge, running, index)
                self._memory("memory", running.pid, empty)
                self._alone("half its own rate", self._rate / 2, index)
                self._latencies(index, files)
                if self._plan.compaction:
                    self._compaction(running, index, files)
                    self._recall(f"http{_WHOLE}", index)
                    self._queries(edge, running, index, _WHOLE)
                self._texts(running, index)
                asked = index.queries(self._data.queries[:1])[0]
                right = load.drive(index.job([asked], 1, 1, keep=True)).bodies[0]
            self._restart(pinyon, empty, index, asked, right)
        if self._plan.outside:
            self._faiss()
            self._chroma()

    def _upsert(self, edge: Peer, running: Server, index: PineconeIndex, files: Folder) -> None:
        """The peer before and after: the machine may drift."""
        self._figures.heading("upserts")
        add = self._figures.add
        requests = index.upserts(self._data)
        before = edge.ask("upsert")
        used = processor_seconds(running.pid)
        outcome = load.drive(index.job(requests, len(requests), _WRITERS))
        rate = len(self._data.vectors) / outcome.seconds
        used = processor_seconds(running.pid) - used
        add("http upsert, records/s", rate)
        add("http upsert: server's share of a core", used / outcome.seconds)
        add("http upsert: client's share of a core", outcome.processor / outcome.seconds)
        started = time.monotonic()
        files.settle()
        add("compaction after the last write, s", time.monotonic() - started)
        add("records outside the graph then", (len(requests) - files.compacted_writes) * BATCH)
        after = edge.ask("upsert")
        add("edge upsert, records/s", before)
        add("edge upsert, records/s", after)
        add("upsert ratio", rate / ((before + after) / 2))
        add("edge build, s", edge.ask("build"))

    def _recall(self, name: str, target: PineconeIndex | ChromaCollection) -> None:
        """And how many such queries a second."""
        self._figures.heading(f"recall, {name}")
        data, queries = self._data, self._data.queries
        requests = target.queries(queries)
        outcome = load.drive(target.job(requests, len(requests), _CONNECTIONS, keep=True))
        self._figures.add(f"{name} recall", recall(found_rows(target, data, outcome), self._exact))
        for filter, exact in zip(self._filters, self._exact_filtered, strict=True):
            requests = target.queries(queries[:_FILTERED], filter)
            outcome = load.drive(target.job(requests, len(requests), _CONNECTIONS, keep=True))
            self._figures.add(f"{name} recall, {filter.name}", recall(found_rows(target, data, outcome), exact))
            self._figures.add(f"{name} queries/s, {filter.name}", outcome.rate)

    def _breadth(self, edge: Peer) -> None:
        add, breadth = self._figures.add, _PEERS_BREADTH
        add("edge recall", edge.ask("recall", breadth=breadth, filter=None, queries=self._plan.queries))
        for filter in self._filters:
            found = edge.ask("recall", breadth=breadth, filter=_plain(filter), queries=_FILTERED)
            add(f"edge recall, {filter.name}", found)

    def _queries(self, edge: Peer, running: Server, index: PineconeIndex, state: str = "") -> None:
        self._figures.heading(f"queries{state}")
        add, seconds = self._figures.add, self._plan.seconds
        requests = index.queries(self._data.queries)
        for _ in range(self._plan.rounds):
            add(f"edge queries/s{state}", edge.ask("queries", breadth=_PEERS_BREADTH, seconds=seconds))
            used = processor_seconds(running.pid)
            outcome = load.drive(index.job(requests, 1 << 30, _CONNECTIONS, seconds=seconds))
            used = processor_seconds(running.pid) - used
            add(f"http queries/s{state}", outcome.rate)
            add(f"http queries{state}: server's share of a core", used / outcome.seconds)
            add(f"http queries{state}: client's share of a core", outcome.processor / outcome.seconds)
        self._rate = self._figures.value(f"http queries/s{state}")

    def _memory(self, name: str, pid: int, empty: dict[str, int]) -> None:
        raw = len(self._data.vectors) * DIMENSION * 4
        now = memory(pid)
        for kind, bytes in now.items():
            self._figures.add(f"{name}: growth of {kind} / raw vectors", (bytes - empty[kind]) / raw)

    def _latencies(self, index: PineconeIndex, files: Folder) -> None:
        """At half the peer's rate: alone, then while records are written, the same ones again."""
        requests = index.queries(self._data.queries)
        due = self._alone("half load", self._half, index)
        times = (np.arange(round(2 * self._plan.seconds * _WRITTEN / BATCH)) * BATCH / _WRITTEN).tolist()
        writes = index.upserts(self._data)[: len(times)]
        with (
            load.start(index.job(writes, len(times), 2, due=times)) as writing,
            load.start(index.job(requests, len(due), 64, due=due)) as queries,
        ):
            seen = []
            while not queries.ended:
                seen.append(files.compacting)
                time.sleep(0.05)
            self._note_latencies("half load beside writes", queries.outcome())
            written = writing.outcome()
        self._figures.add("half load beside writes: part of the time with a compaction too", sum(seen) / len(seen))
        self._figures.add("beside queries, records written/s", len(times) * BATCH / written.seconds)
        self._figures.add("beside queries, a write of 200: p50 ms", written.quantile(0.5) * 1000)
        files.settle()

    def _alone(self, name: str, rate: float, index: PineconeIndex) -> list[float]:
        """Gives when the queries were due."""
        self._figures.heading(f"latencies, {name}")
        requests = index.queries(self._data.queries)
        due = load.poisson(rate, 2 * self._plan.seconds, 1)
        with load.start(index.job(requests, len(due), 64, due=due)) as queries:
            self._figures.add(f"{name}: queries/s", rate)
            self._note_latencies(name, queries.outcome())
        return due

    @property
    def _half(self) -> float:
        """Queries a second: half of what the peer answers when it is called directly, whatever Pinyon's own rate is."""
        return self._figures.value("edge queries/s") / 2

    def _compaction(self, running: Server, index: PineconeIndex, files: Folder) -> None:
        """Queries at half the rate all the while; the same records again until a compaction begins. Counts what came
        during it."""
        self._figures.heading("compaction")
        requests = index.queries(self._data.queries)
        writes = index.upserts(self._data)[:_REWRITTEN]
        due = load.poisson(self._half, 300, 2)
        shard_before = files.shard
        most = 0
        with load.start(index.job(requests, len(due), 64, due=due)) as queries:
            # slower than what the server takes for a load, which it lets end first
            times = (np.arange(10 * _REWRITTEN) * BATCH / _STEADY).tolist()
            with load.start(index.job(writes, len(times), 1, due=times)) as writing:
                while not files.compacting:
                    if writing.ended:
                        raise RuntimeError(f"no compaction began after {10 * _REWRITTEN * BATCH} records")
                    time.sleep(0.005)
                began = time.monotonic()
                writing.stop()
            while files.compacting:
                most = max(most, files.child_memory())
                time.sleep(0.02)
            ended = time.monotonic()
            outcome = queries.stop()
        if files.shard == shard_before:
            raise RuntimeError("a compaction failed")
        self._note_latencies("half load beside a compaction", outcome, began, ended)
        self._figures.add("compaction, s", ended - began)
        self._figures.add("compaction, its process at most, MB", most / 1e6)
        files.settle()

    def _note_latencies(
        self, name: str, outcome: load.Outcome, began: float = float("-inf"), ended: float = float("inf")
    ) -> None:
        found = [
            latency
            for sent, latency in zip(outcome.sent, outcome.latencies, strict=True)
            if began <= outcome.started + sent <= ended
        ]
        for part in (0.5, 0.99, 0.999):
            self._figures.add(f"{name}: p{100 * part:g} ms", load.quantile(found, part) * 1000)
        self._figures.add(f"{name}: queries counted", len(found))

    def _texts(self, running: Server, index: PineconeIndex) -> None:
        """Each text is embedded, its vector is asked for, and the text itself: one request at a time, in turn."""
        self._figures.heading("texts")
        call(running.url, "PATCH", f"/indexes/{NAME}", {"embed": {"model": MODEL, "field_map": {"text": "text"}}})
        asked = [" ".join(text.split()[:_WORDS]) for text in paragraphs(self._plan.texts)]
        embeds = [{"model": MODEL, "inputs": [{"text": text}], "parameters": {"input_type": "query"}} for text in asked]
        main = PineconeIndex(running.url)
        times: dict[str, list[float]] = {"embed": [], "query": [], "search": []}
        with _connected(main) as embedding, _connected(index) as querying:
            for text, embed in zip(asked, embeds, strict=True):
                body, seconds = _timed(embedding, "/embed", embed)
                times["embed"].append(seconds)
                vector = orjson.loads(body)["data"][0]["values"]
                times["query"].append(_timed(querying, "/query", {"vector": vector, "topK": 10})[1])
                search = {"query": {"inputs": {"text": text}, "top_k": 10}, "fields": []}
                times["search"].append(_timed(querying, "/records/namespaces/__default__/search", search)[1])
        for name, found in times.items():
            self._figures.add(f"by text, {name} p50 ms", load.quantile(found[len(found) // 10 :], 0.5) * 1000)

    def _restart(self, folder: Path, empty: dict[str, int], index: PineconeIndex, asked: bytes, right: bytes) -> None:
        self._figures.heading("restart")
        with server(folder=folder) as running:
            job = index.job([asked], 1, 1, keep=True)
            while True:
                try:
                    answer = load.run(job).bodies[0]
                    break
                except (OSError, RuntimeError):
                    time.sleep(0.005)
            self._figures.add("restart to a right answer, s", time.monotonic() - running.started)
            if orjson.loads(answer)["matches"] != orjson.loads(right)["matches"]:
                raise RuntimeError("after a restart the same query has another answer")
            requests = index.queries(self._data.queries)
            load.drive(index.job(requests, len(requests), _CONNECTIONS))
            self._memory("memory after a restart", running.pid, empty)

    def _faiss(self) -> None:
        add = self._figures.add
        self._figures.heading("faiss")
        with peer("faiss", self._folder) as faiss:
            add("faiss build, s", faiss.ask("build"))
            add("faiss breadth (efSearch)", faiss.ask("tune"))
            for _ in range(self._plan.rounds):
                add("faiss queries/s", faiss.ask("queries", seconds=self._plan.seconds))
            add("faiss recall", faiss.ask("recall", filter=None, queries=self._plan.queries))
            for filter in self._filters:
                add(f"faiss recall, {filter.name}", faiss.ask("recall", filter=_plain(filter), queries=_FILTERED))

    def _chroma(self) -> None:
        add, data = self._figures.add, self._data
        self._figures.heading("chroma")
        with peer("chroma", self._folder) as chroma:
            made = chroma.ask("serve", breadth=_PEERS_BREADTH)
            empty = memory(made["pid"])
            collection = ChromaCollection(made["url"], made["path"])
            requests = collection.upserts(data)
            outcome = load.drive(collection.job(requests, len(requests), _WRITERS))
            add("chroma upsert, records/s", len(data.vectors) / outcome.seconds)
            requests = collection.queries(data.queries)
            first = load.drive(collection.job(requests[:1], 1, 1))
            add("chroma, first query after them, s", first.latencies[0])
            for _ in range(self._plan.rounds):
                outcome = load.drive(collection.job(requests, 1 << 30, _CONNECTIONS, seconds=self._plan.seconds))
                add("chroma queries/s", outcome.rate)
            self._recall("chroma", collection)
            self._memory("chroma memory", made["pid"], empty)

    def aims(self) -> list[Aim]:
        value = self._figures.value
        states = ["http", f"http{_WHOLE}"] if self._plan.compaction else ["http"]
        aims = [Aim("recall@10", min(value(f"{state} recall") for state in states), 0.99)]
        for part in store_data.PARTS:  # the lowest of the two filters, in each state
            filters = [each.name for each in self._filters if each.part == part]
            least = min(value(f"{state} recall, {name}") for state in states for name in filters)
            aims.append(Aim(f"recall@10 with a filter that keeps {part:.2%}", least, 0.99))
        queries = self._figures.ratio("http queries/s", "edge queries/s")
        aims.append(Aim("queries/s over HTTP against qdrant-edge-py called directly", queries, 0.5))
        aims.append(Aim("upserts/s over HTTP against qdrant-edge-py called directly", value("upsert ratio"), 0.4))
        beside = ["half load", "half load beside writes"]
        if self._plan.compaction:
            beside.append("half load beside a compaction")
        aims += [Aim(f"{name}: p99 ms", value(f"{name}: p99 ms"), 10, at_most=True) for name in beside]
        parts = value("by text, embed p50 ms") + value("by text, query p50 ms")
        aims.append(
            Aim("a query by text against its parts", value("by text, search p50 ms") / parts, 1.3, at_most=True)
        )
        for name in ("memory", "memory after a restart"):
            growth = value(f"{name}: growth of Pss / raw vectors")
            aims.append(Aim(f"{name} / raw vectors", growth, 2.5, at_most=True))
        aims.append(Aim("restart to a right answer, s", value("restart to a right answer, s"), 2, at_most=True))
        return aims


def _plain(filter: Filter) -> list[Any]:
    return [filter.part, filter.field, filter.value]


@contextlib.contextmanager
def _connected(index: PineconeIndex) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(index.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
    try:
        yield connection
    finally:
        connection.close()


def _timed(connection: http.client.HTTPConnection, path: str, body: object) -> tuple[bytes, float]:
    data = orjson.dumps(body)
    started = time.perf_counter()
    connection.request("POST", path, data, {"content-type": "application/json"})
    answer = connection.getresponse()
    read = answer.read()
    seconds = time.perf_counter() - started
    if answer.status != 200:
        raise RuntimeError(read[:500].decode("utf-8", "replace"))
    return read, seconds


def measure(vectors: int, rounds: int, figures: Figures) -> list[Aim]:
    outside = PEERS.exists()
    if not outside:
        figures.heading("faiss and Chroma are left out: `make bench` sets them up")
    return measure_plan(Plan(vectors, rounds, outside=outside), figures)


def measure_plan(plan: Plan, figures: Figures) -> list[Aim]:
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(plan, figures, Path(folder))
        measurement.run()
        return measurement.aims()
