"""Processes of the store beside its own: how they are started, told what to do, and ended.

Starting Python with the engine takes over 0.1 s, so there is one process, the zygote (zygote.py), which has all that
they need and forks them. A process of the store's own ends with whoever started it: the zygote ends when the socket
between the two does, and Linux ends its children then. They ignore the signals of a terminal and of a service manager,
which are for the server.

parent                                          child
start: has it forked, on a socket of its own    begins with `main(socket, arguments, layout)` of its module
tell, says: a line there, a word back           `line`, `say`
end: kills it
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path

import msgspec

from pinyon.errors import Unavailable
from pinyon.stores.base import Layout

COPIED = b"copied\n"
DONE = b"done\n"

_REQUEST = struct.Struct("<cI")  # what to do; a length or a process
_ANSWER = struct.Struct("<i")
FORK, WAIT = b"F", b"W"
_ORPHANS_LIVE = 30.0  # seconds, at most


class Kind(Enum):
    """Whose `main` a child runs; see zygote.py."""

    CREATION = "creation"
    HOST = "host"
    COMPACTION = "compaction"
    SNAPSHOT = "snapshot"


class Task(msgspec.Struct, array_like=True, frozen=True):
    """What a child is started with."""

    kind: str
    root: str  # the store's folder
    arguments: list[str]
    layout: Layout


class Child:
    """A child, and this side's end of its socket."""

    def __init__(self, pid: int, socket: socket.socket) -> None:
        self.pid = pid
        self.socket = socket
        self._ended = False
        self._ending = threading.Lock()

    def tell(self, line: bytes) -> None:
        """One that has ended is no error: it shows in what it does not say."""
        with suppress(OSError):
            self.socket.sendall(line + b"\n")

    def says(self, word: bytes) -> bool:
        """Waits for a word. False: it said another, or ended before."""
        said = b""
        with suppress(OSError):
            while len(said) < len(word) and (more := self.socket.recv(len(word) - len(said))):
                said += more
        return said == word

    def pause(self) -> None:
        """Until it is told to go on. One that is paused can be killed."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Whoever waits for a word of it is told that it ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._ending:
            if not self._ended:
                os.kill(self.pid, number)  # until it is waited for, the number is its own

    def end(self) -> None:
        """Kills it, and waits until it is gone. A second time is no error."""
        self.kill()
        with self._ending:
            if not self._ended:
                self._ended = True
                with suppress(OSError):  # the zygote is dead, and so are its children
                    _ask(WAIT, self.pid)
        self.socket.close()

    @property
    def ended(self) -> bool:
        return self._ended


def start(kind: Kind, *arguments: str, root: Path, layout: Layout) -> Child:
    """`root`: the folder of the store that it works for. Blocks for some milliseconds; the first time until there is a
    zygote. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        task = msgspec.msgpack.encode(Task(kind.value, str(root), list(arguments), layout))
        for attempt in (1, 2):
            try:
                pid = _ask(FORK, len(task), task, theirs)
                break
            except OSError:  # the zygote was killed
                if attempt == 2:
                    raise
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(pid, ours)


# --- The zygote, as this process has it ------------------------------------------------------------------------------


class _Zygote:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.socket = ours
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pinyon.stores.edge.zygote", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # The zygote must have no threads when it forks, and its children do no linear algebra.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )
        self.owner = os.getpid()

    def close(self) -> None:
        """Its children end with it."""
        self.socket.close()
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()


_zygote: _Zygote | None = None
_asking = threading.Lock()


def prepare() -> None:
    """Has the zygote started, and does not wait for it."""
    with _asking:
        _of_this_process()


def _of_this_process() -> _Zygote:
    global _zygote
    if _zygote is not None and _zygote.owner != os.getpid():
        _zygote.socket.close()  # a forked process has its parent's
        _zygote = None
    if _zygote is None:
        _zygote = _Zygote()
        atexit.register(_zygote.close)
    return _zygote


def _ask(what: bytes, number: int, task: bytes = b"", passed: socket.socket | None = None) -> int:
    """Raises OSError: it does not answer, and the next call has another."""
    global _zygote
    with _asking:
        zygote = _of_this_process()
        try:
            head = _REQUEST.pack(what, number)
            if passed is None:
                zygote.socket.sendall(head)
            else:
                socket.send_fds(zygote.socket, [head], [passed.fileno()])
                zygote.socket.sendall(task)
            answer: int = _ANSWER.unpack(_exactly(zygote.socket, _ANSWER.size))[0]
            return answer
        except OSError:
            atexit.unregister(zygote.close)
            zygote.close()
            _zygote = None
            raise


def _exactly(stream: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = stream.recv(length - len(data))
        if not more:
            raise ConnectionResetError("The other end is closed")
        data += more
    return data


def wait_for_orphans(root: Path) -> None:
    """Until the children of a killed server are dead: Linux ends them some milliseconds after it, and until then they
    may write. Blocks. Raises Unavailable."""
    deadline = time.monotonic() + _ORPHANS_LIVE
    held = os.open(root, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("The store's folder is in use by processes of an earlier server") from None
                time.sleep(0.002)
    finally:
        os.close(held)


# --- In the zygote ---------------------------------------------------------------------------------------------------


def next_request(control: socket.socket) -> tuple[bytes, int, Task | None, int | None]:
    """What to do, a process, the task and the file of the socket for it. Raises OSError when there is nobody to ask."""
    head, files, _, _ = socket.recv_fds(control, _REQUEST.size, 1)
    if not head:
        raise ConnectionResetError
    if len(head) < _REQUEST.size:
        head += _exactly(control, _REQUEST.size - len(head))
    what, number = _REQUEST.unpack(head)
    if what == WAIT:
        return what, number, None, None
    task = msgspec.msgpack.decode(_exactly(control, number), type=Task)
    return what, 0, task, files[0]


def answer(control: socket.socket, number: int) -> None:
    control.sendall(_ANSWER.pack(number))


# --- In a child ------------------------------------------------------------------------------------------------------


def say(stream: socket.socket, word: bytes) -> None:
    stream.sendall(word)


def line(stream: socket.socket) -> bytes:
    """The next line that it is told. Raises ConnectionResetError: there is none any more."""
    told = b""
    while not told.endswith(b"\n"):
        told += _exactly(stream, 1)
    return told[:-1]


def hold(root: str) -> int:
    """Keeps the next server from the store's folder while this process lives; see wait_for_orphans."""
    held = os.open(root, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def is_alone(stream: socket.socket) -> bool:
    """Whether the other end is closed, and nothing was said before."""
    try:
        return not stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def failed(what: str) -> Unavailable:
    return Unavailable(f"{what} failed: its process ended early, or the disk is full")
