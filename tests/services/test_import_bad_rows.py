"""Rows that are no records: skipped and counted, or the end of the import."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pinyon.state import JobStatus, VectorType
from pinyon.types import Metric
from tests.services.import_files import DIMENSION, replaced, run, server, table, uri, vectors, write


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files" / "import"


def bad_rows() -> tuple[pa.Table, dict[int, str]]:
    """Rows, and the column that is wrong in those that are."""
    values = vectors(14).tolist()
    values = replaced(
        values, _1=[1.0] * 3, _2=None, _3=[0.0] * DIMENSION, _4=replaced(values[4], _0=float("nan")), _5=[1e300] * 8
    )
    values[6] = replaced(values[6], _2=None)
    ids = replaced([f"r{at}" for at in range(14)], _7=None, _8="", _9="é", _10="x" * 513)
    metadata = replaced(['{"n": 1}'] * 14, _11="[1]", _12='{"secret": {}}', _13='{"secret"')
    wrong = {at: "values" for at in range(1, 7)} | {at: "id" for at in range(7, 11)}
    return (
        table(14, values=pa.array(values, pa.list_(pa.float64())), id=ids, metadata=metadata),
        wrong | {at: "metadata" for at in (11, 12, 13)},
    )


def test_bad_rows_are_skipped_counted_and_logged(tmp_path: Path, files: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, wrong = bad_rows()
    write(files / "n" / "0.parquet", rows)
    write(files / "n" / "1.parquet", table(5, "b"))

    async def test() -> None:
        async with server(tmp_path) as made:
            with caplog.at_level(logging.WARNING):
                done = await made.started(uri(files), on_error="continue")
            assert (done.status, done.imported, done.failed) == (JobStatus.COMPLETED, 6, 13)
            assert await made.counts() == {"n": 6}
            told = {vars(line)["row"]: vars(line)["column"] for line in caplog.records if vars(line).get("row")}
            assert told == wrong and {vars(line)["file"] for line in caplog.records} == {"n/0.parquet"}
            assert "secret" not in " ".join(str(vars(line)) for line in caplog.records)

    run(test)


@pytest.mark.parametrize("row", range(1, 14))
def test_abort_ends_at_the_first_bad_row(tmp_path: Path, files: Path, row: int) -> None:
    rows, wrong = bad_rows()
    write(files / "n" / "0.parquet", table(3, "a"))
    write(files / "n" / "1.parquet", rows.slice(row))

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(files))
            assert (done.status, done.imported) == (JobStatus.FAILED, 3)
            assert done.error is not None and done.error.startswith(f"n/1.parquet, row 0: {wrong[row]}: ")
            assert "secret" not in done.error and await made.counts() == {"n": 3}

    run(test)


@pytest.mark.parametrize(
    "vector",
    [
        {"indices": [1], "values": [1.0, 2.0]},
        {"indices": [], "values": []},
        {"indices": [1, 1], "values": [1.0, 2.0]},
        {"indices": [1], "values": None},
        {"indices": None, "values": [1.0]},
        {"indices": [-1], "values": [1.0]},
        {"indices": [2**32], "values": [1.0]},
        {"indices": [None], "values": [1.0]},
        {"indices": [1], "values": [None]},
        {"indices": list(range(2049)), "values": [1.0] * 2049},
        None,
    ],
)
def test_bad_sparse_rows_are_skipped(tmp_path: Path, files: Path, vector: Any) -> None:
    kind = pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float32()))])
    good = {"indices": [5, 3], "values": [1.0, 2.0]}
    write(files / "n" / "0.parquet", table(3, values=None, sparse_values=pa.array([good, vector, good], kind)))

    async def test() -> None:
        async with server(tmp_path, dimension=None, metric=Metric.DOTPRODUCT, vector_type=VectorType.SPARSE) as made:
            done = await made.started(uri(files), on_error="continue")
            assert (done.status, done.imported, done.failed) == (JobStatus.COMPLETED, 2, 1)
            assert list(await made.fetch("r0", "r1", "r2")) == ["r0", "r2"]

    run(test)


def test_log_lines_of_bad_rows_are_bounded(tmp_path: Path, files: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(files / "n" / "0.parquet", table(3000, id=pa.nulls(3000, pa.string())))

    async def test() -> None:
        async with server(tmp_path) as made:
            with caplog.at_level(logging.WARNING):
                done = await made.started(uri(files), on_error="continue")
            assert (done.imported, done.failed) == (0, 3000)
            assert len(caplog.records) == 100 and await made.counts() == {}

    run(test)
