"""Runs a program with the Python SDK 7, which lies beside the environment, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SDK7 = Path(__file__).parents[3] / ".sdk" / "pinecone7"


def run_sdk_7(program: str, url: str) -> dict[str, Any]:
    """What the program, given the server's URL, prints as JSON. Its `version` is checked to be the SDK's."""
    if not (SDK7 / "pinecone").is_dir():
        pytest.fail(f"{SDK7} is missing. Make it with: rm -f .venv/.test && make test")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PINECONE_")}
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        env=environment | {"PYTHONPATH": str(SDK7)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen.pop("version").startswith("7.")
    return seen
