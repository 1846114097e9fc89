"""A server that a person would start is killed with -9 while it backs up, restores, collects, makes an index of a
collection and imports, all at once. After its restart the vendor's SDK sees every one of these jobs end rightly.

PINYON_SERVER_ROUNDS says how many kills (3).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pinecone import Pinecone, ServerlessSpec

from tests.faults.test_import_process import until
from tests.faults.test_process import Process
from tests.services.import_files import DIMENSION, table, uri, vectors, write

ROUNDS = int(os.environ.get("PINYON_SERVER_ROUNDS", "3"))
RECORDS = 2_000  # of the indexes that are copied
ROWS = 6_000  # of an import
POD = {"environment": "us-east1-gcp", "pod_type": "p1.x1"}
SPACE = "a b/日"
RESTORED, COLLECTED, IMPORTED = "restored", "collected", "imported"


class Client:
    """The SDK, and where its version of the API makes no indexes of pods, an earlier one's body."""

    def __init__(self, stack: contextlib.ExitStack, process: Process) -> None:
        self.url = f"http://127.0.0.1:{process.port}"
        self.pc: Any = stack.enter_context(contextlib.closing(Pinecone(api_key="any", host=self.url)))
        self._stack = stack

    def index(self, name: str) -> Any:
        return self._stack.enter_context(contextlib.closing(self.pc.Index(host=f"{self.url}/i/{name}")))

    def make(self, name: str) -> None:
        spec = ServerlessSpec(cloud="aws", region="us-east-1")
        self.pc.create_index(name=name, dimension=DIMENSION, metric="euclidean", spec=spec)

    def make_pods(self, name: str, **pod: str) -> None:
        body = {"name": name, "dimension": DIMENSION, "metric": "euclidean", "spec": {"pod": POD | pod}}
        headers = {"X-Pinecone-Api-Version": "2025-10"}
        httpx.post(f"{self.url}/indexes", json=body, headers=headers).raise_for_status()

    def check(self, name: str, namespace: str, count: int, sample: random.Random) -> None:
        """The index is ready, and has what it should."""
        until(lambda: self.pc.describe_index(name).status.ready, bool)
        index = self.index(name)
        found = {space: about.vector_count for space, about in index.describe_index_stats().namespaces.items()}
        assert found == {namespace: count}
        right = vectors(count)
        rows = sample.sample(range(count), 50)
        records = index.fetch(ids=[f"r{row}" for row in rows], namespace=namespace).vectors
        for row in rows:
            assert list(records[f"r{row}"].values) == pytest.approx(right[row].tolist())
            assert records[f"r{row}"].metadata["n"] == row


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Process, Client]]:
    limits = {"max_running_jobs": 5}
    process = Process(
        folder / "data", index_hosts="path", preload=[], import_roots=[str(folder / "files")], limits=limits
    )
    try:
        with contextlib.ExitStack() as stack:
            yield process, Client(stack, process)
    finally:
        process.end()
        assert " error " not in "".join(process.lines)


def prepare(client: Client) -> str:
    """Two indexes to copy; a backup of one of them, whose id it gives, and the collection `first` of the other."""
    client.make("notes")
    client.make_pods("pods")
    right = vectors(RECORDS)
    for name in ("notes", "pods"):
        index = client.index(name)
        for at in range(0, RECORDS, 1000):
            batch = [{"id": f"r{n}", "values": right[n].tolist(), "metadata": {"n": n}} for n in range(at, at + 1000)]
            index.upsert(vectors=batch, namespace=SPACE)
    client.pc.create_collection("first", "pods")
    backup: str = client.pc.create_backup(index_name="notes", backup_name="first").backup_id
    until(lambda: client.pc.describe_backup(backup_id=backup).status, lambda status: status == "Ready")
    until(lambda: client.pc.describe_collection("first").status, lambda status: status == "Ready")
    return backup


def test_the_sdk_sees_jobs_end_after_a_kill(tmp_path: Path) -> None:
    write(tmp_path / "files" / "all" / "n" / "0.parquet", table(ROWS))
    chance = random.Random(9)
    seen: Counter[str] = Counter()
    jobs: dict[str, str] = {}

    def states(client: Client) -> dict[str, str]:
        """Of each job, as the SDK sees it."""
        pc = client.pc
        return {
            "backup": pc.describe_backup(backup_id=jobs["backup"]).status,
            "restore": pc.describe_restore_job(job_id=jobs["restore"]).status,
            "collection": pc.describe_collection("second").status,
            "index of a collection": "Ready" if pc.describe_index(COLLECTED).status.ready else "Initializing",
            "import": client.index(IMPORTED).describe_import(jobs["import"]).status,
        }

    def start(client: Client) -> None:
        client.make(IMPORTED)
        jobs["backup"] = client.pc.create_backup(index_name="notes", backup_name="second").backup_id
        made = client.pc.create_index_from_backup(name=RESTORED, backup_id=first, timeout=-1)
        jobs["restore"] = made.restore_job_id
        client.pc.create_collection("second", "pods")
        client.make_pods(COLLECTED, source_collection="first")
        jobs["import"] = client.index(IMPORTED).start_import(uri=uri(tmp_path / "files" / "all")).id

    def check(client: Client) -> None:
        ends = {"Ready", "Completed"}
        until(lambda: states(client), lambda found: set(found.values()) <= ends)
        backup = client.pc.describe_backup(backup_id=jobs["backup"])
        assert (backup.record_count, backup.namespace_count) == (RECORDS, 1)
        assert client.pc.describe_collection("second").vector_count == RECORDS
        done = client.index(IMPORTED).describe_import(jobs["import"])
        assert (done.records_imported, done.percent_complete, done.error) == (ROWS, 100.0, None)
        client.check(IMPORTED, "n", ROWS, chance)
        for name in (RESTORED, COLLECTED):
            client.check(name, SPACE, RECORDS, chance)
        client.pc.delete_backup(backup_id=jobs["backup"])
        client.pc.delete_collection("second")
        for name in (RESTORED, COLLECTED, IMPORTED):
            client.pc.delete_index(name)

    with running(tmp_path) as (_, client):
        first = prepare(client)
    for number in range(ROUNDS + 1):
        with running(tmp_path) as (process, client):
            if number:
                seen.update(kind for kind, state in states(client).items() if state not in ("Ready", "Completed"))
                check(client)
            if number < ROUNDS:
                start(client)
                # A sleep is how such a moment is drawn, not a wait for something.
                time.sleep(chance.random() * 0.3)
                process.popen.send_signal(signal.SIGKILL)
                process.popen.wait(30)
    print(f"{ROUNDS} kills; unfinished after the restart: {dict(seen)}")
    # The moments that this is about did come.
    assert seen["import"] > 0 and sum(seen.values()) >= ROUNDS
