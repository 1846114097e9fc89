"""What services stand on in tests: a store and a database. Each is named, and a fixture's parameter.

PostgreSQL is one of them where PINYON_TEST_POSTGRES names a server, as `make test-postgres` does.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from pinyon.stores.base import Store
from pinyon.stores.edge import EdgeStore
from pinyon.stores.memory import MemoryStore

POSTGRES = os.environ.get("PINYON_TEST_POSTGRES", "")
DATABASES = ["sqlite", "postgresql"] if POSTGRES else ["sqlite"]
STORES = ["memory", "edge"]
# A store and a database each; the embedded store on PostgreSQL is what a server would have.
GROUNDS = ["memory sqlite", "edge sqlite", *(["edge postgresql"] if POSTGRES else [])]


def make_store(name: str, folder: Path) -> Store:
    return MemoryStore() if name == "memory" else EdgeStore(folder / "store", reserve=0)


@contextlib.contextmanager
def database(name: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/state.db"
        return
    # A schema and not a database: that takes a fifth of a second to make and to drop.
    server = sa.make_url(POSTGRES).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    schema = f"pinyon_{uuid.uuid4().hex}"
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
        own = server.set(drivername="postgresql").update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
    finally:
        engine.dispose()


@contextlib.contextmanager
def ground(name: str, folder: Path) -> Iterator[tuple[Store, str]]:
    """An empty store, which whoever uses it closes, and the URL of an empty database."""
    store, state = name.split()
    with database(state, folder) as url:
        yield make_store(store, folder), url
