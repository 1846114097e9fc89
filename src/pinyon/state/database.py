"""The database below: how it is opened, who may write when, and what its errors mean here.

Reads see what was committed when they began. Writers run one at a time, over all processes: SQLite has one writer
anyway (BEGIN IMMEDIATE), on PostgreSQL each takes the same advisory lock. So a write may read first and rely on it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url

from pinyon.config import ConfigError
from pinyon.errors import AlreadyExists, Unavailable
from pinyon.state.tables import HEAD, VERSION_TABLE

_T = TypeVar("_T")

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_ADVISORY_LOCK = 0x70696E796F6E  # "pinyon": any number that nobody else uses
_UNIQUE_VIOLATION = "23505"  # PostgreSQL
_REVISION = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))


class Database:
    """One database, reached through a pool of connections. Blocks: it is called from threads."""

    def __init__(self, url: str, lock_seconds: float) -> None:
        """Raises ConfigError for a URL that names no database that can be used."""
        self._lock_seconds = lock_seconds
        parsed = _parsed(url)
        self._path = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        try:
            if self._path is not None:
                self._engine = sa.create_engine(parsed, connect_args={"timeout": lock_seconds})
                event.listen(self._engine, "connect", _on_sqlite_connect)
                event.listen(self._engine, "begin", _on_sqlite_begin)
            else:
                # A server may restart between two calls: connections are tried before they are used.
                self._engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        except ImportError as error:
            raise ConfigError(f"state_url: {parsed.get_backend_name()} needs the package {error.name}") from None

    def prepare(self) -> None:
        """Makes the database if need be, and brings its tables up to date, one process at a time."""
        if self._path is None:
            self._migrate()
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # The change to WAL does not wait for another process that does the same: SQLite says "locked" at once.
            with FileLock(f"{self._path}.lock", timeout=self._lock_seconds):
                with _translated(), contextlib.closing(self._engine.raw_connection()) as connection:
                    connection.cursor().execute("PRAGMA journal_mode = WAL")
                self._migrate()
        except Timeout:
            raise Unavailable("Another process has been opening the control plane's database for too long") from None
        except OSError as error:
            raise Unavailable(f"The control plane's database cannot be opened: {error.strerror}") from error

    def check(self) -> None:
        """Raises Unavailable if the database or its tables are not there, or are another Pinyon's."""
        # To connect would make the file.
        revision = None if self._path is not None and not self._path.exists() else self.read(_revision)
        if revision is None:
            raise Unavailable(
                "There is no control plane's database here: no server has been started with these settings"
            )
        if revision != HEAD:
            raise Unavailable(
                f"The control plane's database was written by another Pinyon (revision {revision}, this one knows "
                f"{HEAD})"
            )

    def read(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Runs `work` in a transaction that writes nothing."""
        with _translated(), self._engine.begin() as connection:
            return work(connection)

    def write(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Runs `work` in a transaction, alone; what it returns is on disk. If it raises, nothing has changed."""
        with _translated(), self._engine.connect().execution_options(pinyon_writes=True) as connection:
            with connection.begin():
                if self._path is None:
                    limit = f"{round(self._lock_seconds * 1000)}ms"
                    connection.execute(sa.select(sa.func.set_config("lock_timeout", limit, True)))
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                result = work(connection)
            return result

    def close(self) -> None:
        self._engine.dispose()

    def _migrate(self) -> None:
        revision = self.read(_revision)
        if revision == HEAD:
            return
        # Alembic is only imported by whoever needs it: it takes as long as all the rest of this package.
        logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of its own plugins
        from pinyon.state import migrations

        if revision is not None and revision not in migrations.revisions():
            raise Unavailable(
                f"The control plane's database was written by a newer Pinyon (revision {revision}, this one knows "
                f"{HEAD}): start that one, or restore a copy of the database from before"
            )
        self.write(migrations.upgrade)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.get_backend_name()]
    except (exc.ArgumentError, KeyError):
        raise ConfigError("state_url: must be sqlite:///PATH or postgresql://USER@HOST/DATABASE") from None
    if driver.startswith("sqlite") and (parsed.database or ":memory:") == ":memory:":
        raise ConfigError("state_url: must name a file, sqlite:///PATH")
    return parsed.set(drivername=driver)


def _revision(connection: sa.Connection) -> str | None:
    """What the tables are at; None if there are none yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(sa.select(_REVISION.c.version_num))


def _on_sqlite_connect(connection: sqlite3.Connection, _: Any) -> None:
    # The driver would begin transactions by itself, and too late: `_on_sqlite_begin` does.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # with WAL, NORMAL may lose the last commits when the power fails


def _on_sqlite_begin(connection: sa.Connection) -> None:
    # A writer that began as a reader could not wait for another writer: SQLite refuses it at once.
    writes = connection.get_execution_options().get("pinyon_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What SQLAlchemy raises, as an error of Pinyon's. A wrong statement or value is a bug, and stays what it is."""
    try:
        yield
    except exc.IntegrityError as error:
        # Names and ports are looked at before they are written, so this is another program's doing.
        if _is_unique_violation(error.orig):
            raise AlreadyExists("The control plane's database has it already") from error
        raise
    except (exc.ProgrammingError, exc.DataError, exc.NotSupportedError):
        raise
    except (exc.DBAPIError, sqlite3.Error) as error:
        if _sqlite_kind(error) == sqlite3.SQLITE_ERROR:  # as ProgrammingError of other databases: a wrong statement
            raise
        raise Unavailable(f"The control plane's database {_trouble(error)}") from error
    except exc.TimeoutError as error:
        raise Unavailable("The control plane's database has no connection free") from error


def _is_unique_violation(error: BaseException | None) -> bool:
    if isinstance(error, sqlite3.Error):
        return error.sqlite_errorcode in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
    return getattr(error, "sqlstate", None) == _UNIQUE_VIOLATION


def _trouble(error: exc.DBAPIError | sqlite3.Error) -> str:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    kind, state = _sqlite_kind(error), getattr(cause, "sqlstate", None)
    if kind == sqlite3.SQLITE_FULL or state == "53100":
        return "has no room: the disk is full"
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or state == "55P03":
        return "is locked by another process"
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "is damaged, or is another program's file"
    if kind == sqlite3.SQLITE_READONLY:
        return "may not be written"
    return "cannot be reached, read or written"


def _sqlite_kind(error: exc.DBAPIError | sqlite3.Error) -> int | None:
    """SQLite's primary result code; None for PostgreSQL's errors."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    code: int | None = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
