"""The benchmark of stores runs, on so little data that its figures mean nothing, but for what is right at any size."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from bench import load, store_data, store_target, stores
from bench.figures import Figures

from tests.conftest import FakeServer


def test_it_measures_what_it_aims_at() -> None:
    figures = Figures(say=False)
    plan = stores.Plan(2000, rounds=1, seconds=0.2, queries=50, texts=10, compaction=False, outside=False)
    aims = stores.measure_plan(plan, figures)
    # Few enough to be searched exactly, but for ties of float32.
    recalls = [aim.found for aim in aims if aim.what.startswith("recall")]
    assert len(recalls) == 5 and min(recalls) >= 0.99
    assert all(np.isfinite(aim.found) for aim in aims)
    assert figures.value("edge recall") >= 0.99
    assert figures.value("half load: queries counted") > 0


def test_filters_keep_what_they_say() -> None:
    data = store_data.make(20_000, 10)
    for filter in data.filters():
        assert data.kept(filter).mean() == pytest.approx(filter.part, rel=0.5)
    for rows in data.nearest(data.queries, data.filters()[1]):
        assert len(rows) == store_data.TOP_K
        assert data.kept(data.filters()[1])[rows].all()


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A server that stops for a while delays all requests that were due meanwhile, not only the one it stopped at."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            for number in range(10):
                connection.recv(1 << 16)
                if number == 0:
                    time.sleep(0.2)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve)
    thread.start()
    due = [0.01 * number for number in range(10)]
    outcome = load.run(load.Job("127.0.0.1", listener.getsockname()[1], [b"x"], 10, 1, due=due, keep=True))
    thread.join(30)
    listener.close()
    assert outcome.sent == due
    assert outcome.bodies == [b"{}"] * 10
    assert all(latency >= 0.2 - at for at, latency in zip(due, outcome.latencies, strict=True))


def test_an_answer_that_is_an_error_ends_a_load(fake_server: Callable[..., FakeServer]) -> None:
    target = store_target.PineconeIndex(fake_server().url)
    with pytest.raises(RuntimeError, match="404"):
        load.run(target.job([target.post("/nowhere", {})], 1, 1))
