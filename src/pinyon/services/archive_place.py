"""Where archives are: a folder, or one in an object store. Knows files and their names, and nothing of what they hold.

All of it blocks, and raises OSError or ArrowException.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinyon.services.azure import open_uri

if TYPE_CHECKING:  # it takes a quarter of a second to import, which a server that starts has no use for
    import pyarrow as pa
    import pyarrow.fs as pafs

MANIFEST = "manifest.json"


class Place:
    """Where archives are: a local folder, or the URI of a folder in an object store (s3://, gs://, abfs://)."""

    def __init__(self, where: str) -> None:
        """Reaches for nothing yet."""
        self._where = where
        self._local = None if "://" in where else Path(where).expanduser().absolute()

    @cached_property
    def _root(self) -> tuple[pafs.FileSystem, str]:
        from pyarrow import fs as pafs

        if self._local is not None:
            return pafs.LocalFileSystem(), str(self._local)
        is_azure = self._where.startswith(("abfs://", "abfss://"))
        filesystem, path = (open_uri if is_azure else pafs.FileSystem.from_uri)(self._where)
        return filesystem, path.rstrip("/")

    def _path(self, *names: str) -> str:
        return "/".join((self._root[1], *names))

    def make(self, id: str) -> None:
        """A folder for an archive. Object stores have none, and need none."""
        if self._local is not None:
            self._local.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._local / id).mkdir(mode=0o700, exist_ok=True)

    def writing(self, id: str, name: str) -> pa.NativeFile:
        return self._root[0].open_output_stream(self._path(id, name))

    def reading(self, id: str, name: str) -> pa.NativeFile:
        """Raises FileNotFoundError."""
        if not self._is_there(id, name):
            raise FileNotFoundError
        return self._root[0].open_input_stream(self._path(id, name))

    def _is_there(self, *names: str) -> bool:
        """Asked, since not every object store tells from its other errors that something is missing."""
        from pyarrow import fs as pafs

        info: Any = self._root[0].get_file_info(self._path(*names))
        return bool(info.type != pafs.FileType.NotFound)

    def put(self, id: str, name: str, data: bytes) -> None:
        """A file that is whole or absent: an object appears when all of it is there, a local one by its rename."""
        new = name if self._local is None else f"{name}.new"
        with self.writing(id, new) as file:
            file.write(data)
        if self._local is not None:
            self.sync(id, new)
            (self._local / id / new).rename(self._local / id / name)
            for folder in (self._local / id, self._local, self._local.parent):
                _sync(folder)

    def sync(self, id: str, name: str) -> None:
        """Makes a file that was written last."""
        if self._local is not None:
            _sync(self._local / id / name)

    def remove(self, id: str) -> None:
        """The manifest first: what is half removed is no archive. One that is not there is no error."""
        if self._is_there(id, MANIFEST):
            self._root[0].delete_file(self._path(id, MANIFEST))
        if self._is_there(id):
            self._root[0].delete_dir(self._path(id))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
