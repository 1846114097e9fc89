"""The numbers, after traffic that is known."""

from __future__ import annotations

import threading

from prometheus_client.parser import text_string_to_metric_families

from pinyon.http.metrics import Metrics
from tests.http.conftest import Start
from tests.http.serving import EMBED, EMBED_BODY, GatedEngine, eventually, request

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def test_after_known_traffic(live: Start) -> None:
    server = live()
    metrics = server.metrics
    wire = server.connect()
    pair = b'{"model": "all-minilm-l6-v2", "input": ["two words", "and three more"]}'
    texts = b'{"model": "all-minilm-l6-v2", "inputs": [{"text": "two words"}]}'
    for asked in (
        EMBED,
        request(body=pair),
        request(body=b"{"),
        request(body=EMBED_BODY.replace(b"all-", b"no-")),
        request("POST", "/embed", texts),
        request("GET", "/models"),
        request("GET", "/a/path/that/is/not"),
    ):
        wire.send(asked)
        wire.answer()
    eventually(lambda: value(metrics, "pinyon_requests_total", dialect="pinecone", verb="not_found", status="404") == 1)
    counted = {labels: count for (name, labels), count in samples(metrics).items() if name == "pinyon_requests_total"}

    def labels(dialect: str, verb: str, status: str) -> frozenset[tuple[str, str]]:
        return frozenset({"dialect": dialect, "verb": verb, "status": status}.items())

    assert counted == {
        labels("openai", "embed", "200"): 2,
        labels("openai", "embed", "400"): 1,
        labels("openai", "embed", "404"): 1,
        labels("pinecone", "embed", "200"): 1,
        labels("pinecone", "list_models", "200"): 1,
        labels("pinecone", "not_found", "404"): 1,
    }
    openai = {"dialect": "openai", "verb": "embed"}
    assert value(metrics, "pinyon_tokens_total", **openai, model="all-minilm-l6-v2") == 8
    assert value(metrics, "pinyon_inputs_total", **openai, model="all-minilm-l6-v2") == 3
    assert value(metrics, "pinyon_tokens_total", dialect="pinecone", verb="embed", model="all-minilm-l6-v2") == 2
    assert value(metrics, "pinyon_request_seconds_count", **openai) == 4
    assert value(metrics, "pinyon_request_seconds_bucket", **openai, le="+Inf") == 4
    seconds = value(metrics, "pinyon_request_seconds_sum", **openai)
    assert seconds is not None
    assert 0 < seconds < 60
    models = {dict(labels).get("model") for _, labels in samples(metrics)}
    assert models == {None, "all-minilm-l6-v2"}


def test_in_flight(live: Start) -> None:
    engine = GatedEngine()
    server = live(engine=engine)
    for _ in range(3):
        server.connect().send(EMBED)
    eventually(lambda: engine.entered == 3)
    assert value(server.metrics, "pinyon_requests_in_flight") == 3
    engine.open()
    eventually(lambda: value(server.metrics, "pinyon_requests_in_flight") == 0)


def test_batches_and_queue() -> None:
    metrics = Metrics()
    metrics.ran_batch("m", rows=4, tokens=90, padded_tokens=100, seconds=0.02)
    metrics.ran_batch("m", rows=1, tokens=8, padded_tokens=8, seconds=0.001)
    depth = 17.0
    metrics.watch_queue("m", lambda: depth)
    assert value(metrics, "pinyon_batch_rows_count", model="m") == 2
    assert value(metrics, "pinyon_batch_rows_sum", model="m") == 5
    assert value(metrics, "pinyon_batch_tokens_total", model="m") == 98
    padding = value(metrics, "pinyon_batch_padding_share_sum", model="m")
    assert padding is not None
    assert abs(padding - 0.1) < 1e-12
    assert value(metrics, "pinyon_batch_padding_share_bucket", model="m", le="0.0") == 1
    seconds = value(metrics, "pinyon_batch_seconds_sum", model="m")
    assert seconds is not None
    assert abs(seconds - 0.021) < 1e-12
    assert value(metrics, "pinyon_queued_tokens", model="m") == 17
    depth = 0.0
    assert value(metrics, "pinyon_queued_tokens", model="m") == 0


def test_jobs() -> None:
    metrics = Metrics()
    waiting = 3.0
    metrics.watch_jobs("import", "pending", lambda: waiting)
    metrics.finished_job("import", "failed")
    metrics.finished_job("import", "failed")
    assert value(metrics, "pinyon_jobs_unfinished", kind="import", status="pending") == 3
    assert value(metrics, "pinyon_jobs_finished_total", kind="import", status="failed") == 2
    waiting = 0.0
    assert value(metrics, "pinyon_jobs_unfinished", kind="import", status="pending") == 0


def test_batches_are_counted_from_several_threads() -> None:
    metrics = Metrics()

    def run() -> None:
        for _ in range(500):
            metrics.ran_batch("m", 2, 10, 10, 0.001)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "pinyon_batch_rows_count", model="m") == 2000


def test_servers_do_not_share_numbers() -> None:
    first, second = Metrics(), Metrics()
    first.started()
    first.answered("openai", "embed", 200, 0.1, "m", 1, 5)
    assert value(first, "pinyon_requests_total", dialect="openai", verb="embed", status="200") == 1
    assert value(second, "pinyon_requests_total", dialect="openai", verb="embed", status="200") is None
