"""Indexes of a real process: their ports, a kill -9, a restart, and a second process on the same folder."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pinecone import Pinecone, ServerlessSpec
from pinecone.errors import NotFoundError

from tests.faults.test_process import Process


@pytest.fixture
def settings(tmp_path: Path, worker_id: str) -> dict[str, Any]:
    # Ports of its own for each process of the test run, apart from those that a person's server would have.
    first = 20_000 + 50 * (int(worker_id.removeprefix("gw")) if worker_id != "master" else 90)
    return {"index_ports": f"{first}-{first + 49}", "preload": []}


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Process]:
    process = Process(folder, **settings)
    try:
        yield process
    finally:
        process.end()


def url(process: Process) -> str:
    return f"http://127.0.0.1:{process.port}"


@contextlib.contextmanager
def client(process: Process) -> Iterator[Pinecone]:
    with contextlib.closing(Pinecone(api_key="any", host=url(process))) as pc:
        yield pc


def test_an_index_answers_at_its_port_and_survives_a_kill(tmp_path: Path, settings: dict[str, Any]) -> None:
    serverless = ServerlessSpec(cloud="aws", region="us-east-1")
    with running(tmp_path, **settings) as process, client(process) as pc:
        pc.create_index(name="movies", dimension=3, metric="cosine", spec=serverless)
        host = pc.describe_index("movies").host
        assert host is not None and host.startswith("http://127.0.0.1:2")
        vectors = [{"id": f"v{n}", "values": [1.0, n / 10, 0.5], "metadata": {"n": n}} for n in range(30)]
        with contextlib.closing(pc.Index("movies")) as index:
            assert index.upsert(vectors=vectors).upserted_count == 30
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait(30)
    with running(tmp_path, **settings) as process, client(process) as pc:
        assert pc.describe_index("movies").host == host
        for found in (pc.Index("movies"), pc.Index(host=f"{url(process)}/i/movies")):
            with contextlib.closing(found) as index:
                assert index.describe_index_stats().total_vector_count == 30
                assert list(index.fetch(ids=["v7"]).vectors["v7"].values) == pytest.approx([1.0, 0.7, 0.5])
                nearest = index.query(vector=[1.0, 0.0, 0.5], top_k=2, filter={"n": {"$gte": 10}})
                assert [match.id for match in nearest.matches] == ["v10", "v11"]
        pc.delete_index("movies")
        with pytest.raises(NotFoundError):
            pc.describe_index("movies")


def test_a_second_process_on_the_folder_is_told_who_has_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    with running(tmp_path, **settings) as process, client(process) as pc:
        pc.create_index(name="one", dimension=3, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1"))
        command = [sys.executable, "-m", "pinyon", "serve", "--port", "0", "--data-dir", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 1
        assert f"in use by process {process.popen.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        # Inference alone needs nothing of it.
        with running(tmp_path, indexes=False, preload=[]) as beside:
            assert beside.port != process.port
        with contextlib.closing(pc.Index("one")) as index:
            assert index.describe_index_stats().total_vector_count == 0
