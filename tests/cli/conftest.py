"""`pinyon` in this process, in an empty folder, over a fake engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pinyon.catalog import Catalogue
from pinyon.cli import embed, main
from pinyon.config import Config
from pinyon.testing import FakeEngine

Pinyon = Callable[..., Result]


class ClosableFakeEngine(FakeEngine):
    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no settings of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PINYON_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PINYON_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`pinyon serve` sends the whole process's log to its own stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def pinyon() -> Pinyon:
    """Runs `pinyon` with these arguments; `stdin` is what it reads."""

    def run(*arguments: str, stdin: str | bytes = "") -> Result:
        result = CliRunner().invoke(main, arguments, input=stdin)
        # click's way of saying that a command raised something nobody foresaw.
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ClosableFakeEngine:
    """What `pinyon embed` embeds with."""
    fake = ClosableFakeEngine()

    async def open_engine(config: Config, catalogue: Catalogue) -> ClosableFakeEngine:
        return fake

    monkeypatch.setattr(embed, "open_engine", open_engine)
    return fake


def one_line(result: Result, status: int) -> str:
    """The one line of stderr of a command that ended with this status."""
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("pinyon: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("pinyon: ").rstrip("\n")
