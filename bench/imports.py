"""A bulk import by a server, beside reading the same file and writing it to the same kind of store directly.

`python -m bench.imports direct FILE FOLDER` is that second half, in a process of its own: what it does is the least
that can be done, with nothing checked and nothing remembered of how far it has come.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bench.figures import Aim, Figures
from bench.server import memory, server
from bench.store_target import call
from pinyon.stores.base import Layout, Record
from pinyon.stores.edge import EdgeStore
from pinyon.types import Metric

DIMENSION = 64
_BATCH = 1000  # records a write, as an import's are
_GROUP = 50_000  # rows of a row group
_POLL = 0.1  # seconds
_ROOT = Path(__file__).parents[1]


def make(path: Path, rows: int) -> None:
    """A file of an import, written in pieces. The same for the same number of rows."""
    random = np.random.default_rng(0)
    kind = pa.list_(pa.float32())
    schema = pa.schema([("id", pa.string()), ("values", kind), ("metadata", pa.string())])
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, schema) as writer:
        for at in range(0, rows, _GROUP):
            count = min(_GROUP, rows - at)
            flat = random.standard_normal(count * DIMENSION, dtype=np.float32)
            values = pa.FixedSizeListArray.from_arrays(pa.array(flat), DIMENSION).cast(kind)
            ids = [f"record-{row:07d}" for row in range(at, at + count)]
            metadata = [f'{{"shop": "shop-{row % 20}", "rank": {row}}}' for row in range(at, at + count)]
            writer.write_table(pa.Table.from_arrays([pa.array(ids), values, pa.array(metadata)], schema=schema))


async def _write_directly(path: Path, folder: Path) -> float:
    """Seconds."""
    store = EdgeStore(folder)
    index = await store.create("direct", Layout(DIMENSION, Metric.COSINE))
    started = time.perf_counter()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH):
            ids: list[Any] = batch.column("id").to_pylist()
            metadata: list[Any] = batch.column("metadata").to_pylist()
            lists: Any = batch.column("values")
            values = lists.flatten().to_numpy().reshape(-1, DIMENSION)
            records = [
                Record(id, row, None, orjson.loads(text)) for id, row, text in zip(ids, values, metadata, strict=True)
            ]
            await index.upsert("", records)
    seconds = time.perf_counter() - started
    await store.close()
    return seconds


def _direct(path: Path, folder: Path) -> float:
    command = [sys.executable, "-m", "bench.imports", "direct", str(path), str(folder)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT).stdout)


def measure(rows: int, figures: Figures) -> list[Aim]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "import" / "__default__" / "0.parquet"
        figures.heading(f"imports: a file of {rows} rows")
        make(path, rows)
        figures.add("file, MB", path.stat().st_size / 1e6)
        figures.add("read and write directly, rows/s", rows / _direct(path, folder / "before"))
        data = folder / "pinyon"
        data.mkdir()
        (data / "pinyon.toml").write_text(f'import_roots = ["{folder}"]\npreload = []\nindex_hosts = "path"\n')
        with server(folder=data) as running:
            spec = {"serverless": {"cloud": "aws", "region": "us-east-1"}}
            body = {"name": "bench", "dimension": DIMENSION, "metric": "cosine", "spec": spec}
            host = call(running.url, "POST", "/indexes", body)["host"]
            empty = memory(running.pid)["Pss"]
            started = time.perf_counter()
            id = call(host, "POST", "/bulk/imports", {"uri": f"file://{folder}/import"})["id"]
            most = empty
            while (found := call(host, "GET", f"/bulk/imports/{id}"))["status"] in ("Pending", "InProgress"):
                most = max(most, memory(running.pid)["Pss"])
                time.sleep(_POLL)
            seconds = time.perf_counter() - started
            if found["status"] != "Completed" or found["recordsImported"] != rows:
                raise RuntimeError(f"the import did not end well: {found}")
            figures.add("import, rows/s", rows / seconds)
            figures.add("import: server's memory before, MB", empty / 1e6)
            figures.add("import: server's memory at most, MB", most / 1e6)
        figures.add("read and write directly, rows/s", rows / _direct(path, folder / "after"))
    direct = sum(figures.rounds["read and write directly, rows/s"]) / 2
    return [
        Aim("import / direct", figures.value("import, rows/s") / direct, 0.6),
        Aim("import: server's memory at most, MB", figures.value("import: server's memory at most, MB"), 1500, True),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "direct":
        print(asyncio.run(_write_directly(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        figures = Figures()
        aims = measure(int(sys.argv[1]), figures)
        print(figures.table(), *(aim.line() for aim in aims), sep="\n")
