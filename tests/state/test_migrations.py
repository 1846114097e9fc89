"""The migrations against the tables: whoever changes one and forgets the other is told."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pinyon.errors import Unavailable
from pinyon.state import migrations
from pinyon.state.tables import HEAD, VERSION_TABLE, metadata
from tests.state.making import connected, make_ready, opened

REVISIONS = migrations.revisions()


def _differences(connection: sa.Connection) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_the_tables_say_which_revision_they_are() -> None:
    assert REVISIONS[-1] == HEAD


def test_step_by_step_from_nothing_to_the_tables_of_today(url: str) -> None:
    with connected(url) as connection:
        assert _differences(connection) != []
    for revision in REVISIONS:
        with connected(url) as connection:
            migrations.upgrade(connection, revision)
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            assert context.get_current_revision() == revision
    with connected(url) as connection:
        assert _differences(connection) == []
        # What Alembic does not compare.
        inspector = sa.inspect(connection)
        for table in metadata.tables.values():
            assert inspector.get_pk_constraint(table.name)["name"] == f"pk_{table.name}"
            assert inspector.get_pk_constraint(table.name)["constrained_columns"] == list(
                table.primary_key.columns.keys()
            )


@pytest.mark.parametrize("revision", ["base", *REVISIONS])
def test_a_database_of_any_revision_is_brought_up_to_date_on_opening(url: str, revision: str) -> None:
    if revision != "base":
        with connected(url) as connection:
            migrations.upgrade(connection, revision)

    async def run() -> None:
        async with opened(url) as state:
            made = await make_ready(state)
        async with opened(url) as state:
            assert await state.list_indexes() == [made]

    asyncio.run(run())
    with connected(url) as connection:
        assert _differences(connection) == []


def test_a_migration_that_fails_leaves_nothing_behind(url: str) -> None:
    with pytest.raises(RuntimeError, match="half way"), connected(url) as connection:
        migrations.upgrade(connection)
        raise RuntimeError("half way")
    with connected(url) as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_a_database_that_a_newer_pinyon_wrote_is_refused_and_left_alone(url: str) -> None:
    async def run() -> None:
        async with opened(url) as state:
            await make_ready(state)
        with connected(url) as connection:
            connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = 'f00d'"))
        with pytest.raises(Unavailable, match=rf"newer Pinyon \(revision f00d, this one knows {HEAD}\)"):
            async with opened(url):
                pass
        with connected(url) as connection:
            assert connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")) == "f00d"
            assert connection.scalar(sa.text("SELECT name FROM indexes")) == "notes"

    asyncio.run(run())


def test_whoever_looks_on_makes_and_migrates_nothing(url: str) -> None:
    async def look_on() -> int:
        async with opened(url, existing=True) as state:
            return len(await state.list_indexes())

    with pytest.raises(Unavailable, match="no server has been started"):
        asyncio.run(look_on())
    with connected(url) as connection:
        assert sa.inspect(connection).get_table_names() == []
        migrations.upgrade(connection, REVISIONS[0])
    with pytest.raises(Unavailable, match=rf"another Pinyon \(revision {REVISIONS[0]}, this one knows {HEAD}\)"):
        asyncio.run(look_on())

    async def serve() -> None:
        async with opened(url) as state:
            await make_ready(state)
            assert await look_on() == 1

    with connected(url) as connection:
        assert not sa.inspect(connection).has_table("jobs")
    asyncio.run(serve())
