"""A model folder's weights: the safetensors files, mapped into memory.

Nothing is unpickled, and nothing is copied: a tensor is a view of its file. Everything that is wrong with a file is one
ModelError that names it.
"""

from __future__ import annotations

import math
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from pinyon.engine.backends import Weight


class ModelError(Exception):
    """A model folder that cannot be used: one sentence, with the file in it."""


_LAYER = re.compile(r"\.\d+\.")
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Stored:
    path: Path
    memory: mmap.mmap
    entry: _Entry
    start: int  # of the data in the file


class SafetensorsWeights:
    """A folder's `model.safetensors`, or the shards that `model.safetensors.index.json` lists.

    Files stay mapped as long as a tensor of theirs is in use; whoever changes a file in place changes the model.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        """`prefix` may stand before a name in the file. Raises ModelError."""
        self.folder = folder
        self._prefixes = ("", prefix)
        self._tensors: dict[str, _Stored] = {}
        self._asked: set[str] = set()  # tensors, by their names in the files
        for shard in _shards(folder):
            self._map(folder / shard)

    def _map(self, path: Path) -> None:
        if not path.is_file():
            pickled = next((file.name for pattern in ("*.bin", "*.pt") for file in path.parent.glob(pattern)), None)
            hint = f"; {pickled} is a pickle, which Pinyon does not read" if pickled else ""
            raise ModelError(f"{path}: there is no such file, and weights are read from safetensors only{hint}")
        try:
            with safe_open(path, framework="numpy"):  # checks that the header is right and the file whole
                pass
            with path.open("rb") as file:
                # Private: a backend asks for memory that could be written, and never writes.
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            size = int.from_bytes(memory[:8], "little")
            header = msgspec.json.decode(memory[8 : 8 + size])
            header.pop("__metadata__", None)
            entries = msgspec.convert(header, dict[str, _Entry])
        except (SafetensorError, OSError, ValueError, msgspec.MsgspecError) as error:
            raise ModelError(f"{path}: not a whole safetensors file: {error}") from None
        for name, entry in entries.items():
            self._tensors[name] = _Stored(path, memory, entry, 8 + size + entry.data_offsets[0])

    def __call__(self, name: str) -> Weight:
        """A tensor. Raises ModelError if there is none of this name, or not in a float type."""
        stored = self._find(name)
        kinds: dict[str, tuple[Any, Literal["F32", "F16", "BF16"]]] = {
            "F32": ("<f4", "F32"), "F16": ("<f2", "F16"), "BF16": ("<u2", "BF16"), "F64": ("<f8", "F32"),
        }  # fmt: skip
        shape, dtype = stored.entry.shape, stored.entry.dtype
        if dtype not in kinds:
            raise ModelError(f"{stored.path}: tensor {name!r} is {dtype}, not a float type")
        numpy_type, form = kinds[dtype]
        array = np.frombuffer(stored.memory, numpy_type, math.prod(shape), stored.start).reshape(shape)
        return Weight(array.astype(np.float32) if dtype == "F64" else array, form)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._find(name).entry.shape

    def _find(self, name: str) -> _Stored:
        if (stored := self._search(name)) is None:
            raise ModelError(f"{self.path}: has no tensor {name!r}, which its config.json asks for")
        return stored

    def _search(self, name: str) -> _Stored | None:
        for prefix in self._prefixes:
            for candidate in (prefix + name, *(prefix + old for old in _old_names(name))):
                if candidate in self._tensors:
                    self._asked.add(candidate)
                    return self._tensors[candidate]
        return None

    @property
    def path(self) -> Path:
        """The file that says which tensors there are."""
        index = self.folder / INDEX
        return index if index.is_file() else self.folder / WHOLE

    def check_layers(self) -> None:
        """Raises ModelError if there is a tensor like those that were asked for, but of a layer that nobody knows."""
        known = {_LAYER.sub(".#.", name) for name in self._asked}
        for name in sorted(self._tensors.keys() - self._asked):
            if _LAYER.search(name) and _LAYER.sub(".#.", name) in known:
                raise ModelError(f"{self.path}: has tensor {name!r}, of a layer that its config.json does not know of")


def _shards(folder: Path) -> list[str]:
    index = folder / INDEX
    if not index.is_file():
        return [WHOLE]
    try:
        listed: Any = msgspec.json.decode(index.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{index}: not readable as a list of shards: {error}") from None
    files = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(files, dict) or not all(isinstance(shard, str) for shard in files.values()):
        raise ModelError(f"{index}: has no weight_map of tensor names to files")
    if any(Path(shard).name != shard for shard in files.values()):
        raise ModelError(f"{index}: lists a file outside its folder")
    return sorted(set(files.values()))


def _old_names(name: str) -> tuple[str, ...]:
    """What TensorFlow called the weight and bias of a layer normalisation; old BERT checkpoints still do."""
    stem, _, last = name.rpartition(".")
    if not stem.endswith("LayerNorm"):
        return ()
    return (f"{stem}.{'gamma' if last == 'weight' else 'beta'}",)
