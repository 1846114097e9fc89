"""The server's own numbers, in Prometheus' text form. Labels are names of the server's own, never a client's text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARE = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75)


class Metrics:
    """One registry a server, so that several servers in one process (tests) do not share numbers."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("dialect", "verb")
        self._requests = Counter("pinyon_requests", "Requests answered", (*labels, "status"), registry=self.registry)
        self._seconds = Histogram(
            "pinyon_request_seconds", "Seconds from a request's head to its answer", labels,
            buckets=_LATENCY, registry=self.registry,
        )  # fmt: skip
        self._tokens = Counter(
            "pinyon_tokens", "Tokens of answered requests", (*labels, "model"), registry=self.registry
        )
        self._inputs = Counter(
            "pinyon_inputs", "Texts of answered requests", (*labels, "model"), registry=self.registry
        )
        self._in_flight = 0  # from the event loop alone, so that it needs no lock
        gauge = Gauge("pinyon_requests_in_flight", "Requests being answered", registry=self.registry)
        gauge.set_function(lambda: self._in_flight)
        self._rows = Histogram(
            "pinyon_batch_rows", "Sequences in a run of the model", ("model",), buckets=_ROWS, registry=self.registry
        )
        self._padding = Histogram(
            "pinyon_batch_padding_share", "Share of a run's tokens that are padding", ("model",),
            buckets=_SHARE, registry=self.registry,
        )  # fmt: skip
        self._run_seconds = Histogram(
            "pinyon_batch_seconds",
            "Seconds of a run of the model",
            ("model",),
            buckets=_LATENCY,
            registry=self.registry,
        )
        self._batch_tokens = Counter(
            "pinyon_batch_tokens", "Tokens run through the model, without padding", ("model",), registry=self.registry
        )
        self._queued = Gauge(
            "pinyon_queued_tokens", "Tokens that wait for the model", ("model",), registry=self.registry
        )
        self._memory = Gauge(
            "pinyon_model_memory_bytes", "Memory set aside for a loaded model", ("model",), registry=self.registry
        )
        self._loads = Counter(
            "pinyon_model_loads", "Models loaded, or not", ("model", "status"), registry=self.registry
        )
        self._load_seconds = Gauge(
            "pinyon_model_load_seconds", "Seconds that the last loading took", ("model",), registry=self.registry
        )
        self._unloads = Counter(
            "pinyon_model_unloads", "Models let go to make room", ("model",), registry=self.registry
        )
        self._jobs = Gauge(
            "pinyon_jobs_unfinished", "Jobs that wait or run", ("kind", "status"), registry=self.registry
        )
        self._finished_jobs = Counter(
            "pinyon_jobs_finished", "Jobs that ended in this process", ("kind", "status"), registry=self.registry
        )
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._spent: dict[tuple[str, str, str], tuple[Counter, Counter]] = {}

    def watch_queue(self, model: str, tokens: Callable[[], float]) -> None:
        """Asks `tokens` for the depth of a model's queue whenever the numbers are read."""
        self._queued.labels(model).set_function(tokens)

    def started(self) -> None:
        self._in_flight += 1

    def answered(
        self, dialect: str, verb: str, status: int, seconds: float, model: str | None, inputs: int, tokens: int
    ) -> None:
        """Counts one answer. `model` must be a name of the catalogue or an alias, or None."""
        self._in_flight -= 1
        # `labels` looks its arguments up under a lock: the children are kept here once they are known.
        counted = self._answers.get((dialect, verb, status))
        if counted is None:
            counted = self._answers[dialect, verb, status] = (
                self._requests.labels(dialect, verb, str(status)),
                self._seconds.labels(dialect, verb),
            )
        counted[0].inc()
        counted[1].observe(seconds)
        if model is not None:
            spent = self._spent.get((dialect, verb, model))
            if spent is None:
                spent = self._spent[dialect, verb, model] = (
                    self._tokens.labels(dialect, verb, model),
                    self._inputs.labels(dialect, verb, model),
                )
            spent[0].inc(tokens)
            spent[1].inc(inputs)

    def ran_batch(self, model: str, rows: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Counts one run: `tokens` real ones out of the `padded_tokens` that the model computed."""
        self._rows.labels(model).observe(rows)
        self._padding.labels(model).observe(1 - tokens / padded_tokens)
        self._run_seconds.labels(model).observe(seconds)
        self._batch_tokens.labels(model).inc(tokens)

    def loaded(self, model: str, memory_bytes: int, seconds: float) -> None:
        self._memory.labels(model).set(memory_bytes)
        self._loads.labels(model, "loaded").inc()
        self._load_seconds.labels(model).set(seconds)

    def load_failed(self, model: str) -> None:
        self._loads.labels(model, "failed").inc()

    def unloaded(self, model: str) -> None:
        """Its queue is gone with it."""
        self._unloads.labels(model).inc()
        for gauge in (self._memory, self._queued):
            with suppress(KeyError):
                gauge.remove(model)

    def watch_jobs(self, kind: str, status: str, count: Callable[[], float]) -> None:
        """Asks `count` for the jobs of a kind that are pending or running whenever the numbers are read."""
        self._jobs.labels(kind, status).set_function(count)

    def finished_job(self, kind: str, status: str) -> None:
        """Counts one that has completed, failed or been cancelled."""
        self._finished_jobs.labels(kind, status).inc()

    def render(self) -> bytes:
        return generate_latest(self.registry)
