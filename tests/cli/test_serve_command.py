"""`pinyon serve`: what it refuses before it listens, and one real start and stop."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import pinyon.app
from pinyon.cli.serve import check_exposure
from pinyon.config import Config, ConfigError
from pinyon.testing import tiny_bert

from .conftest import Pinyon, one_line


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that the server was started with; it ends at once."""
    configs: list[Config] = []
    monkeypatch.setattr(pinyon.app, "run", configs.append)
    return configs


def test_flags_variables_and_file_reach_the_server(
    pinyon: Pinyon, served: list[Config], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bert(folder / "tiny")
    (folder / "my.toml").write_text('port = 1\nlog_format = "json"\n[models]\na = "tiny"\nb = "tiny"\n')
    monkeypatch.setenv("PINYON_PORT", "2")
    monkeypatch.setenv("PINYON_THREADS", "3")
    result = pinyon(
        *("serve", "--config", "my.toml", "--port", "4", "--host", "127.0.0.2", "--precision", "f32", "--offline"),
        *("--model", "b=./tiny", "--model", f"c={folder}/tiny", "--api-key", "k1", "--api-key", "k2"),
    )
    assert result.exit_code == 0, result.output
    (config,) = served
    assert (config.host, config.port, config.precision, config.threads) == ("127.0.0.2", 4, "f32", 3)
    assert (config.log_format, config.offline, config.no_auth, config.api_keys) == ("json", True, False, ("k1", "k2"))
    assert config.models == {"a": f"{folder}/tiny", "b": "tiny", "c": f"{folder}/tiny"}


def test_stand_ins(pinyon: Pinyon, served: list[Config]) -> None:
    result = pinyon(
        *("serve", "--stand-in", "nugen-flash-embed=all-minilm-l6-v2", "--stand-in", "pinecone-rerank-v0=mine"),
        *("--stand-in", "pinecone-rerank-v0=all-minilm-l6-v2-rerank", "--stand-ins", "--memory-budget", "2GB"),
    )
    assert result.exit_code == 0, result.output
    (config,) = served
    assert config.stand_ins == {
        "nugen-flash-embed": "all-minilm-l6-v2",
        "pinecone-rerank-v0": "all-minilm-l6-v2-rerank",
    }
    assert (config.all_stand_ins, config.memory_budget) == (True, "2GB")
    assert (Config().all_stand_ins, Config().stand_ins) == (False, {})
    assert "'mine' is not a model" in one_line(pinyon("serve", "--stand-in", "nugen-flash-embed=mine"), 2)
    assert "'mine' is not a model" in one_line(pinyon("serve", "--stand-in", "mine=all-minilm-l6-v2"), 2)
    assert "not of the form NAME=SOURCE" in one_line(pinyon("serve", "--stand-in", "mine"), 2)
    for wrong in ("lots", "-5GB", "5", "5 GB", "%", "1e9MB"):
        assert "must be a size such as 8GB" in one_line(pinyon("serve", "--memory-budget", wrong), 2)


@pytest.mark.parametrize(
    ("host", "keys", "no_auth", "may"),
    [
        ("127.0.0.1", (), False, True),
        ("127.8.8.8", (), False, True),
        ("::1", (), False, True),
        ("localhost", (), False, True),
        ("0.0.0.0", (), False, False),
        ("::", (), False, False),
        ("192.168.0.1", (), False, False),
        ("myhost", (), False, False),
        ("0.0.0.0", ("key",), False, True),
        ("0.0.0.0", (), True, True),
        ("127.0.0.1", ("key",), True, False),
    ],
)
def test_exposure(host: str, keys: tuple[str, ...], no_auth: bool, may: bool) -> None:
    config = Config(host=host, api_keys=keys, no_auth=no_auth)
    if may:
        check_exposure(config)
    else:
        with pytest.raises(ConfigError):
            check_exposure(config)


def test_refusal_names_both_ways_out(pinyon: Pinyon, served: list[Config]) -> None:
    sentence = one_line(pinyon("serve", "--host", "0.0.0.0"), 2)
    assert "--api-key" in sentence and "--no-auth" in sentence
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--port", "many"), "--port: must be a whole number from 0 to 65535, not 'many'"),
        (("--model", "mine"), "--model: 'mine' is not of the form NAME=SOURCE"),
        (("--model", "mine=./absent"), "models: mine: There is no folder './absent'"),
        (("--model", "mine=a b"), "models: mine: 'a b' is neither a folder"),
        (("--config", "absent.toml"), "absent.toml: there is no such file"),
        (("--config", "alias.toml"), "aliases: 'x' points at 'y', which is not a model of this server"),
        (("--config", "preload.toml"), "preload: 'y' is not a model of this server"),
        (("--config", "prices.toml"), "prices: 'y' is not a model of this server"),
    ],
)
def test_mistakes_end_it_with_status_2(
    pinyon: Pinyon, served: list[Config], folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (folder / "alias.toml").write_text("[aliases]\nx = 'y'\n")
    (folder / "preload.toml").write_text("preload = ['y']\n")
    (folder / "prices.toml").write_text("[prices]\ny = 1\n")
    assert one_line(pinyon("serve", *arguments), 2).startswith(sentence)
    assert served == []


def test_port_in_use(pinyon: Pinyon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert one_line(pinyon("serve", "--port", str(port)), 1) == (
            f"Cannot listen on 127.0.0.1, port {port}: something else listens there, choose another with --port"
        )


def test_address_that_is_not_of_this_machine(pinyon: Pinyon, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: Config) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr("pinyon.app.run", run)
    assert "choose another with --host" in one_line(pinyon("serve", "--host", "127.0.0.9"), 1)

    def resolve(config: Config) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("pinyon.app.run", resolve)
    assert "'nowhere.invalid' is not an address" in one_line(
        pinyon("serve", "--host", "nowhere.invalid", "--no-auth"), 2
    )


def test_it_serves_until_sigterm() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from pinyon.cli import main; main()", "serve", "--port", "0", "--precision", "f32"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    try:
        assert process.stderr is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/health", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) == 0, rest
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.communicate()
