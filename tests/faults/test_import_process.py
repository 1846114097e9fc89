"""An import from S3 by a server as a person would start it, which is killed and stopped meanwhile."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pinecone import Pinecone, ServerlessSpec

from tests.faults.test_process import Process
from tests.services.import_files import DIMENSION, table, vectors, write
from tests.services.s3_server import BUCKET, KEYS, s3_server

ROWS = 20_000
DEADLINE = 60  # seconds


@contextlib.contextmanager
def running(folder: Path, endpoint: str) -> Iterator[tuple[Process, Any]]:
    """A server and the SDK's client of its index."""
    integration = {"kind": "s3", "endpoint_override": endpoint, "region": "us-east-1", **KEYS}
    process = Process(folder, index_hosts="path", preload=[], integrations={"store": integration})
    try:
        url = f"http://127.0.0.1:{process.port}"
        with contextlib.closing(Pinecone(api_key="any", host=url)) as pc:
            if not pc.list_indexes().names():
                serverless = ServerlessSpec(cloud="aws", region="us-east-1")
                pc.create_index(name="films", dimension=DIMENSION, metric="cosine", spec=serverless)
            with contextlib.closing(pc.Index(host=f"{url}/i/films")) as index:
                yield process, index
    finally:
        process.end()
        log = "".join(process.lines)
        assert KEYS["secret_key"] not in log and " error " not in log


def until(look: Callable[[], Any], is_so: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not is_so(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)  # the server has work to do
    return found


def test_an_import_survives_a_kill_and_a_stop(tmp_path: Path) -> None:
    for at in range(2):
        write(tmp_path / "in" / "n" / f"{at}.parquet", table(ROWS // 2, f"{at}-", seed=at))
    with s3_server() as s3:
        s3.upload(tmp_path / "in", "import")
        with running(tmp_path, s3.endpoint) as (process, index):
            id = index.start_import(uri=f"s3://{BUCKET}/import", integration_id="store").id
            first = until(lambda: index.describe_import(id), lambda found: found.records_imported > 2000)
            assert first.status == "InProgress" and 0 < first.percent_complete < 100
            process.popen.send_signal(signal.SIGKILL)
            process.popen.wait(30)
        with running(tmp_path, s3.endpoint) as (process, index):
            before = first.records_imported
            found = until(lambda: index.describe_import(id), lambda found: found.records_imported > before)
            assert found.status == "InProgress"
            process.popen.send_signal(signal.SIGTERM)
            assert process.exit_status() == 0
        with running(tmp_path, s3.endpoint) as (process, index):
            done = until(lambda: index.describe_import(id), lambda found: found.status != "InProgress")
            assert (done.status, done.records_imported, done.error) == ("Completed", ROWS, None)
            assert index.describe_index_stats().namespaces["n"].vector_count == ROWS
            for at in range(2):
                right = vectors(ROWS // 2, seed=at)[ROWS // 3]
                found = index.fetch(ids=[f"{at}-{ROWS // 3}"], namespace="n").vectors[f"{at}-{ROWS // 3}"]
                assert list(found.values) == pytest.approx(right.tolist())
