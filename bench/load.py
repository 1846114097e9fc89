"""A client that costs as little as one can, in a process of its own: requests whose bytes are ready, over raw sockets.

The event loop is `select`, which waits to the microsecond, where epoll as Python has it waits whole milliseconds: a
request is sent when it is due, not a millisecond later.

    python -m bench.load         reads a Job, behind its size in 8 bytes; writes a byte, then its Outcome; all msgpack
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

ROOT = Path(__file__).parent.parent  # of the repository: where modules of `bench` can be run
_MOST = 1 << 20  # bytes read at once


class Job(msgspec.Struct):
    host: str
    port: int
    requests: list[bytes]  # sent in turn, from the first again after the last
    count: int  # how many to send
    connections: int
    # Seconds from the start at which each is due, rising; None: a connection sends its next one as it has its answer.
    due: list[float] | None = None
    seconds: float = math.inf  # after which no more are sent
    keep: bool = False  # the answers' bodies too


class Outcome(msgspec.Struct):
    started: float  # time.monotonic(), which all processes share
    seconds: float
    sent: list[float]  # when each request was due, or was sent where none is, from the start
    latencies: list[float]  # seconds from then to its answer
    processor: float  # seconds of processor time of the client itself
    bodies: list[bytes]  # in order of the requests

    def quantile(self, part: float) -> float:
        return quantile(self.latencies, part)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part does not exceed: no value is made up between two."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of independent arrivals, as those of many clients that know nothing of each other."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    times: list[float] = np.cumsum(gaps).tolist()
    return times


class _Answer:
    """What came of an answer so far."""

    def __init__(self, number: int, due: float) -> None:
        self.number = number
        self.due = due
        self._data = b""
        self._head = -1
        self._length = -1

    def add(self, data: bytes) -> bool:
        """Whether it is whole now. Raises RuntimeError unless it is a success."""
        self._data += data
        if self._head < 0:
            self._head = self._data.find(b"\r\n\r\n")
            if self._head < 0:
                return False
            head = self._data[: self._head].lower()
            if not head.startswith(b"http/1.1 2"):
                raise RuntimeError(self._data[:500].decode("utf-8", "replace"))
            start = head.index(b"content-length:") + 15
            self._length = self._head + 4 + int(head[start:].split(b"\r\n", 1)[0])
        return len(self._data) >= self._length

    @property
    def body(self) -> bytes:
        return self._data[self._head + 4 :]


def run(job: Job, stop: int | None = None) -> Outcome:
    """Sends everything; ends early, with what is on its way answered, when the file `stop` ends."""
    with contextlib.ExitStack() as stack:
        made = [socket.create_connection((job.host, job.port)) for _ in range(job.connections)]
        for one in made:
            stack.enter_context(one)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _run(job, made, stop)


def _run(job: Job, sockets: list[socket.socket], stop: int | None) -> Outcome:
    idle = deque(sockets)
    busy: dict[socket.socket, _Answer] = {}
    watched: list[socket.socket | int] = [] if stop is None else [stop]
    done: list[tuple[int, float, float, bytes]] = []
    due, requests, count, next_one = job.due, job.requests, job.count, 0
    processor = time.process_time()
    started = time.monotonic()
    while busy or next_one < count:
        now = time.monotonic() - started
        if now > job.seconds:
            count = next_one
        wait: float | None = None
        while idle and next_one < count:
            at = now if due is None else due[next_one]
            if at > now:
                wait = at - now
                break
            one = idle.popleft()
            one.sendall(requests[next_one % len(requests)])
            busy[one] = _Answer(next_one, at)
            next_one += 1
        for ready in select.select([*busy, *watched], [], [], wait)[0]:
            if isinstance(ready, int):
                count, watched = next_one, []
                continue
            data = ready.recv(_MOST)
            if not data:
                raise ConnectionError("the server closed the connection")
            answer = busy[ready]
            if answer.add(data):
                latency = time.monotonic() - started - answer.due
                done.append((answer.number, answer.due, latency, answer.body if job.keep else b""))
                del busy[ready]
                idle.append(ready)
    seconds = time.monotonic() - started
    done.sort(key=lambda entry: entry[0])
    _, sent, latencies, bodies = (list(column) for column in zip(*done, strict=True)) if done else ([], [], [], [])
    spent = time.process_time() - processor
    return Outcome(started, seconds, sent, latencies, spent, bodies if job.keep else [])


@dataclass
class Running:
    """A load that is under way in another process."""

    _process: subprocess.Popen[bytes]
    _answer: bytes = b""
    _reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)  # so that it never waits for us
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._answer = self._process.stdout.read()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> Outcome:
        """Sends no more."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        return self.outcome()

    def outcome(self) -> Outcome:
        """Waits for it. Raises RuntimeError if it failed: an answer was none."""
        self._process.wait()
        self._reader.join()
        if self._process.returncode:
            raise RuntimeError("the load failed: see above")
        return msgspec.msgpack.decode(self._answer, type=Outcome)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def start(job: Job) -> Iterator[Running]:
    """A load in a process of its own, which has sent its first request, or is about to, when this yields."""
    command = [sys.executable, "-m", "bench.load"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None and process.stdout is not None
    data = msgspec.msgpack.encode(job)
    process.stdin.write(len(data).to_bytes(8, "little") + data)
    process.stdin.flush()
    process.stdout.read(1)
    running = Running(process)
    try:
        yield running
    finally:
        running.end()


def drive(job: Job) -> Outcome:
    """A load from its start to its end."""
    with start(job) as running:
        return running.outcome()


def main() -> None:
    commands = sys.stdin.fileno()  # not buffered: `select` must see what is left
    size = int.from_bytes(_read(commands, 8), "little")
    job = msgspec.msgpack.decode(_read(commands, size), type=Job)
    gc.collect()
    gc.freeze()
    gc.disable()
    os.write(sys.stdout.fileno(), b".")
    sys.stdout.buffer.write(msgspec.msgpack.encode(run(job, commands)))


def _read(file: int, size: int) -> bytes:
    parts = []
    while size and (part := os.read(file, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
