"""The process from which the store's others are forked: it has imported what they need, and has no threads.

python -m pinyon.stores.edge.zygote FILE-DESCRIPTOR-OF-ITS-SOCKET

It forks and waits for children as child.py asks it to, and ends when nobody can ask any more. Children that nobody has
waited for stay as they are, so that no number of a process is used again while somebody may still kill by it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress

from pinyon.stores.edge import child, compaction, creation, host, snapshot

_MAINS = {
    child.Kind.CREATION.value: creation.main,
    child.Kind.HOST.value: host.main,
    child.Kind.COMPACTION.value: compaction.main,
    child.Kind.SNAPSHOT.value: snapshot.main,
}


def main(control: socket.socket) -> None:
    """Until the store's process has ended, or closed it."""
    with suppress(ConnectionError):
        while True:
            _answer(control)


def _answer(control: socket.socket) -> None:
    what, pid, task, file = child.next_request(control)
    if what == child.WAIT:
        with suppress(ChildProcessError):  # waited for before
            os.waitpid(pid, 0)
        child.answer(control, 0)
        return
    assert task is not None and file is not None
    parent = os.getpid()
    try:
        made = os.fork()
    except OSError as error:
        made = -(error.errno or 1)
    if made == 0:
        control.close()
        _begin(parent, task, socket.socket(fileno=file))
    os.close(file)
    child.answer(control, made)


def _begin(parent: int, task: child.Task, stream: socket.socket) -> None:
    """Never returns: what comes behind it is the zygote's."""
    try:
        _end_with(parent)
        _call_this(task.kind)
        child.hold(task.root)
        if child.is_alone(stream):
            return  # a server that was killed asked for it, and the next one may have the folder by now
        _MAINS[task.kind](stream, task.arguments, task.layout)
    except ConnectionError:
        pass  # nobody is left to work for
    except BaseException as error:
        # not its message, which could quote a record
        print(f"{task.kind}: {type(error).__name__}", *traceback.format_tb(error.__traceback__), file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(0)


def _call_this(name: str) -> None:
    """What `ps` and `top` show, where a process can say so."""
    if sys.platform == "linux":
        set_name = 15  # PR_SET_NAME
        ctypes.CDLL(None).prctl(set_name, name.encode())


def _end_with(parent: int) -> None:
    """Ends this process when its parent ends. Asks Linux for it; elsewhere one ends when its socket does."""
    if sys.platform == "linux":
        parent_death = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(parent_death, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    gc.freeze()  # or a collection of a child would touch, and so copy, what it shares with the others
    main(socket.socket(fileno=int(sys.argv[1])))
