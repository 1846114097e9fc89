"""Parquet files are read in batches of bounded size, whatever they hold: row groups, long texts, lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinyon.services import import_batches, record_checks
from pinyon.services.import_batches import open_parquet, read_batches
from pinyon.state import JobStatus
from tests.services.import_files import DIMENSION, replaced, run, server, table, uri, write

MB = 1 << 20
# Prints by how many MB the peak of the memory rises while files are imported (into a store that keeps nothing) or read.
MEASURED = """
import asyncio, re
from pathlib import Path
import numpy, orjson, pyarrow.compute, pyarrow.parquet
from pinyon.services import import_batches, import_rows
from pinyon.stores.memory import MemoryIndex, MemoryStore
from tests.services.import_files import server, uri

async def nothing(self, namespace, records):
    return len(records)

MemoryIndex.upsert = nothing

def peak():
    # Not getrusage's, which begins with what the parent had.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

async def imported(folder):
    async with server(folder, dimension={dimension}) as made:
        before = peak()
        done = await made.started(uri(folder / "files"))
        return peak() - before, done.imported, done.error

def batched(path):
    before, rows = peak(), 0
    with pyarrow.OSFile(path) as source:
        for first, batch in import_batches.read_batches(source, import_batches.open_parquet(source), {dimension}):
            rows += batch.num_rows
    return peak() - before, rows, None

print(*{call}, sep="|")
"""


def measured(call: str, dimension: int = DIMENSION) -> tuple[float, int, str]:
    program = MEASURED.format(call=call, dimension=dimension)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    grown, rows, error = done.stdout.split("|", 2)
    return float(grown), int(rows), error.strip()


def test_a_row_group_of_a_million_rows_is_not_read_whole(tmp_path: Path) -> None:
    rows, dimension = 1_000_000, 64
    numbers = np.arange(rows * dimension, dtype=np.float32)
    offsets: Any = pa.array(np.arange(0, len(numbers) + 1, dimension, dtype=np.int32))
    values = pa.ListArray.from_arrays(offsets, pa.array(numbers))
    ids = pa.array(np.arange(rows)).cast(pa.string())
    path = tmp_path / "0.parquet"
    whole = pa.table({"id": ids, "values": values, "metadata": ids})
    texts: Any = ["id", "metadata"]
    pq.write_table(whole, path, row_group_size=rows, compression="none", use_dictionary=texts)
    assert whole.nbytes > 250 * MB and pq.ParquetFile(path).num_row_groups == 1
    grown, read, _ = measured(f"batched({str(path)!r})", dimension)
    print(f"{grown:.0f} MB")
    assert (read, grown < 80) == (rows, True), grown


def test_an_import_holds_no_more_than_its_batches(tmp_path: Path) -> None:
    rows, dimension = 20_000, 2_000
    values = np.random.default_rng(0).random((rows, dimension), dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dimension)
    path = tmp_path / "files" / "n" / "0.parquet"
    path.parent.mkdir(parents=True)
    ids = pa.array(np.arange(rows)).cast(pa.string())
    pq.write_table(
        pa.table({"id": ids, "values": column}), path, row_group_size=rows, compression="none", use_dictionary=False
    )
    assert values.nbytes > 150 * MB
    call = f"asyncio.run(imported(Path({str(tmp_path)!r})))"
    grown, read, error = measured(call, dimension)
    print(f"{grown:.0f} MB")
    assert (read, error, grown < 120) == (rows, "None", True), grown


def test_a_text_that_a_thousand_rows_share_is_not_copied_for_each(tmp_path: Path) -> None:
    """It stands in the file once, in the column's dictionary."""
    text = '{"a": "%s"}' % ("x" * MB)
    write(tmp_path / "files" / "n" / "0.parquet", table(1000, metadata=[text] * 1000))
    assert (tmp_path / "files" / "n" / "0.parquet").stat().st_size < MB / 4
    grown, read, error = measured(f"asyncio.run(imported(Path({str(tmp_path)!r})))")
    print(f"{grown:.0f} MB")
    assert (read, grown < 200) == (0, True), grown
    assert error == "n/0.parquet, row 0: metadata: Metadata exceeds the limit of 40960 bytes per vector"


@st.composite
def parquets(draw: st.DrawFn) -> tuple[list[str | None], int, dict[str, Any]]:
    """Metadata of rows, rows of a row group, and how they are written."""
    sizes = draw(st.lists(st.sampled_from([-1, 0, 3, 40, 400]), max_size=60))
    texts = [None if size < 0 else chr(97 + at % 3) * size for at, size in enumerate(sizes)]
    how = {"use_dictionary": draw(st.booleans()), "compression": draw(st.sampled_from(["none", "zstd"]))}
    return texts, draw(st.integers(1, 20)), how


@given(parquets(), st.integers(0, 65), st.sampled_from(["string", "large_string", "dictionary"]))
def test_batches_are_all_the_rows_in_their_order(
    made: tuple[list[str | None], int, dict[str, Any]], start: int, kind: str
) -> None:
    texts, group, how = made
    metadata = pa.array(texts, pa.large_string() if kind == "large_string" else pa.string())
    rows = table(len(texts), metadata=metadata.dictionary_encode() if kind == "dictionary" else metadata)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, row_group_size=group, **how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_checks, "MAX_RECORDS", 7)
        for name, value in {"_RUN_ROWS": 15, "_PIECE_BYTES": 900, "_LONGEST": 30, "_TEXT_BYTES": 2000}.items():
            patch.setattr(import_batches, name, value)
        source = pa.BufferReader(sink.getvalue())
        at = min(start, len(texts))
        found: list[tuple[Any, str | None]] = []
        for first, batch in read_batches(source, open_parquet(source), DIMENSION, start):
            assert first == at and 1 <= batch.num_rows <= 7
            here = batch.column("metadata").to_pylist()
            assert len(here) == 1 or sum(len(text or "") for text in here) <= 900
            assert sum(len(text or "") for text in here) <= 2000
            found += zip(batch.column("id").to_pylist(), here, strict=True)
            at += batch.num_rows
    assert found == [(f"r{at}", text) for at, text in enumerate(texts)][start:]


@pytest.mark.parametrize(
    "columns, what",
    [
        ({"metadata": ["x" * 20 * MB, *[""] * 9]}, "text in its column metadata"),
        ({"id": ["x" * 20 * MB, *map(str, range(9))]}, "text in its column id"),
        (
            {"values": [np.zeros(5_000_000, np.float32), *[np.ones(DIMENSION, np.float32)] * 9]},
            "numbers in its column values",
        ),
    ],
)
def test_what_no_batch_could_hold_fails_the_import(tmp_path: Path, columns: dict[str, Any], what: str) -> None:
    if "values" in columns:
        columns = {"values": pa.array(columns["values"], pa.list_(pa.float32()))}
    write(tmp_path / "files" / "n" / "0.parquet", table(10, **columns))

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(tmp_path / "files"), on_error="continue")
            assert (done.status, done.imported) == (JobStatus.FAILED, 0)
            assert done.error == f"The uri holds n/0.parquet, which has more {what} than records may have"

    run(test)


def test_large_metadata_are_imported_and_too_large_ones_are_bad_rows(tmp_path: Path) -> None:
    large = '{"a": "%s"}' % ("x" * 40_000)
    texts = replaced([large] * 600, _10=large.replace(" ", " " * 200_000), _20='{"a": "%s"}' % ("x" * 41_000))
    write(tmp_path / "files" / "n" / "0.parquet", table(600, metadata=texts))

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(tmp_path / "files"), on_error="continue")
            assert (done.status, done.imported, done.failed) == (JobStatus.COMPLETED, 598, 2)
            assert (await made.fetch("r599"))["r599"].metadata == {"a": "x" * 40_000}

    run(test)
