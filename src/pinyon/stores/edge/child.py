"""Processes that copy a shard and work on the copy: how they are started, told what to copy, and ended.

parent                                           child
start: starts it, and waits                      begin: is tied to its parent; `say` READY once it has its imports
tell: which writes to copy, while they are held  reads one line, copies, says COPIED
goes on                                          works, at a low priority

python -m MODULE PARENT ARGUMENT... DIMENSION METRIC
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress

from pinyon.stores.base import Layout, Metric
from pinyon.stores.edge.journal import write_all

READY = b"ready\n"
COPIED = b"copied\n"

# --- in the parent ---------------------------------------------------------------------------------------------------


def start(module: str, *arguments: str, layout: Layout) -> subprocess.Popen[bytes]:
    """The calling thread must live until the child ends: it is killed with it. Raises OSError."""
    dimension = "-" if layout.dimension is None else str(layout.dimension)
    return subprocess.Popen(
        [sys.executable, "-m", module, str(os.getpid()), *arguments, dimension, layout.metric.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def tell(child: subprocess.Popen[bytes], line: bytes) -> None:
    """All that it is ever told. One that has ended is no error: it shows in what it does not say."""
    assert child.stdin is not None
    with suppress(OSError), child.stdin:
        child.stdin.write(line + b"\n")


def says(child: subprocess.Popen[bytes], word: bytes) -> bool:
    """Waits for a word. False: it ended before."""
    assert child.stdout is not None
    return child.stdout.read(len(word)) == word


def end(child: subprocess.Popen[bytes]) -> None:
    """Kills it. A second time is no error."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


# --- in the child ----------------------------------------------------------------------------------------------------


def begin(arguments: list[str]) -> tuple[list[str], Layout]:
    """Ends this process when the thread that started it ends. Gives the command line's own arguments, and the layout.

    Asks Linux for it; elsewhere an orphan works on for nothing, in a folder that no one names.
    """
    parent, *own, dimension, metric = arguments
    if sys.platform == "linux":
        parent_death = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(parent_death, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before
        sys.exit(1)
    return own, Layout(None if dimension == "-" else int(dimension), Metric(metric))


def say(word: bytes) -> None:
    write_all(sys.stdout.fileno(), word)
