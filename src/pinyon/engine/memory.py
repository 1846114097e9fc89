"""How much memory a model takes, and how much there is for models."""

from __future__ import annotations

import math
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pinyon.config import Precision

# Of a parameter, loaded: measured on a BERT of 152 million, what is mapped from the file included. OpenVINO keeps the
# weights beside those in its kernels' order. With a file of f32 and with one of bf16 these were: f32 8.9 and 9.3,
# bf16 4.8 and 4.6, int8 7.0 and 3.0.
_BYTES_PER_PARAMETER = {"f32": 9.0, "bf16": 5.0, "int8": 7.0}
# Of a run: what grows with a batch and not with the model.
_RUNNING_BYTES = 64_000_000


def model_bytes(parameters: int, precision: Precision) -> int:
    """What a model of so many parameters takes in memory, about; `precision` is not "auto"."""
    return int(parameters * _BYTES_PER_PARAMETER[precision]) + _RUNNING_BYTES


def parameter_count(folder: Path) -> int:
    """How many numbers a folder's weights are. 0 for a folder that cannot be read: loading says why."""
    sharded = (folder / "model.safetensors.index.json").is_file()
    found = 0
    for path in folder.glob("model-*.safetensors" if sharded else "model.safetensors"):
        try:
            with safe_open(path, framework="numpy") as file:
                found += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            return 0
    return found


def machine_bytes() -> int | None:
    """What this process may use: the machine's, or what a container leaves of it. None if not known."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return total


def budget_bytes(budget: str) -> int | None:
    """What the setting `memory_budget` is: "8GB", "500MB", or "80%" of what this process may use. None: no bound."""
    number, unit = budget[:-1], budget[-1]
    if unit == "%":
        total = machine_bytes()
        return None if total is None else int(total * float(number) / 100)
    return int(float(budget[:-2]) * {"MB": 1e6, "GB": 1e9}[budget[-2:]])
