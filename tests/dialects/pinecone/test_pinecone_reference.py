"""The samples of the vendor's reference run as they stand, with what a reader would put in: against a server that a
person would start, with real indexes and archives, Parquet in S3 and a model behind the vendor's name for one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pinecone import Pinecone, ServerlessSpec

from tests.dialects.pinecone.reference_samples import CURL, PYTHON
from tests.dialects.pinecone.sdk import SDKS
from tests.faults.test_import_process import until
from tests.faults.test_process import Process
from tests.services.import_files import DIMENSION, table, write
from tests.services.s3_server import KEYS, S3, s3_server

INTEGRATION = "a12b3d4c-47d2-492c-a97a-dd98c8dbefde"  # as the samples name it
BUCKET = "BUCKET_NAME"
ROWS = 20
# Runs samples one after another, each as a program of its own, and prints what each has printed.
RUNNER = """
import contextlib, io, json, sys
printed = {}
for name, sample in json.loads(sys.stdin.read()).items():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(sample, name, "exec"), {"__name__": "__main__"})
    printed[name] = out.getvalue()
print(json.dumps(printed))
"""


@dataclass
class Server:
    url: str

    def host(self, index: str) -> str:
        """Without its scheme, as a reader of the reference would have it."""
        return f"{self.url.removeprefix('http://')}/i/{index}"

    def imports(self, index: str, **params: int) -> Any:
        return httpx.get(f"{self.url}/i/{index}/bulk/imports", params=params).json()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("reference")
    with s3_server() as s3:
        for path, namespace in (("PATH/TO/DIR", "n"), ("PATH/TO/OTHER", "m")):
            write(folder / path / namespace / "0.parquet", table(ROWS))
        s3.client.create_bucket(Bucket=BUCKET)
        upload(s3, folder)
        integration = {"kind": "s3", "endpoint_override": s3.endpoint, "region": "us-east-1", **KEYS}
        process = Process(
            folder / "data",
            index_hosts="path",
            integrations={INTEGRATION: integration},
            aliases={"llama-text-embed-v2": "all-minilm-l6-v2"},
        )
        try:
            url = f"http://127.0.0.1:{process.port}"
            fill(url)
            yield Server(url)
        finally:
            process.end()


def upload(s3: S3, folder: Path) -> None:
    for path in (folder / "PATH").rglob("*.parquet"):
        s3.client.upload_file(str(path), BUCKET, str(path.relative_to(folder)))


def fill(url: str) -> None:
    """What the samples speak of."""
    with contextlib.closing(Pinecone(api_key="any", host=url)) as client:
        pc: Any = client
        for name in ("docs-example", "python7", "python10", "curl"):
            spec = ServerlessSpec(cloud="aws", region="us-east-1")
            pc.create_index(name=name, dimension=DIMENSION, metric="cosine", spec=spec)
        backup = pc.create_backup(index_name="docs-example", backup_name="example-backup").backup_id
        until(lambda: pc.describe_backup(backup_id=backup).status, lambda status: status == "Ready")
        pc.create_index_from_backup(name="restored-index", backup_id=backup)
        pods = {"environment": "us-east-1-aws", "pod_type": "p1.x1"}
        body = {"name": "pods", "dimension": 3, "metric": "cosine", "spec": {"pod": pods}}
        headers = {"X-Pinecone-Api-Version": "2025-04"}
        httpx.post(f"{url}/indexes", json=body, headers=headers).raise_for_status()
        pc.create_collection("example-collection1", "pods")
        until(lambda: pc.describe_collection("example-collection1").status, lambda status: status == "Ready")
        for name in ("python7", "python10", "curl"):  # so that a listing has two pages
            body = {"uri": f"s3://{BUCKET}/PATH/TO/OTHER", "integrationId": INTEGRATION}
            httpx.post(f"{url}/i/{name}/bulk/imports", json=body).raise_for_status()


@pytest.mark.parametrize("major", [7, 10])
def test_the_python_samples(server: Server, major: int) -> None:
    index = f"python{major}"
    environment = os.environ | {"PINECONE_CONTROLLER_HOST": server.url}
    if major == 7:
        environment["PYTHONPATH"] = str(SDKS / index)
    # What the SDK 7 needs for gRPC is not installed; over gRPC goes none of these.
    wanted = {name: sample for name, (sample, _) in PYTHON.items() if major == 10 or "grpc" not in sample}

    def run(names: list[str], id: str) -> dict[str, str]:
        samples = {
            name: wanted[name].replace("INDEX_HOST", f"http://{server.host(index)}").replace("101", id)
            for name in names
        }
        command = [sys.executable, "-W", "ignore", "-c", RUNNER]
        done = subprocess.run(
            command, input=json.dumps(samples), env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        printed: dict[str, str] = json.loads(done.stdout)
        return printed

    run(["start_import"], "")
    id = completed(server, index)
    printed = run([name for name in wanted if name != "start_import"], id)
    for name, text in printed.items():
        assert re.search(PYTHON[name][1], text), (name, text)
        assert bool(text) == bool(PYTHON[name][1])


def completed(server: Server, index: str) -> str:
    """The id of the newest import of the index, which is completed."""
    newest = until(lambda: server.imports(index)["data"][0], lambda found: found["status"] == "Completed")
    assert newest["recordsImported"] == ROWS
    return str(newest["id"])


def test_the_curl_samples(server: Server) -> None:
    for name, (sample, printed) in CURL.items():
        id = completed(server, "curl") if "101" in sample else ""
        code = sample.replace('INDEX_HOST="INDEX_HOST"', f'INDEX_HOST="{server.host("curl")}"').replace("101", id)
        if name == "list_imports":
            token = server.imports("curl", limit=1)["pagination"]["next"]
            code = code.replace("=Tm90aGluZyB0byBzZWUgaGVyZQo", quote(token))
        code = code.replace("https://api.pinecone.io", server.url).replace("https://$INDEX", "http://$INDEX")
        code = code.replace("curl ", "curl --silent --show-error --fail-with-body ")
        done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        assert re.search(printed, done.stdout), (name, done.stdout)
