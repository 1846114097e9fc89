"""`pinyon` itself: help, version, and that neither waits for what only commands need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pinyon.cli import main, models

from .conftest import Pinyon

SLOW = ("openvino", "numpy", "pyarrow", "huggingface_hub", "starlette", "uvicorn", "rich", "tokenizers")


def test_version(pinyon: Pinyon) -> None:
    assert pinyon("--version").stdout.startswith("pinyon 0.")


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands), ["models", "pull"]])
def test_help(pinyon: Pinyon, command: list[str]) -> None:
    result = pinyon(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_nothing_slow_is_imported_for_help() -> None:
    program = f"import sys, pinyon.cli; print(sorted(set(sys.modules) & set({SLOW})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_flag_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    commands = {**main.commands, **{f"models {name}": command for name, command in models.models.commands.items()}}
    for name, command in commands.items():
        assert f"pinyon {name}" in page
        for parameter in command.params if name in ("serve", "embed") else ():
            assert all(f"`{flag}" in page for flag in parameter.opts if flag.startswith("-")), parameter.opts
