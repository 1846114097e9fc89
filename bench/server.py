"""`pinyon serve` in a process of its own, and what the system says of a process."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    url: str
    pid: int
    started: float  # time.monotonic() when its process was started
    ready_seconds: float  # from then to the first 200 of /ready
    folder: Path  # of its data


@contextlib.contextmanager
def server(precision: str = "auto", folder: Path | None = None) -> Iterator[Server]:
    """With its defaults, on a free port; with data of its own, or in a folder that may have some."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = [sys.executable, "-m", "pinyon", "serve"]
        command += ["--port", "0", "--precision", precision, "--data-dir", str(folder)]
        started = time.monotonic()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
        stack.callback(_end, process)
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            if (found := re.search(r"http://[0-9.:]+", line)) is not None:
                url = found[0]
                break
        if not url:
            raise RuntimeError("the server did not start")
        # Whatever else it logs goes on being read, or its pipe would fill up and hold it.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        process.stderr.close()
        stack.callback(drain.wait, 30)
        stack.callback(_end, process)
        while not _is_ready(url):
            if process.poll() is not None:
                raise RuntimeError("the server ended")
            time.sleep(0.005)
        yield Server(url, process.pid, started, time.monotonic() - started, folder)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def processor_seconds(pid: int) -> float:
    """Of processor time that a process and its children have used, those that have ended and were waited for too."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):  # it ended meanwhile
            ticks += sum(map(int, _stat(each)[11:15]))
    return ticks / _TICKS


def memory(pid: int) -> dict[str, int]:
    """Bytes that a process and its children have in memory: Rss; Pss, where pages that others have too count in part;
    Anonymous, which are no file's."""
    kinds = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    for each in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                kind, _, rest = line.partition(":")
                if kind in kinds:
                    kinds[kind] += int(rest.split()[0]) * 1024
    return kinds


def peak_memory(pid: int) -> int:
    """Bytes of memory that one process had at its most (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def name(pid: int) -> str:
    """What a process calls itself."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def family(pid: int) -> list[int]:
    """A process, its children, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
