"""Runs a program with one of Pinecone's SDKs, in a process of its own.

The Python SDK 10 is in the environment; 7, 8 and 9, and those of TypeScript, lie beside it in `.sdk`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SDKS = ROOT / ".sdk"
TYPESCRIPT = Path(__file__).parent / "typescript"


def run_python(major: int, program: str, url: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """What the program (a module of `programs`), given the server's URL, prints as JSON. Its `version` is checked to
    be the SDK's."""
    path = "" if major == 10 else str(_folder(f"pinecone{major}", "pinecone"))
    module = f"{__package__}.programs.{program}"
    return _run([sys.executable, "-m", module, url], major, {"PYTHONPATH": path} | (environment or {}))


def run_typescript(major: int, program: str, url: str) -> dict[str, Any]:
    """The same for a program in `typescript`, which is given the SDK's folder too."""
    folder = _folder("typescript", f"node_modules/pinecone{major}")
    return _run(["node", str(TYPESCRIPT / program), url, str(folder / f"node_modules/pinecone{major}")], major, {})


def _folder(name: str, content: str) -> Path:
    folder = SDKS / name
    if not (folder / content).is_dir():
        pytest.fail(f"{folder} is missing. Make it with: rm -f .venv/.sdk-{name} && make test")
    return folder


def _run(command: list[str], major: int, environment: dict[str, str]) -> dict[str, Any]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PINECONE_")}
    done = subprocess.run(
        command, env=inherited | environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen.pop("version").startswith(f"{major}.")
    return seen
