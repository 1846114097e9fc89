"""submit, get, list_jobs, cancel, wait: work that may outlast a request and a restart of the server.

A job is a row of the state. Handlers do the work, one for each kind, and report how far they have come; what the last
report said is on disk, and from there a handler goes on when the server has been stopped or killed. So all that it does
behind its last report may be done again, and must do no harm then. What has ended is remembered for a month.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pinyon.errors import FailedPrecondition, NotFound, Overloaded, PinyonError, Unavailable
from pinyon.state import JobKind, JobRecord, JobStatus

if TYPE_CHECKING:
    from pinyon.state import State

logger = logging.getLogger("pinyon.jobs")

INTERNAL_ERROR = "internal error"
RETRY_AFTER = 30  # seconds; jobs take from seconds to hours


class JobCancelled(Exception):
    """Raised in a handler by its report: it cleans up, and lets it through."""


class Report:
    """How a handler tells how far it has come: `await report(40.0, {"file": 3})`."""

    def __init__(self, jobs: Jobs, id: str) -> None:
        self._jobs = jobs
        self._id = id

    async def __call__(self, percent: float, progress: Mapping[str, Any]) -> None:
        """Both are on disk when it returns. `percent` is 0 to 100, `progress` JSON values.

        Raises JobCancelled if somebody has cancelled the job, Unavailable if the state cannot be written.
        """
        await self._jobs._report(self._id, percent, progress)


# Does a job's work, from its `progress` on (empty at first). To return is to have completed it. A PinyonError fails the
# job with its message; any other exception is a bug, and fails it too. asyncio.CancelledError means that the server is
# shutting down: the job goes on after the next start, so nothing that it needs then may be cleaned up. A job that is
# `cancelling` already was stopped in its cleaning up; its first report says so again.
Handler = Callable[[JobRecord, Report], Awaitable[None]]


class JobMetrics(Protocol):
    """Who counts jobs, by names of ours."""

    def watch_jobs(self, kind: str, status: str, count: Callable[[], float]) -> None:
        """Asks `count` for the jobs that are not finished whenever the numbers are read."""
        ...

    def finished_job(self, kind: str, status: str) -> None: ...


class Jobs:
    """The jobs of one server. `handle` each kind, then `start`; `close` before what the handlers use."""

    def __init__(
        self,
        state: State,
        *,
        running: int,
        waiting: int = 1000,
        metrics: JobMetrics | None = None,
        retry_seconds: float = 5,
        keep: timedelta = timedelta(days=30),
        keep_number: int = 10_000,
        forget_seconds: float = 86_400,
    ) -> None:
        """At most `running` jobs run at once, and no more are taken while `waiting` wait. What cannot be written of a
        job's beginning or end is tried again after `retry_seconds`. Those that have ended are forgotten after `keep`,
        or when there are `keep_number` newer ones; this is looked at on starting and then every `forget_seconds`."""
        self._state = state
        self._max_running = running
        self._max_waiting = waiting
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._keep = keep
        self._keep_number = keep_number
        self._forget_seconds = forget_seconds
        self._handlers: dict[JobKind, Handler] = {}
        self._waiting: dict[str, JobKind] = {}  # in the order of their turns
        self._running: dict[str, JobKind] = {}
        self._around: set[asyncio.Task[None]] = set()  # one for each that runs, and `_forget`; never cancelled
        self._working: dict[str, asyncio.Task[None]] = {}  # their handlers
        self._stopped: set[str] = set()  # those that were told to stop before they had finished
        self._ended: dict[str, asyncio.Event] = {}  # of all that wait or run
        self._submitting = 0  # that are being written
        self._closing = asyncio.Event()
        self._is_started = False

    def handle(self, kind: JobKind, handler: Handler) -> None:
        """Before `start`."""
        self._handlers[kind] = handler
        if self._metrics is not None:
            for status, jobs in ((JobStatus.PENDING, self._waiting), (JobStatus.RUNNING, self._running)):
                self._metrics.watch_jobs(kind, status, partial(_count, jobs, kind))

    async def start(self) -> None:
        """Queues what an earlier process left unfinished, oldest first, before what has been submitted meanwhile."""
        earlier: dict[str, JobKind] = {}
        for record in await self._state.unfinished_jobs():
            if record.kind not in self._handlers:
                logger.warning("no such jobs are done here", extra=_told(record))
            elif record.id not in self._ended:
                logger.info("job goes on", extra=_told(record) | {"percent": round(record.percent)})
                earlier[record.id] = record.kind
                self._ended[record.id] = asyncio.Event()
        ordered = earlier | self._waiting
        self._waiting.clear()
        self._waiting.update(ordered)
        self._is_started = True
        self._begin(self._forget())
        self._start_more()

    async def close(self, seconds: float = 10) -> None:
        """Stops what runs, and waits so long for it; the next start goes on with it. Closing twice is no error."""
        self._closing.set()
        self._waiting.clear()
        for id, working in self._working.items():
            # Only what has not finished can be cancelled; how the others ended is still written.
            if working.cancel():
                self._stopped.add(id)
        for ended in self._ended.values():
            ended.set()
        if self._around:
            _, late = await asyncio.wait(self._around, timeout=seconds)
            if late:
                logger.error("jobs did not stop", extra={"jobs": len(late)})

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        kind: JobKind,
        *,
        request: Mapping[str, Any],
        index_id: str | None = None,
        index_name: str | None = None,
    ) -> JobRecord:
        """A new job, which begins when it is its turn, and is not lost from here on: also if whoever asked goes away.
        Raises Overloaded if too many wait, Unavailable."""
        if kind not in self._handlers:
            raise ValueError(f"no handler does jobs of the kind {kind}")
        self._must_be_open()
        if len(self._waiting) + self._submitting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} jobs are waiting already", RETRY_AFTER)
        self._submitting += 1
        return await _whole(self._create(kind, request, index_id, index_name))

    async def get(self, id: str, kind: JobKind | None = None) -> JobRecord:
        """Raises NotFound, also for a job of another kind."""
        record = await self._state.get_job(id)
        if kind is not None and record.kind is not kind:
            raise NotFound(f"Job {id} not found", "job", id)
        return record

    async def list(
        self, kind: JobKind | None = None, *, index_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[JobRecord]:
        """At most `limit`, newest first, from behind the job whose id is `after`. Raises InvalidRequest if that is no
        id."""
        return await self._state.list_jobs(kind=kind, index_id=index_id, after=after, limit=limit)

    async def cancel(self, id: str, kind: JobKind | None = None) -> JobRecord:
        """The job as it is then: CANCELLED if it had not begun, and then its handler is never called; else `cancelling`
        until its next report, unless it has done all before. One that has finished stays as it is. Raises NotFound."""
        await self.get(id, kind)
        try:
            record = await self._state.change_job(id, _cancelled)
        except FailedPrecondition:
            return await self._state.get_job(id)
        if record.status.is_final:
            self._finished(record)
        return record

    async def wait(self, id: str) -> JobRecord:
        """The job once it has finished. Raises NotFound; Unavailable if the server shuts down before;
        FailedPrecondition for a job that this server does not do."""
        while True:
            ended = self._ended.get(id)
            record = await self._state.get_job(id)
            if record.status.is_final:
                return record
            self._must_be_open()
            if ended is None:
                raise FailedPrecondition(f"Job {id} is not done by this server")
            await ended.wait()

    async def _forget(self) -> None:
        """What ended long ago, now and again until the server shuts down."""
        while not self._closing.is_set():
            try:
                if number := await self._state.forget_jobs(self._keep, self._keep_number):
                    logger.info("forgot jobs that ended long ago", extra={"jobs": number})
            except Unavailable as error:
                logger.warning("old jobs cannot be forgotten", extra={"reason": error.reason})
            await self._pause(self._forget_seconds)

    async def _pause(self, seconds: float) -> None:
        """Shorter if the server shuts down."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    # --- running -----------------------------------------------------------------------------------------------------

    async def _create(
        self, kind: JobKind, request: Mapping[str, Any], index_id: str | None, index_name: str | None
    ) -> JobRecord:
        try:
            record = await self._state.create_job(kind, request=request, index_id=index_id, index_name=index_name)
        finally:
            self._submitting -= 1
        # `start` may have found it by now, and `close` leaves it to the next process.
        if record.id not in self._ended and not self._closing.is_set():
            self._waiting[record.id] = record.kind
            self._ended[record.id] = asyncio.Event()
            self._start_more()
        return record

    def _start_more(self) -> None:
        while (
            self._is_started and not self._closing.is_set() and self._waiting and len(self._running) < self._max_running
        ):
            id = next(iter(self._waiting))
            self._running[id] = self._waiting.pop(id)
            self._begin(self._run(id))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        around = asyncio.create_task(work)
        self._around.add(around)
        around.add_done_callback(self._around.discard)

    async def _run(self, id: str) -> None:
        try:
            record = await self._written(id, _begun)
            if record is not None and not self._closing.is_set():
                ending = await self._work(record)
                if ending is not None and (ended := await self._written(id, ending)) is not None:
                    self._finished(ended)
        except asyncio.CancelledError:  # the event loop itself ends
            self._closing.set()
            raise
        finally:
            del self._running[id]
            if (waited := self._ended.pop(id, None)) is not None:
                waited.set()
            self._start_more()

    async def _work(self, record: JobRecord) -> Change | None:
        """Lets the handler do the job; gives what has become of it, None if it was stopped."""
        logger.info("job runs", extra=_told(record))
        working = self._working[record.id] = asyncio.create_task(self._handled(record))
        await asyncio.wait({working})
        del self._working[record.id]
        error = asyncio.CancelledError() if working.cancelled() else working.exception()
        if record.id in self._stopped:
            # It may have returned all the same: nobody knows whether that was all of its work.
            logger.info("job stopped", extra=_told(record))
            return None
        if error is None:
            return _completed
        if isinstance(error, JobCancelled):
            return _ended_by_wish
        if isinstance(error, PinyonError):
            return partial(_failed, error=_sentence(error))
        logger.error("a job failed by a bug", extra=_told(record), exc_info=error)
        return partial(_failed, error=INTERNAL_ERROR)

    async def _handled(self, record: JobRecord) -> None:
        await self._handlers[record.kind](record, Report(self, record.id))

    async def _report(self, id: str, percent: float, progress: Mapping[str, Any]) -> None:
        if id in self._stopped:
            raise asyncio.CancelledError  # the handler took no notice the first time
        change = partial(_moved, percent=min(max(percent, 0.0), 100.0), progress=dict(progress))
        # Whole: what was written of a job that is stopped must not come after what the next start writes.
        record = await _whole(self._state.change_job(id, change))
        if record.cancelling:
            raise JobCancelled

    async def _written(self, id: str, change: Change) -> JobRecord | None:
        """Tried until it can be written; None if the server shuts down before, or the job changes no more."""
        while True:
            try:
                return await self._state.change_job(id, change)
            except (FailedPrecondition, NotFound):  # it was cancelled before it had begun; its row is gone
                return None
            except Unavailable as error:
                if self._closing.is_set():
                    return None
                logger.error("job cannot be written", extra={"job": id, "reason": error.reason})
            await self._pause(self._retry_seconds)

    def _finished(self, record: JobRecord) -> None:
        logger.info("job finished", extra=_told(record) | {"status": record.status.value})
        if self._metrics is not None:
            self._metrics.finished_job(record.kind, record.status)
        self._waiting.pop(record.id, None)
        if (ended := self._ended.pop(record.id, None)) is not None:
            ended.set()

    def _must_be_open(self) -> None:
        if self._closing.is_set():
            raise Unavailable("The server is shutting down")


async def _whole(work: Coroutine[Any, Any, JobRecord]) -> JobRecord:
    """What `work` gives. Whoever is cancelled while waiting for it, waits for its end all the same."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _count(jobs: Mapping[str, JobKind], kind: JobKind) -> int:
    return sum(each is kind for each in jobs.values())


# --- what becomes of a job's row: pure, and run in the state's threads -----------------------------------------------

Change = Callable[[JobRecord], JobRecord]


def _begun(record: JobRecord) -> JobRecord:
    return replace(record, status=JobStatus.RUNNING)


def _moved(record: JobRecord, percent: float, progress: Mapping[str, Any]) -> JobRecord:
    return replace(record, percent=percent, progress=progress)


def _cancelled(record: JobRecord) -> JobRecord:
    # One that has begun may have something to clean up.
    ended = record.status if record.status is JobStatus.RUNNING else JobStatus.CANCELLED
    return replace(record, cancelling=True, status=ended)


def _completed(record: JobRecord) -> JobRecord:
    return replace(record, status=JobStatus.COMPLETED, percent=100.0)


def _ended_by_wish(record: JobRecord) -> JobRecord:
    return replace(record, status=JobStatus.CANCELLED)


def _failed(record: JobRecord, error: str) -> JobRecord:
    return replace(record, status=JobStatus.FAILED, error=error)


def _sentence(error: PinyonError) -> str:
    param = ".".join(map(str, getattr(error, "param", ())))
    return f"{param} {error.reason}" if param else error.reason


def _told(record: JobRecord) -> dict[str, Any]:
    return {"job": record.id, "kind": record.kind.value, "index": record.index_name}
