"""Archives: what an index held at one moment, as files that any tool reads. Backups and collections are made of them.

    <place>/<id>/part-00000.parquet ...   namespace, id, values, sparse_indices, sparse_values, metadata (JSON)
    <place>/<id>/manifest.json            format; sha256 of the rest; id, description, namespaces with their numbers of
                                          records, and of each part: rows, bytes, sha256

The manifest is written last, whole or not at all: without it there is no archive. Every byte is under a checksum, and
all are checked before `open_archive` gives anything; a part is checked again when it is read. Knows no store, only
snapshots and records. Blocking work runs on threads; of an archive of any size, one part at most is in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import msgspec
import orjson

from pinyon.errors import FailedPrecondition, Unavailable
from pinyon.services.archive_place import MANIFEST, Place
from pinyon.stores.base import Record, Snapshot

if TYPE_CHECKING:  # it takes a quarter of a second to import, which a server that starts has no use for
    from pinyon.services.archive_parts import PartWriter

FORMAT = 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
# Of a URL, as storages' errors quote it: a SAS token's signature, and a key before the host.
_SECRET = re.compile(r"(?<=[?&]sig=)[^&\s]+|(?<=://)[^/@\s]+(?=@)")
_PART_ROWS, _PART_BYTES = 50_000, 64 << 20  # bytes before compression
_GROUP_ROWS, _GROUP_BYTES = 5_000, 16 << 20  # of what waits to be written, at once
_BLOCK = 1 << 20
P = ParamSpec("P")
T = TypeVar("T")
Report = Callable[[float, Mapping[str, Any]], Awaitable[None]]  # percent, progress; what it raises ends the work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    record_count: int
    namespaces: Mapping[str, int]  # records of each
    size_bytes: int  # of all its files


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    rows: Annotated[int, msgspec.Meta(gt=0)]
    bytes: Annotated[int, msgspec.Meta(gt=0)]
    sha256: str


class _Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    description: dict[str, Any]
    namespaces: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    parts: list[_Part]


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    sha256: str  # of the bytes of `contents`
    contents: msgspec.Raw


class _Format(msgspec.Struct, frozen=True):
    """What every format's manifest says."""

    format: int


async def _ignore(percent: float, progress: Mapping[str, Any]) -> None:
    pass


async def write_archive(
    place: Place, id: str, snapshot: Snapshot, describe: Mapping[str, Any], report: Report = _ignore
) -> ArchiveInfo:
    """Writes all that a snapshot holds, in place of what is there under this id. The snapshot stays the caller's to
    close.

    `describe`: JSON values that come back as `Archive.description`. `report` is called after every few thousand records
    with {"records": how many}. Raises Unavailable, and whatever `report` raises; nothing is left then.
    """
    writing = _Writing(place, _checked(id))
    total = sum(snapshot.namespaces.values())
    with _Thread() as thread:
        try:
            await thread.run(writing.begin)
            async for namespace, records in snapshot.batches():
                if await thread.run(writing.add, namespace, records):
                    await report(100 * writing.written / total, {"records": writing.written})
            return await thread.run(writing.finish, describe, snapshot.namespaces)
        except BaseException:
            with suppress(Unavailable):
                await asyncio.shield(asyncio.create_task(thread.run(writing.abandon)))
            raise


async def open_archive(place: Place, id: str) -> Archive:
    """Checks every byte of it first. Raises FailedPrecondition: it is missing, damaged or of a later format;
    Unavailable: the place cannot be read."""
    with _Thread() as thread:
        return await thread.run(_opened, place, _checked(id))


async def delete_archive(place: Place, id: str) -> None:
    """One that is not there, or only in part, is no error. Raises Unavailable."""
    with _Thread() as thread:
        await thread.run(place.remove, _checked(id))


class Archive:
    """An archive that was whole when it was opened."""

    def __init__(self, place: Place, contents: _Contents, size_bytes: int) -> None:
        self.description: Mapping[str, Any] = contents.description
        self.info = ArchiveInfo(sum(contents.namespaces.values()), contents.namespaces, size_bytes)
        self._place = place
        self._id = contents.id
        self._parts = contents.parts

    async def batches(self, *, skip: int = 0) -> AsyncIterator[tuple[str, Sequence[Record]]]:
        """Every record once, in the order they were written, which never changes: a namespace, and at most 1,000
        records of it. Namespaces without records are in `info` alone.

        skip: how many records to leave out at the beginning. Raises FailedPrecondition: it was damaged meanwhile;
        Unavailable.
        """
        with _Thread() as thread:
            batches = self._batches(skip)
            while (batch := await thread.run(next, batches, None)) is not None:
                yield batch

    def _batches(self, skip: int) -> Iterator[tuple[str, list[Record]]]:
        for part in self._parts:
            if part.rows <= skip:
                skip -= part.rows
                continue
            from pinyon.services.archive_parts import read_part

            data = _load(self._place, self._id, part)
            try:
                yield from read_part(data, part.rows, skip)
            except (ValueError, OSError):  # the checksum is right, and yet it is none of ours
                raise FailedPrecondition(f"The archive is damaged: {part.name} does not hold what it should") from None
            skip = 0


# --- Writing


class _Writing:
    """An archive that comes to be. Blocking, and for one thread."""

    def __init__(self, place: Place, id: str) -> None:
        self.written = 0  # records in row groups
        self._place = place
        self._id = id
        self._parts: list[_Part] = []
        self._counts: Counter[str] = Counter()
        self._rows: list[tuple[str, Record, str]] = []  # namespace, record, metadata
        self._size = 0  # of those rows
        self._part: PartWriter | None = None

    def begin(self) -> None:
        self._place.remove(self._id)
        self._place.make(self._id)

    def add(self, namespace: str, records: Sequence[Record]) -> bool:
        """Whether `written` rose."""
        before = self.written
        for record in records:
            metadata = orjson.dumps(dict(record.metadata)).decode()
            self._rows.append((namespace, record, metadata))
            self._size += _size(record) + 2 * len(metadata)
            if len(self._rows) >= _GROUP_ROWS or self._size >= _GROUP_BYTES:
                self._write_group()
        self._counts[namespace] += len(records)
        return self.written > before

    def _write_group(self) -> None:
        if self._part is None:
            from pinyon.services.archive_parts import PartWriter

            self._part = PartWriter(self._place.writing(self._id, _part_name(len(self._parts))))
        self._part.write(self._rows, self._size)
        self.written += len(self._rows)
        self._rows, self._size = [], 0
        if self._part.rows >= _PART_ROWS or self._part.size >= _PART_BYTES:
            self._end_part()

    def _end_part(self) -> None:
        if (part := self._part) is not None:
            part.close()
            name = _part_name(len(self._parts))
            self._place.sync(self._id, name)
            self._parts.append(_Part(name, part.rows, part.length, part.sha256))
            self._part = None

    def finish(self, describe: Mapping[str, Any], namespaces: Mapping[str, int]) -> ArchiveInfo:
        if self._rows:
            self._write_group()
        self._end_part()
        if self._counts != Counter(namespaces):  # equal where a missing one has none
            raise Unavailable("A snapshot did not give the records that it counted")
        contents = msgspec.json.encode(_Contents(self._id, dict(describe), dict(namespaces), self._parts))
        manifest = msgspec.json.encode(_Manifest(FORMAT, hashlib.sha256(contents).hexdigest(), msgspec.Raw(contents)))
        self._place.put(self._id, MANIFEST, manifest)
        return ArchiveInfo(self.written, dict(namespaces), _size_bytes(self._parts, manifest))

    def abandon(self) -> None:
        if self._part is not None:
            self._part.abandon()
        self._place.remove(self._id)


def _size(record: Record) -> int:
    dense, sparse = record.values, record.sparse
    numbers = (0 if dense is None else len(dense)) + 2 * (0 if sparse is None else len(sparse.values))
    return 64 + len(record.id) + 4 * numbers


# --- Reading


def _opened(place: Place, id: str) -> Archive:
    try:
        data = b"".join(_blocks(place, id, MANIFEST))
    except FileNotFoundError:
        raise FailedPrecondition("The archive is missing, or was never finished") from None
    contents = _read_manifest(data, id)
    for part in contents.parts:
        _load(place, id, part, keep=False)
    return Archive(place, contents, _size_bytes(contents.parts, data))


def _read_manifest(data: bytes, id: str) -> _Contents:
    """Raises FailedPrecondition."""
    damaged = FailedPrecondition("The archive is damaged: its manifest is not as it was written")
    try:
        found = msgspec.json.decode(data, type=_Format).format
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise damaged from None
    if found > FORMAT:
        raise FailedPrecondition(
            f"The archive was written by a later Pinyon: its format is {found}, and this one reads {FORMAT}"
        )
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
        if found != FORMAT or hashlib.sha256(manifest.contents).hexdigest() != manifest.sha256:
            raise damaged
        contents = msgspec.json.decode(manifest.contents, type=_Contents)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise damaged from None
    if [part.name for part in contents.parts] != [_part_name(number) for number in range(len(contents.parts))]:
        raise damaged
    if contents.id != id or sum(part.rows for part in contents.parts) != sum(contents.namespaces.values()):
        raise damaged
    return contents


def _load(place: Place, id: str, part: _Part, *, keep: bool = True) -> bytes:
    """The bytes of a part, checked; or none of them. Raises FailedPrecondition."""
    digest, length, kept = hashlib.sha256(), 0, []
    try:
        for block in _blocks(place, id, part.name):
            digest.update(block)
            length += len(block)
            if length > part.bytes:
                break
            if keep:
                kept.append(block)
    except FileNotFoundError:
        raise FailedPrecondition(f"The archive is damaged: {part.name} is missing") from None
    if length != part.bytes or digest.hexdigest() != part.sha256:
        raise FailedPrecondition(f"The archive is damaged: {part.name} is not as it was written")
    return b"".join(kept)


def _blocks(place: Place, id: str, name: str) -> Iterator[bytes]:
    with place.reading(id, name) as file:
        while block := file.read(_BLOCK):
            yield block


# --- What both share


class _Thread:
    """One thread, on which things block one after the other; what was begun there ends before what follows."""

    def __enter__(self) -> _Thread:
        self._executor = ThreadPoolExecutor(1, "archive")
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(wait=False)

    async def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        def run() -> T:
            with _translated():
                return work(*arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)


@contextmanager
def _translated() -> Iterator[None]:
    """The place's errors as Unavailable, without its name. The log says more."""
    try:
        yield
    except Exception as error:
        from pyarrow import ArrowException

        if not isinstance(error, OSError | ArrowException):
            raise
        logger.warning("archive: %s: %s", type(error).__name__, _SECRET.sub("...", str(error)))
        number = error.errno if isinstance(error, OSError) else None
        why = f": {os.strerror(number)}" if number else ""
        raise Unavailable(f"The place of archives cannot be used{why}") from error


def _checked(id: str) -> str:
    """Raises ValueError: ids become names of folders, and whoever chooses them knows which are."""
    if not _ID.fullmatch(id):
        raise ValueError("an archive's id has letters, digits, - and _")
    return id


def _part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def _size_bytes(parts: Sequence[_Part], manifest: bytes) -> int:
    return sum(part.bytes for part in parts) + len(manifest)
