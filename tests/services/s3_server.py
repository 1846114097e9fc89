"""A server of the real S3 protocol, moto's, with one bucket."""

from __future__ import annotations

import contextlib
import logging
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "films"
KEYS = {"access_key": "AKIAEXAMPLE", "secret_key": "hush-hush"}


@dataclass
class S3:
    endpoint: str  # http://HOST:PORT
    client: Any

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=name, Body=data)

    def get(self, name: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return data

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=name)

    def names(self) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def upload(self, folder: Path, prefix: str) -> None:
        """Every file of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEYS["access_key"],
        aws_secret_access_key=KEYS["secret_key"],
    )
    # moto keeps what it holds for the process, whatever server it was given to
    forget = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    try:
        urllib.request.urlopen(forget).close()
        client.create_bucket(Bucket=BUCKET)
        yield S3(endpoint, client)
    finally:
        client.close()
        server.stop()
