"""A real process with the bundled model: signals, sudden death, clients that misbehave."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0  # seconds
PROGRAM = """
import json, sys
import msgspec
from pinyon.app import run
from pinyon.config import Config
from pinyon.http.logging import configure
configure("text")
run(msgspec.convert(json.loads(sys.argv[1]), Config))
"""
MODEL = "all-minilm-l6-v2"
# About 30,000 tokens: half a second of work and more on one core of today.
LARGE = [f"{number} " + "a long text about nothing in particular " * 8 for number in range(500)]


class Process:
    """The server as a process of its own; `lines` are those of its log."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        config = {"port": 0, "data_dir": str(folder), "threads": 1, **settings}
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(config)], stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()

    def line(self, pattern: str) -> str:
        """The first line of the log that holds `pattern`, once it is there."""
        with self._changed:
            there = self._changed.wait_for(lambda: any(re.search(pattern, line) for line in self.lines), DEADLINE)
            assert there, "".join(self.lines)
            return next(line for line in self.lines if re.search(pattern, line))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def url(self) -> str:
        match = re.search(r"url=(https?://127\.0\.0\.1:\d+)", self.line(" listening "))
        assert match is not None
        return match[1]

    def wait_ready(self) -> int:
        """The port, once the model is loaded."""
        self.line(r" ready$")
        return self.port

    def exit_status(self, seconds: float = DEADLINE) -> int:
        return self.popen.wait(seconds)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reading.join()
        assert self.popen.stderr is not None
        self.popen.stderr.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Process:
            process = Process(tmp_path, **settings)
            stack.callback(process.end)
            return process

        yield start


def connect(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.connect()
    return connection


def ask(connection: http.client.HTTPConnection, inputs: list[str]) -> None:
    body = json.dumps({"model": MODEL, "input": inputs, "encoding_format": "base64"})
    connection.request("POST", "/openai/v1/embeddings", body)


def embeddings(connection: http.client.HTTPConnection) -> list[Any]:
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    data: list[Any] = json.loads(body)["data"]
    return data


def in_flight(port: int) -> float:
    with contextlib.closing(connect(port)) as connection:
        connection.request("GET", "/metrics")
        numbers = connection.getresponse().read().decode()
    match = re.search(r"^pinyon_requests_in_flight (\S+)$", numbers, re.MULTILINE)
    assert match is not None
    return float(match[1])


def eventually(condition: Any) -> None:
    until = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "did not come about"
        pause.wait(0.005)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_starts_answers_and_stops_while_busy(processes: Any) -> None:
    process = processes()
    port = process.port
    with contextlib.closing(connect(port)) as early:
        early.request("GET", "/ready")
        answer = early.getresponse()
        assert (answer.status, answer.read()) in ((503, b'{"status":"loading"}'), (200, b'{"status":"ready"}'))
        early.request("GET", "/health")
        assert early.getresponse().read() == b'{"status":"ok"}'
        process.wait_ready()
        early.request("GET", "/ready")
        answer = early.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status":"ready"}')
        ask(early, ["a text", "another"])
        assert [item["index"] for item in embeddings(early)] == [0, 1]

        idle, busy = connect(port), connect(port)
        with contextlib.closing(idle), contextlib.closing(busy):
            ask(busy, LARGE)
            eventually(lambda: in_flight(port) == 1)
            process.popen.send_signal(signal.SIGTERM)
            eventually(lambda: refuses(port))
            assert process.popen.poll() is None, "it did not finish what was in flight"
            data = embeddings(busy)
            assert len(data) == len(LARGE)
            assert all(len(item["embedding"]) == 384 * 4 * 4 // 3 for item in data)
            assert idle.sock.recv(1) == b""
        assert process.exit_status() == 0
    process.line("stopping signal=SIGTERM in_flight=1")
    process.line(" stopped$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_at_once_when_idle(processes: Any, number: int) -> None:
    process = processes()
    port = process.wait_ready()
    with contextlib.closing(connect(port)) as used, contextlib.closing(connect(port)) as fresh:
        ask(used, ["a text"])
        assert len(embeddings(used)) == 1
        started = time.monotonic()
        process.popen.send_signal(number)
        assert process.exit_status() == 0
        assert time.monotonic() - started < 2
        assert used.sock.recv(1) == fresh.sock.recv(1) == b""


def test_a_second_signal_does_not_wait(processes: Any) -> None:
    process = processes()
    port = process.wait_ready()
    with contextlib.closing(connect(port)) as busy:
        ask(busy, LARGE * 4)
        eventually(lambda: in_flight(port) == 1)
        process.popen.send_signal(signal.SIGTERM)
        process.line("stopping signal=SIGTERM")
        process.popen.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.exit_status() == 0
        assert time.monotonic() - started < 3
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            busy.getresponse()
    process.line("stopping at once")


def test_what_takes_longer_than_it_may_is_cut_off(processes: Any) -> None:
    process = processes(limits={"shutdown_seconds": 1})
    port = process.wait_ready()
    with contextlib.closing(connect(port)) as slow:
        slow.putrequest("POST", "/v1/embeddings")
        slow.putheader("Content-Length", "1000")
        slow.endheaders(b"{")
        eventually(lambda: in_flight(port) == 1)
        started = time.monotonic()
        process.popen.send_signal(signal.SIGTERM)
        assert process.exit_status() == 0
        assert 0.9 < time.monotonic() - started < 5
    process.line("status=503")


def test_a_signal_while_the_model_loads(processes: Any) -> None:
    process = processes()
    with contextlib.closing(connect(process.port)) as connection:
        connection.request("GET", "/health")  # from here on it hears signals
        assert connection.getresponse().status == 200
        process.popen.send_signal(signal.SIGTERM)
        assert process.exit_status() == 0


def test_killed_and_started_again_on_the_same_port(processes: Any) -> None:
    port = 0
    held = []
    for _ in range(3):
        process = processes(port=port)
        port = process.wait_ready()
        connection = connect(port)
        held.append(connection)  # left open, so that the port is in TIME_WAIT or worse
        ask(connection, ["a text"])
        assert len(embeddings(connection)) == 1
        process.popen.kill()
        assert process.exit_status() == -signal.SIGKILL
    for connection in held:
        connection.close()


def test_a_client_that_never_reads_holds_up_nobody(processes: Any) -> None:
    process = processes()
    port = process.wait_ready()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with deaf, contextlib.closing(connect(port)) as other:
        deaf.connect(("127.0.0.1", port))
        body = json.dumps({"model": MODEL, "input": ["short"] * 2000}).encode()
        deaf.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        process.line("inputs=2000")  # it has been answered, as far as the server goes
        for _ in range(10):
            ask(other, ["a text"])
            assert len(embeddings(other)) == 1


def test_no_text_and_no_key_in_the_log(processes: Any) -> None:
    process = processes(api_keys=["KEY-1234"])
    port = process.wait_ready()
    with contextlib.closing(connect(port)) as connection:
        for key in ("KEY-1234", "WRONG-KEY"):
            body = json.dumps({"model": MODEL, "input": "SECRET-TEXT"})
            connection.request("POST", "/v1/embeddings", body, {"Authorization": f"Bearer {key}"})
            connection.getresponse().read()
    process.popen.send_signal(signal.SIGTERM)
    assert process.exit_status() == 0
    process.line("status=200")
    process.line("status=401")
    for text in ("SECRET-TEXT", "KEY-1234", "WRONG-KEY"):
        assert text not in "".join(process.lines)
