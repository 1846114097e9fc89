"""The names of an index's records, kept in a file, since to ask the engine for them takes a second for each 60,000.

    <folder>/names-<sequence>.bin     crc32 (4 bytes), then namespace -> ids, as of that write

Only a file of the sequence that the manifest says is read; without one the engine is asked.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from pinyon.stores.edge.journal import sync_folder, write_all

_PREFIX, _SUFFIX = "names-", ".bin"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, list[str]]).decode


def save(folder: Path, sequence: int, names: Mapping[str, Iterable[str]]) -> None:
    """Written and synced. Raises OSError."""
    body = _encode({namespace: list(ids) for namespace, ids in names.items()})
    handle = os.open(_path(folder, sequence), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(handle, zlib.crc32(body).to_bytes(4, "little") + body)
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(folder)


def load(folder: Path, sequence: int) -> dict[str, list[str]] | None:
    """None: there is no file of that write, or it is damaged."""
    try:
        data = _path(folder, sequence).read_bytes()
    except FileNotFoundError:
        return None
    if zlib.crc32(data[4:]).to_bytes(4, "little") != data[:4]:
        return None
    try:
        return _decode(data[4:])
    except msgspec.DecodeError:
        return None


def forget(folder: Path, sequence: int) -> None:
    """Removes the files of all other writes."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if path != _path(folder, sequence):
            path.unlink(missing_ok=True)


def _path(folder: Path, sequence: int) -> Path:
    return folder / f"{_PREFIX}{sequence:020}{_SUFFIX}"
