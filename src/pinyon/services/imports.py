"""start_import, list_imports, describe_import, cancel_import: bulk imports of Parquet files into an index.

An import is a job. Before its first write it looks at every file's schema and that the namespaces are empty; then it
reads files in order, batch by batch, the next one while one is written. After each batch the job remembers the file and
the row behind it, so that after a restart at most one batch is written again, over itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from pinyon.errors import FailedPrecondition, InvalidRequest, NotFound, Unavailable
from pinyon.services import import_rows
from pinyon.services.import_batches import open_parquet, read_batches
from pinyon.services.import_rows import Fault, Rows
from pinyon.services.import_sources import DEFAULT_NAMESPACE, PARAM, Place, SourceFile, Sources, list_files
from pinyon.services.indexes import OpenIndex
from pinyon.services.jobs import Jobs
from pinyon.services.paging import make_token, read_token
from pinyon.state import JobKind, JobRecord, JobStatus
from pinyon.state.records import IndexRecord

logger = logging.getLogger("pinyon.imports")

T = TypeVar("T")
OnError = Literal["abort", "continue"]

MAX_LIST = 100
DEFAULT_PAGE = 100
_MAX_LOGGED = 100  # rows of one import; the rest are counted
_CHECKED_AT_START = 20  # files whose schemas are looked at before the start is answered; the job looks at all
_LOOKED_AT_ONCE = 200  # of all files, between two reports
_THREADS = 8  # that read; of their own, so that a storage which hangs holds up nothing but imports
_START_SECONDS = 25  # for a storage to show what is there, before the client gives up


class Indexes(Protocol):
    """What is needed of the control plane."""

    async def open_index(self, name: str) -> OpenIndex:
        """Raises NotFound, Unavailable."""
        ...


class Report(Protocol):
    """See services.jobs.Report."""

    async def __call__(self, percent: float, progress: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True, slots=True)
class Import:
    """`imported` and `failed` count rows; `error` is a sentence of why it failed."""

    id: str
    uri: str
    status: JobStatus
    percent: float  # 0 to 100, by bytes
    imported: int
    failed: int
    error: str | None
    created_at: datetime  # UTC
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImportPage:
    imports: Sequence[Import]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Progress:
    """Where to go on: behind `row` rows of `file`, or at the first file."""

    listing: str  # a digest of the files and their sizes when the import began
    file: str = ""
    row: int = 0
    imported: int = 0
    failed: int = 0


class ImportService:
    """The imports of one server. `run` is the handler of their jobs."""

    def __init__(self, jobs: Jobs, indexes: Indexes, sources: Sources) -> None:
        self._jobs = jobs
        self._indexes = indexes
        self._sources = sources
        # (id of an index, namespace) that an import is writing into
        self._taken: set[tuple[str, str]] = set()
        self._threads = ThreadPoolExecutor(_THREADS, "import")
        self._lookers = ThreadPoolExecutor(_THREADS, "import-schema")

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def start_import(
        self, index: str, uri: str, *, integration_id: str | None = None, on_error: OnError = "abort"
    ) -> Import:
        """Raises NotFound, InvalidRequest (a place that cannot be read, no Parquet files, a schema that does not fit, a
        namespace with records), Overloaded, Unavailable. Then nothing was begun."""
        opened = await self._indexes.open_index(index)

        def look() -> list[SourceFile]:
            place = self._sources.find(uri, integration_id)
            files = list_files(place)
            self._check_files(place, files[:_CHECKED_AT_START], opened.record)
            return files

        try:
            files = await asyncio.wait_for(self._in_thread(look), _START_SECONDS)
        except TimeoutError:
            raise Unavailable("The storage of the import did not answer in time") from None
        await self._check_empty(opened, files)
        request = {"uri": uri, "integration_id": integration_id, "on_error": on_error}
        record = opened.record
        return _import(
            await self._jobs.submit(JobKind.IMPORT, request=request, index_id=record.id, index_name=record.name)
        )

    async def describe_import(self, index: str, id: str) -> Import:
        """Raises NotFound, also for one of another index."""
        return _import(await self._job(index, id))

    async def cancel_import(self, index: str, id: str) -> None:
        """It stops after the batch that it is at; what it has written stays. No effect on one that has finished."""
        await self._jobs.cancel((await self._job(index, id)).id, JobKind.IMPORT)

    async def list_imports(self, index: str, *, token: str | None, limit: int | None) -> ImportPage:
        """A page, newest first."""
        opened = await self._indexes.open_index(index)
        after, limit = read_token(token, limit, default=DEFAULT_PAGE, highest=MAX_LIST)
        found = await self._jobs.list(JobKind.IMPORT, index_id=opened.record.id, after=after, limit=limit + 1)
        more = make_token(found[limit - 1].id, limit) if len(found) > limit else None
        return ImportPage([_import(job) for job in found[:limit]], more)

    async def _job(self, index: str, id: str) -> JobRecord:
        opened = await self._indexes.open_index(index)
        try:
            job = await self._jobs.get(id, JobKind.IMPORT)
        except NotFound:
            job = None
        if job is None or job.index_id != opened.record.id:
            raise NotFound(f"Import {id} not found", "import", id)
        return job

    # --- the job -----------------------------------------------------------------------------------------------------

    async def run(self, job: JobRecord, report: Report) -> None:
        """Does or goes on with an import. Raises FailedPrecondition, NotFound, Unavailable."""
        try:
            await self._run(job, report)
        except InvalidRequest as error:  # there is no request any more that could name the field
            raise FailedPrecondition(f"The {error.param[0] if error.param else 'uri'} {error.reason}") from None

    async def _run(self, job: JobRecord, report: Report) -> None:
        opened = await self._opened(job)
        uri, integration_id = job.request["uri"], job.request["integration_id"]
        place = await self._in_thread(lambda: self._sources.find(uri, integration_id))
        files = await self._in_thread(lambda: list_files(place))
        with self._alone(opened.record.id, files):
            listing = _digest(files)
            if not job.progress:
                for at in range(0, len(files), _LOOKED_AT_ONCE):
                    if at:  # it may have been cancelled
                        await report(0, {})
                    check = partial(self._check_files, place, files[at : at + _LOOKED_AT_ONCE], opened.record)
                    await self._in_thread(check)
                await self._check_empty(opened, files)
                progress = _Progress(listing)
                await report(0, asdict(progress))
            else:
                progress = _Progress(**job.progress)
                if progress.listing != listing:
                    raise FailedPrecondition("The files have changed since the import began")
            await self._read(job, place, files, progress, report)

    async def _read(
        self, job: JobRecord, place: Place, files: Sequence[SourceFile], progress: _Progress, report: Report
    ) -> None:
        total = sum(file.size for file in files)
        done = 0  # bytes of files that are behind
        begun = progress.file == ""
        for file in files:
            if not begun and file.path != progress.file:
                done += file.size
                continue
            start, begun = 0 if begun else progress.row, True
            opened = await self._opened(job)
            async with self._reading(place, file, opened.record, start) as reader:
                while (rows := await reader.next()) is not None:
                    self._tell(job, file, rows.faults, progress.failed)
                    opened = await self._opened(job)
                    if rows.records:
                        await opened.index.upsert(file.namespace, rows.records)
                    progress = replace(
                        progress,
                        file=file.path,
                        row=rows.end,
                        imported=progress.imported + len(rows.records),
                        failed=progress.failed + len(rows.faults),
                    )
                    share = rows.end / reader.rows
                    await report(100 * (done + file.size * share) / max(total, 1), asdict(progress))
            done += file.size
        logger.info("imported", extra={"job": job.id, "records": progress.imported, "bad_rows": progress.failed})

    def _tell(self, job: JobRecord, file: SourceFile, faults: Sequence[Fault], before: int) -> None:
        """Of bad rows, where they are. Raises FailedPrecondition for the first if there may be none."""
        if faults and job.request["on_error"] == "abort":
            first = faults[0]
            raise FailedPrecondition(f"{file.path}, row {first.row}: {first.field}: {first.reason}")
        for fault in faults[: max(0, _MAX_LOGGED - before)]:
            # Of its content nothing, and its reason may quote a number.
            told = {"job": job.id, "file": file.path, "row": fault.row, "column": fault.field}
            logger.warning("bad row skipped", extra=told)

    async def _opened(self, job: JobRecord) -> OpenIndex:
        """The job's index, and not another that has its name by now. Once it is open, no more than a look-up."""
        assert job.index_name is not None
        opened = await self._indexes.open_index(job.index_name)
        if opened.record.id != job.index_id:
            raise NotFound(f"Index {job.index_name} not found", "index", job.index_name)
        return opened

    async def _check_empty(self, opened: OpenIndex, files: Sequence[SourceFile]) -> None:
        """Raises InvalidRequest for a namespace that has records already."""
        counts = await opened.index.namespaces()
        for namespace in dict.fromkeys(file.namespace for file in files):
            if counts.get(namespace, 0):
                name = namespace or DEFAULT_NAMESPACE
                reason = f"is for the namespace {name!r}, which has records: an import takes empty ones alone"
                raise InvalidRequest(reason, PARAM)

    def _check_files(self, place: Place, files: Sequence[SourceFile], record: IndexRecord) -> None:
        """Raises InvalidRequest for the first file whose schema does not fit. Blocks."""

        def check(file: SourceFile) -> None:
            with _named(file), place.open(file) as source, open_parquet(source) as parquet:
                import_rows.check_schema(parquet.schema_arrow, record)

        for _ in self._lookers.map(check, files):  # each may be a round trip or two
            pass

    @contextlib.asynccontextmanager
    async def _reading(self, place: Place, file: SourceFile, record: IndexRecord, start: int) -> AsyncIterator[_Reader]:
        reader = _Reader(self._in_thread, place, file, record, start)
        try:
            await reader.open()
            yield reader
        finally:
            await reader.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @contextlib.contextmanager
    def _alone(self, index_id: str, files: Sequence[SourceFile]) -> Iterator[None]:
        """No other import writes into the same namespaces. Raises FailedPrecondition."""
        wanted = {(index_id, file.namespace) for file in files}
        if both := sorted(wanted & self._taken):
            name = both[0][1] or DEFAULT_NAMESPACE
            raise FailedPrecondition(f"Another import is writing into the namespace {name!r}")
        self._taken |= wanted
        try:
            yield
        finally:
            self._taken -= wanted


# --- files, which are read in threads --------------------------------------------------------------------------------


@contextlib.contextmanager
def _named(file: SourceFile, at: str = "") -> Iterator[None]:
    """Says of which file an error is, and nothing else of the storage's words, which name hosts and folders."""
    import pyarrow as pa

    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"holds {file.path}, which {error.reason}", PARAM) from None
    except (OSError, pa.ArrowException):
        raise InvalidRequest(f"holds {file.path}, which cannot be read{at}", PARAM) from None


class InThread(Protocol):
    async def __call__(self, work: Callable[[], T], /) -> T: ...


class _Reader:
    """The rows of a file from `start` on; the next ones are read while those before are worked on."""

    def __init__(self, in_thread: InThread, place: Place, file: SourceFile, record: IndexRecord, start: int) -> None:
        self._in_thread = in_thread
        self._file = file
        self._record = record
        self._place = place
        self._at = start
        self._next: asyncio.Future[Rows | None] | None = None
        self._pending: asyncio.Future[Any] | None = None
        self._batches: Iterator[Rows] = iter(())
        self._close: Callable[[], None] = lambda: None
        self.rows = 0  # in the whole file

    async def open(self) -> None:
        def begin() -> None:
            with _named(self._file):
                source = self._place.open(self._file)
                self._close = source.close
                parquet = open_parquet(source)
                import_rows.check_schema(parquet.schema_arrow, self._record)
                self.rows = parquet.metadata.num_rows
                batches = read_batches(source, parquet, self._record.dimension, self._at)
                self._batches = (import_rows.checked_rows(batch, self._record, first) for first, batch in batches)

        # Waited for also when it is cancelled: until then it has the file.
        self._pending = asyncio.ensure_future(self._in_thread(begin))
        await asyncio.shield(self._pending)

    async def next(self) -> Rows | None:
        """None at the file's end."""
        task = self._next or self._begin()
        rows = await asyncio.shield(task)
        if rows is not None:
            self._at = rows.end
            self._begin()
        return rows

    def _begin(self) -> asyncio.Future[Rows | None]:
        self._pending = self._next = asyncio.ensure_future(self._in_thread(self._step))
        return self._next

    def _step(self) -> Rows | None:
        with _named(self._file, f" behind row {self._at}"):
            return next(self._batches, None)

    async def close(self) -> None:
        if self._pending is not None:  # a thread cannot be stopped, and has the file
            await asyncio.wait({self._pending})
            if not self._pending.cancelled():
                self._pending.exception()  # nobody else asks for it
        await self._in_thread(self._close)


def _digest(files: Sequence[SourceFile]) -> str:
    told = hashlib.sha256()
    for file in files:
        told.update(f"{file.path}\0{file.size}\0".encode("utf-8", "surrogateescape"))
    return told.hexdigest()


def _import(job: JobRecord) -> Import:
    return Import(
        id=job.id,
        uri=job.request["uri"],
        status=job.status,
        percent=job.percent,
        imported=job.progress.get("imported", 0),
        failed=job.progress.get("failed", 0),
        error=job.error,
        created_at=job.created_at,
        finished_at=job.finished_at,
    )
