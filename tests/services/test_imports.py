"""Imports of local folders: what gets into the index, and what is refused before anything does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pinyon.errors import InvalidRequest, NotFound
from pinyon.state import JobStatus, VectorType
from pinyon.stores.base import Record
from pinyon.types import Metric
from tests.services.import_files import DIMENSION, SPARSE, replaced, run, server, table, uri, vectors, write


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files" / "import"


# --- what gets in ----------------------------------------------------------------------------------------------------


def test_each_sub_folder_is_a_namespace(tmp_path: Path, files: Path) -> None:
    write(files / "__default__" / "0.parquet", table(3, "d"))
    write(files / "n" / "0.parquet", table(2500, "a"), row_group=700)
    write(files / "n" / "deeper" / "1.PARQUET", table(10, "b", seed=1))
    (files / "n" / "notes.txt").write_text("not Parquet, and ignored")

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(files))
            assert (done.status, done.percent, done.imported, done.failed) == (JobStatus.COMPLETED, 100, 2513, 0)
            assert done.error is None and done.finished_at is not None and done.uri == uri(files)
            assert await made.counts() == {"": 3, "n": 2510}
            record = (await made.fetch("a2499"))["a2499"]
            assert record.values is not None and (record.values == vectors(2500)[2499]).all()
            assert record.metadata == {"n": 2499.0, "tags": ["a", "b"]} and record.sparse is None

    run(test)


def test_a_hybrid_index_takes_both_kinds_of_vector(tmp_path: Path, files: Path) -> None:
    sparse: list[Any] = [
        {"indices": [9, 2], "values": [0.5, 0.25]},
        None,
        {"indices": [2**32 - 1], "values": [1.5]},
        {"indices": [1], "values": [1.0]},
    ]
    values = replaced(vectors(4).tolist(), _3=None)
    write(files / "n" / "0.parquet", table(4, values=values, sparse_values=pa.array(sparse, SPARSE), metadata=None))

    async def test() -> None:
        async with server(tmp_path, metric=Metric.DOTPRODUCT) as made:
            assert (await made.started(uri(files))).imported == 4
            found = await made.fetch("r0", "r1", "r2", "r3")
            first, last = found["r0"], found["r3"]
            assert first.sparse is not None and first.sparse.indices.tolist() == [2, 9]
            assert first.sparse.values.tolist() == [0.25, 0.5] and first.metadata == {}
            assert found["r1"].sparse is None and found["r1"].values is not None
            assert found["r2"].sparse is not None and found["r2"].sparse.indices.tolist() == [2**32 - 1]
            assert last.values is None and last.sparse is not None

    run(test)


def test_a_sparse_index_takes_sparse_values_alone(tmp_path: Path, files: Path) -> None:
    sparse = pa.array([{"indices": [1, 2], "values": [1.0, 2.0]}, {"indices": [7], "values": [3.0]}], SPARSE)
    write(files / "n" / "0.parquet", table(2, values=None, sparse_values=sparse))

    async def test() -> None:
        async with server(tmp_path, dimension=None, metric=Metric.DOTPRODUCT, vector_type=VectorType.SPARSE) as made:
            assert (await made.started(uri(files))).imported == 2
            assert await made.counts() == {"n": 2}

    run(test)


ROWS = vectors(3)
LISTS = ROWS.tolist()


@pytest.mark.parametrize(
    "columns",
    [
        {"values": pa.array(LISTS, pa.list_(pa.float64()))},
        {"values": pa.array(LISTS, pa.large_list(pa.float32()))},
        {"values": pa.array(LISTS, pa.list_(pa.float32(), DIMENSION))},
        {"id": pa.array(["r0", "r1", "r2"], pa.large_string())},
        {"id": pa.array(["r0", "r1", "r2"]).dictionary_encode()},
        {"metadata": pa.array([None, None, None], pa.string())},
        {"metadata": pa.nulls(3)},
        {"metadata": None, "unknown": [1, 2, 3]},
    ],
    ids=[
        "doubles",
        "large lists",
        "fixed lists",
        "large strings",
        "dictionary",
        "no metadata",
        "nulls",
        "more columns",
    ],
)
def test_columns_may_be_of_any_near_type(tmp_path: Path, files: Path, columns: dict[str, Any]) -> None:
    write(files / "n" / "0.parquet", table(3, **columns))

    async def test() -> None:
        async with server(tmp_path) as made:
            assert (await made.started(uri(files))).imported == 3
            record = (await made.fetch("r1"))["r1"]
            assert record.values is not None and (record.values == ROWS[1]).all()

    run(test)


def test_of_an_id_twice_the_last_row_wins_and_both_count(tmp_path: Path, files: Path) -> None:
    write(files / "n" / "0.parquet", table(3, id=["a", "b", "a"]))
    write(files / "n" / "1.parquet", table(1, id=["b"], seed=5))

    async def test() -> None:
        async with server(tmp_path) as made:
            assert (await made.started(uri(files))).imported == 4
            found = await made.fetch("a", "b")
            assert found["a"].values is not None and (found["a"].values == vectors(3)[2]).all()
            assert found["b"].values is not None and (found["b"].values == vectors(1, seed=5)[0]).all()

    run(test)


def test_files_without_rows_are_whole(tmp_path: Path, files: Path) -> None:
    write(files / "n" / "0.parquet", table(0))
    write(files / "n" / "1.parquet", table(2))

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(files))
            assert (done.status, done.imported) == (JobStatus.COMPLETED, 2)

    run(test)


# --- what is refused -------------------------------------------------------------------------------------------------

BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "no ids": ({"id": None}, "has no column id"),
    "no values": ({"values": None}, "has no column values"),
    "ids that are numbers": ({"id": [1, 2]}, "column id that does not hold strings"),
    "values that are numbers": ({"values": [1.0, 2.0]}, "column values that does not hold lists of floats"),
    "lists of integers": ({"values": [[1], [2]]}, "column values that does not hold lists of floats"),
    "metadata that is a struct": ({"metadata": [{"a": 1}, {"a": 2}]}, "column metadata that does not hold strings"),
    "another dimension": (
        {"values": pa.array([[1.0] * 3, [2.0] * 3], pa.list_(pa.float32(), 3))},
        "values of dimension 3, which does not match the index's 8",
    ),
    "sparse values": ({"sparse_values": pa.array([None, None], SPARSE)}, "has a column sparse_values"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_schema_that_does_not_fit_is_refused(tmp_path: Path, files: Path, name: str) -> None:
    columns, reason = BAD_FILES[name]
    write(files / "n" / "0.parquet", table(2))
    write(files / "n" / "1.parquet", table(2, **columns))

    async def test() -> None:
        async with server(tmp_path) as made:
            with pytest.raises(InvalidRequest, match=rf"^holds n/1\.parquet, which .*{reason}"):
                await made.imports.start_import("i", uri(files))
            assert await made.counts() == {}
            assert (await made.imports.list_imports("i", token=None, limit=None)).imports == []

    run(test)


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"values": None, "sparse_values": None}, "has no column sparse_values"),
        ({}, "has no column sparse_values|takes sparse values alone"),
        ({"values": None, "sparse_values": [[1], [2]]}, "column sparse_values that does not hold structs"),
        (
            {"values": None, "sparse_values": [{"indices": [0.5], "values": [1.0]}] * 2},
            "column sparse_values that does not hold structs",
        ),
    ],
)
def test_a_sparse_index_refuses_what_is_not_sparse(
    tmp_path: Path, files: Path, columns: dict[str, Any], reason: str
) -> None:
    write(files / "n" / "0.parquet", table(2, **columns))

    async def test() -> None:
        async with server(tmp_path, dimension=None, metric=Metric.DOTPRODUCT, vector_type=VectorType.SPARSE) as made:
            with pytest.raises(InvalidRequest, match=reason):
                await made.imports.start_import("i", uri(files))

    run(test)


def test_schemas_of_more_files_are_looked_at_before_the_first_write(tmp_path: Path, files: Path) -> None:
    for at in range(30):
        write(files / "n" / f"{at:02}.parquet", table(2, f"{at}-", values=None if at == 29 else vectors(2).tolist()))

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(files))
            assert (done.status, done.imported) == (JobStatus.FAILED, 0)
            assert done.error == "The uri holds n/29.parquet, which has no column values, which this index needs"
            assert await made.counts() == {}

    run(test)


def spoilt(files: Path, how: str) -> None:
    path = files / "n" / "0.parquet"
    write(path, table(5000), row_group=1000)
    whole = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"id,values\n" * 100)
    elif how == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "no footer":
        path.write_bytes(whole[:-8] + b"\0" * 8)
    else:
        path.write_bytes(b"PAR1" + b"\0" * 20 + b"\xff\xff\xff\x7fPAR1")


@pytest.mark.parametrize("how", ["empty", "text", "cut off", "no footer", "a footer longer than the file"])
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, files: Path, how: str) -> None:
    spoilt(files, how)

    async def test() -> None:
        async with server(tmp_path) as made:
            with pytest.raises(InvalidRequest, match=r"^holds n/0\.parquet, which is not a Parquet file") as caught:
                await made.imports.start_import("i", uri(files))
            assert str(tmp_path) not in str(caught.value)

    run(test)


@pytest.mark.parametrize("on_error", ["abort", "continue"])
def test_a_file_that_is_damaged_inside_fails_the_import(tmp_path: Path, files: Path, on_error: Any) -> None:
    path = files / "n" / "0.parquet"
    write(path, table(5000), row_group=1000)
    group = pq.ParquetFile(path).metadata.row_group(3)
    data = bytearray(path.read_bytes())
    for column in range(group.num_columns):
        at = group.column(column).data_page_offset
        data[at : at + 200] = b"\xff" * 200
    path.write_bytes(data)

    async def test() -> None:
        async with server(tmp_path) as made:
            done = await made.started(uri(files), on_error=on_error)
            assert (done.status, done.imported) == (JobStatus.FAILED, 3000)
            assert done.error == "The uri holds n/0.parquet, which cannot be read behind row 3000"
            assert 0 < done.percent < 100 and await made.counts() == {"n": 3000}

    run(test)


def test_a_place_without_files_is_refused(tmp_path: Path, files: Path) -> None:
    cases = {
        "missing": "names a folder that is not there",
        "empty": "holds no Parquet files in sub-folders",
        "flat": "holds '0.parquet' outside of a namespace's sub-folder",
        "a.parquet": "must be a folder of folders, and is a file",
    }
    (files / "empty" / "n").mkdir(parents=True)
    write(files / "flat" / "0.parquet", table(1))
    write(files / "flat" / "n" / "0.parquet", table(1))
    write(files / "a.parquet", table(1))

    async def test() -> None:
        async with server(tmp_path) as made:
            for name, reason in cases.items():
                with pytest.raises(InvalidRequest) as caught:
                    await made.imports.start_import("i", uri(files / name))
                assert (caught.value.reason, caught.value.param) == (reason, ("uri",))

    run(test)


def test_a_namespace_with_records_is_refused(tmp_path: Path, files: Path) -> None:
    write(files / "__default__" / "0.parquet", table(2))
    write(files / "n" / "0.parquet", table(2))

    async def test() -> None:
        async with server(tmp_path) as made:
            index = (await made.indexes.open_index("i")).index
            await index.create_namespace("n")  # an empty one is right
            await index.upsert("", [Record("x", vectors(1)[0])])
            with pytest.raises(InvalidRequest, match="is for the namespace '__default__', which has records"):
                await made.imports.start_import("i", uri(files))
            assert await made.counts() == {"": 1, "n": 0}
            await index.delete_namespace("")
            assert (await made.started(uri(files))).imported == 4

    run(test)


def test_of_two_imports_into_a_namespace_one_is_done(tmp_path: Path, files: Path) -> None:
    write(files / "n" / "0.parquet", table(20_000))

    async def test() -> None:
        async with server(tmp_path) as made:
            both = [await made.imports.start_import("i", uri(files)) for _ in range(2)]
            for one in both:
                await made.jobs.wait(one.id)
            done = [await made.imports.describe_import("i", one.id) for one in both]
            assert sorted(each.status for each in done) == [JobStatus.COMPLETED, JobStatus.FAILED]
            (failed,) = [each for each in done if each.status is JobStatus.FAILED]
            assert failed.imported == 0 and failed.error is not None and "namespace 'n'" in failed.error
            assert await made.counts() == {"n": 20_000}

    run(test)


def test_unknown_indexes_and_imports_are_not_found(tmp_path: Path, files: Path) -> None:
    write(files / "n" / "0.parquet", table(1))

    async def test() -> None:
        async with server(tmp_path) as made:
            with pytest.raises(NotFound):
                await made.imports.start_import("j", uri(files))
            done = await made.started(uri(files))
            for id in ("101", "", "\0", done.id + "x"):
                with pytest.raises(NotFound, match=r"^Import .* not found$"):
                    await made.imports.describe_import("i", id)
                with pytest.raises(NotFound):
                    await made.imports.cancel_import("i", id)
            await made.indexes.delete_index("i")
            with pytest.raises(NotFound):
                await made.imports.describe_import("i", done.id)

    run(test)
