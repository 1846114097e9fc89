"""What the database below does wrong, and what becomes of it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy import event

from pinyon.config import ConfigError
from pinyon.errors import AlreadyExists, Unavailable
from pinyon.state import State
from pinyon.state.database import Database
from pinyon.state.rows import pack_settings
from pinyon.state.tables import metadata
from tests.state.making import connected, make_ready, opened, settings


@pytest.mark.parametrize("url", ["", "notes", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "http://x/y"])
def test_other_databases_are_refused_by_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^state_url: must"):
        asyncio.run(State.open(url))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told(scheme: str) -> None:
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        asyncio.run(State.open(f"{scheme}://me:secret@127.0.0.1:1/db"))
    assert "secret" not in str(caught.value)


def test_sqlite_makes_the_folder_and_writes_through_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a 100% new" / "folder" / "state.db"

    async def run() -> None:
        async with opened(f"sqlite:///{path}") as state:
            await make_ready(state)

    asyncio.run(run())
    with connected(f"sqlite:///{path}") as connection:
        pragmas = {
            name: connection.scalar(sa.text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        asyncio.run(State.open(f"sqlite:///{tmp_path}/file/state.db"))


def test_a_damaged_file_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(Unavailable, match="damaged"):
        asyncio.run(State.open(f"sqlite:///{path}"))
    assert path.read_bytes() == b"no database at all" * 1000


def test_a_full_disk_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    def fill(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # not below what there is: the file can grow no more

    async def run() -> None:
        url = f"sqlite:///{tmp_path}/state.db"
        async with opened(url) as state:
            made = await make_ready(state)
        async with opened(url) as state:
            event.listen(state._database._engine, "connect", fill)
            state._database._engine.dispose()
            with pytest.raises(Unavailable, match="the disk is full"):
                for i in range(1000):
                    await state.create_index(settings(f"i{i}", tags={"large": "x" * 10_000}))
            with pytest.raises(Unavailable, match="the disk is full"):
                await state.create_index(settings("again", tags={"large": "x" * 10_000}))
            assert await state.get_index("notes") == made
            event.remove(state._database._engine, "connect", fill)
            state._database._engine.dispose()
            assert (await state.create_index(settings("again", tags={"large": "x" * 10_000}))).version == 1

    asyncio.run(run())


def test_a_database_that_may_not_be_written_answers_reads(tmp_path: Path) -> None:
    def forbid(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA query_only = ON")  # what SQLite says is what it says of a file without permission

    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path}/state.db") as state:
            made = await make_ready(state)
            event.listen(state._database._engine, "connect", forbid)
            state._database._engine.dispose()
            with pytest.raises(Unavailable, match="may not be written"):
                await state.create_index(settings("second"))
            assert await state.list_indexes() == [made]

    asyncio.run(run())


def test_opening_waits_for_another_process_only_so_long(tmp_path: Path) -> None:
    with FileLock(tmp_path / "state.db.lock"), pytest.raises(Unavailable, match="for too long"):
        asyncio.run(State.open(f"sqlite:///{tmp_path}/state.db", lock_seconds=0.05))


def test_a_writer_waits_for_another_process_only_so_long(url: str) -> None:
    async def run() -> None:
        async with opened(url, lock_seconds=0.05) as state:
            made = await make_ready(state)
            other = Database(url, lock_seconds=1)
            entered, leave = asyncio.Event(), asyncio.Event()
            loop = asyncio.get_running_loop()

            def hold(connection: sa.Connection) -> None:
                loop.call_soon_threadsafe(entered.set)
                asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(30)

            holding = asyncio.create_task(asyncio.to_thread(other.write, hold))
            await entered.wait()
            with pytest.raises(Unavailable, match="locked by another process"):
                await state.create_index(settings("second"))
            assert await state.list_indexes() == [made]
            leave.set()
            await holding
            other.close()
            assert (await state.create_index(settings("second"))).name == "second"

    asyncio.run(run())


def test_a_row_that_another_program_wrote_between_is_there_already(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            made = await make_ready(state)
        database = Database(url, lock_seconds=1)
        row = pack_settings(made)
        table = metadata.tables["indexes"]
        try:
            with pytest.raises(AlreadyExists):
                database.write(lambda connection: connection.execute(table.insert().values(row)))
            # Any other broken rule is a bug of ours, and is not told to a client as something else.
            with pytest.raises(sa.exc.IntegrityError):
                database.write(
                    lambda connection: connection.execute(table.insert().values({**row, "id": "x", "metric": None}))
                )
            with pytest.raises(sa.exc.DBAPIError):
                database.read(lambda connection: connection.execute(sa.text("SELECT nonsense")))
        finally:
            database.close()

    asyncio.run(run())
