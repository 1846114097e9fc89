"""A server of Google Cloud Storage's protocol, an emulator's, in a process of its own, with one bucket."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

BUCKET = "films"
# NOTE: of an object without a type the emulator says null, at which the C++ client of pyarrow 26 ends the process.
OCTETS = {"content-type": "application/octet-stream"}
PROGRAM = f"""
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket={BUCKET!r})
server.start()
print(server._api._httpd.server_port, flush=True)
input()
server.stop()
"""


@dataclass
class Gcs:
    endpoint: str  # http://HOST:PORT

    def upload(self, folder: Path, prefix: str) -> None:
        """Every file of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                name = quote(f"{prefix}/{path.relative_to(folder)}", safe="")
                url = f"{self.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
                httpx.post(url, content=path.read_bytes(), headers=OCTETS).raise_for_status()


@contextlib.contextmanager
def gcs_server() -> Iterator[Gcs]:
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Gcs(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()
