"""Pinecone's official clients drive a server, as a person would start it, through the whole life of an index.

The bundled model, the embedded store, SQLite, and a port for each index: nothing in the server is a stand-in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pinyon.cli import main
from tests.dialects.pinecone.sdk import run_python, run_typescript
from tests.faults.test_process import Process


@pytest.fixture
def serve(tmp_path: Path, worker_id: str) -> Iterator[Callable[..., str]]:
    """Starts a server, which may log no error; gives its URL."""
    # Ports of its own for each process of the test run.
    first = 22_000 + 50 * (int(worker_id.removeprefix("gw")) if worker_id != "master" else 90)
    with contextlib.ExitStack() as stack:
        processes = []

        def start(**settings: Any) -> str:
            ports = f"{first}-{first + 49}"
            process = Process(tmp_path, index_ports=ports, api_keys=["secret"], preload=[], **settings)
            stack.callback(process.end)
            processes.append(process)
            return process.url

        yield start
        for process in processes:
            assert [line for line in process.lines if " error " in line or "status=5" in line] == []


@pytest.mark.parametrize("major", [7, 8, 9, 10])
def test_python(serve: Callable[..., str], major: int) -> None:
    """7 sends 2025-04, 8 and 9 send 2025-10, 10 sends 2026-07."""
    run_python(major, "life", serve())


@pytest.mark.parametrize("major", [7, 8, 9, 10])
def test_python_asyncio(serve: Callable[..., str], major: int) -> None:
    run_python(major, "life_asyncio", serve())


@pytest.mark.parametrize("major", [7, 8, 9, 10])
def test_python_grpc(serve: Callable[..., str], major: int) -> None:
    """Vectors over gRPC, at the port that REST has too."""
    run_python(major, "life_grpc", serve())


@pytest.mark.parametrize("major", [8, 9, 10])
def test_python_grpc_and_rest_over_tls(serve: Callable[..., str], tmp_path: Path, major: int) -> None:
    made = CliRunner().invoke(main, ["tls", "--data-dir", str(tmp_path)])
    assert made.exit_code == 0, made.output
    folder = tmp_path / "tls"
    url = serve(tls_cert=str(folder / "server.pem"), tls_key=str(folder / "server.key"))
    assert url.startswith("https://")
    variable, authority = made.stdout.removeprefix("export ").strip().split("=")
    run_python(major, "life_grpc", url, {variable: authority, "PINYON_TEST_CA": authority})


@pytest.mark.parametrize("major", [7, 8, 9, 10])
def test_python_backups(serve: Callable[..., str], major: int) -> None:
    run_python(major, "backups", serve())


@pytest.mark.parametrize("major", [8, 9])
def test_typescript(serve: Callable[..., str], major: int) -> None:
    """8 sends 2026-04, 9 sends 2026-07."""
    run_typescript(major, "life.mjs", serve())


@pytest.mark.parametrize("major", [8, 9])
def test_typescript_backups(serve: Callable[..., str], major: int) -> None:
    run_typescript(major, "backups.mjs", serve())


def test_indexes_at_paths_of_the_main_port(serve: Callable[..., str]) -> None:
    url = serve(index_hosts="path")
    run_python(10, "life", url)
    run_typescript(9, "life.mjs", url)
