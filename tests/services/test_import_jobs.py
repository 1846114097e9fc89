"""Imports as jobs: cancelled, stopped, gone on with, and listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinyon.errors import FailedPrecondition, InvalidRequest
from pinyon.services.jobs import JobCancelled
from pinyon.state import JobKind, JobRecord, JobStatus
from pinyon.stores.memory import MemoryStore
from tests.services.import_files import Server, run, server, table, uri, write


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files" / "import"


async def job_of(made: Server, files: Path) -> JobRecord:
    """Of an import that nobody runs but the test."""
    request = {"uri": uri(files), "integration_id": None, "on_error": "abort"}
    index = await made.state.get_index("i")
    return await made.state.create_job(JobKind.IMPORT, request=request, index_id=index.id, index_name="i")


def test_a_cancelled_import_stops_at_the_next_batch(tmp_path: Path, files: Path) -> None:
    write(files / "n" / "0.parquet", table(10_000))

    async def test() -> None:
        async with server(tmp_path) as made:
            moved: list[float] = []

            async def report(percent: float, progress: Any) -> None:
                moved.append(percent)
                if len(moved) == 4:
                    raise JobCancelled

            job = await job_of(made, files)
            with pytest.raises(JobCancelled):
                await made.imports.run(job, report)
            assert await made.counts() == {"n": 3000}
            assert moved == sorted(moved) and moved[0] == 0 and moved[-1] == pytest.approx(30)

    run(test)


def test_cancelling_by_id(tmp_path: Path, files: Path) -> None:
    for at in range(20):
        write(files / "n" / f"{at:02}.parquet", table(5_000, f"{at}-"))

    async def test() -> None:
        async with server(tmp_path, running=1) as made:
            first = await made.imports.start_import("i", uri(files))
            waiting = await made.imports.start_import("i", uri(files))
            await made.imports.cancel_import("i", waiting.id)
            while (await made.imports.describe_import("i", first.id)).imported == 0:
                pass
            await made.imports.cancel_import("i", first.id)
            await made.jobs.wait(first.id)
            done = await made.imports.describe_import("i", first.id)
            assert done.status is JobStatus.CANCELLED and 0 < done.imported < 100_000 and 0 < done.percent < 100
            assert await made.counts() == {"n": done.imported}
            await made.imports.cancel_import("i", first.id)  # no effect, and no error
            described = await made.imports.describe_import("i", waiting.id)
            assert (described.status, described.imported) == (JobStatus.CANCELLED, 0)

    run(test)


@pytest.mark.parametrize("seed", range(8))
def test_a_stopped_import_goes_on_where_it_was(tmp_path: Path, files: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    total = 0
    for at in range(4):
        rows = int(random.integers(1, 4000))
        total += rows
        write(files / f"n{at % 2}" / f"{at}.parquet", table(rows, f"{at}-", seed=at), int(random.integers(100, 3000)))
    store = MemoryStore()

    async def test() -> None:
        async with server(tmp_path, store=store) as made:
            id = (await made.imports.start_import("i", uri(files))).id
        lives = 0
        while True:
            async with server(tmp_path, store=store) as made:
                lives += 1
                # As many batches as chance will have, then the server shuts down.
                stop_at = (await made.imports.describe_import("i", id)).imported + int(random.integers(1, 3000))
                while (now := await made.imports.describe_import("i", id)).imported < min(stop_at, total):
                    assert not now.status.is_final or now.imported == total
                if now.imported == total:
                    await made.jobs.wait(id)
                    break
        async with server(tmp_path, store=store) as made:
            done = await made.imports.describe_import("i", id)
            assert (done.status, done.imported, done.failed) == (JobStatus.COMPLETED, total, 0)
            assert sum((await made.counts()).values()) == total and lives > 1

    run(test)


def test_what_was_written_and_not_reported_is_written_over_itself(tmp_path: Path, files: Path) -> None:
    """A crash between a write and its report."""
    write(files / "n" / "0.parquet", table(5000))

    async def test() -> None:
        async with server(tmp_path) as made:
            job = await job_of(made, files)
            reported: list[Any] = []

            async def crash(percent: float, progress: Any) -> None:
                if progress["row"] == 3000:
                    raise ConnectionAbortedError
                reported.append(progress)

            async def report(percent: float, progress: Any) -> None:
                reported.append(progress)

            with pytest.raises(ConnectionAbortedError):
                await made.imports.run(job, crash)
            assert await made.counts() == {"n": 3000} and reported[-1]["imported"] == 2000
            await made.imports.run(replace(job, progress=reported[-1]), report)
            assert await made.counts() == {"n": 5000} and reported[-1]["imported"] == 5000

    run(test)


@pytest.mark.parametrize("change", ["added", "gone", "longer"])
def test_files_that_changed_meanwhile_end_an_import_that_goes_on(tmp_path: Path, files: Path, change: str) -> None:
    write(files / "n" / "0.parquet", table(10))
    write(files / "n" / "1.parquet", table(10))

    async def test() -> None:
        async with server(tmp_path) as made:
            progress: dict[str, Any] = {}

            async def report(percent: float, now: Any) -> None:
                progress.update(now)
                raise JobCancelled

            job = await job_of(made, files)
            with pytest.raises(JobCancelled):
                await made.imports.run(job, report)
            if change == "gone":
                (files / "n" / "1.parquet").unlink()
            else:
                write(files / "n" / ("2.parquet" if change == "added" else "1.parquet"), table(11))
            with pytest.raises(FailedPrecondition, match=r"^The files have changed since the import began$"):
                await made.imports.run(replace(job, progress=progress), report)
            assert await made.counts() == {}

    run(test)


def test_an_index_that_is_deleted_fails_its_imports(tmp_path: Path, files: Path) -> None:
    for at in range(20):
        write(files / "n" / f"{at:02}.parquet", table(5_000, f"{at}-"))

    async def test() -> None:
        async with server(tmp_path) as made:
            started = await made.imports.start_import("i", uri(files))
            while (await made.imports.describe_import("i", started.id)).imported == 0:
                pass
            await made.indexes.delete_index("i")
            job = await made.jobs.wait(started.id)
            assert job.status is JobStatus.FAILED and job.error != "internal error"

    run(test)


def test_imports_are_listed_in_pages_newest_first(tmp_path: Path, files: Path) -> None:
    for at in range(5):
        write(files / str(at) / f"n{at}" / "0.parquet", table(1))

    async def test() -> None:
        async with server(tmp_path) as made:
            ids = [(await made.started(uri(files / str(at)))).id for at in range(5)]
            found, token = [], None
            while True:
                page = await made.imports.list_imports("i", token=token, limit=2 if token is None else None)
                assert len(page.imports) <= 2
                found += [each.id for each in page.imports]
                if (token := page.next) is None:
                    break
            assert found == ids[::-1]
            with pytest.raises(InvalidRequest):
                await made.imports.list_imports("i", token="nonsense", limit=None)

    run(test)
