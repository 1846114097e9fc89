"""What Alembic runs to migrate: on the connection of whoever called `migrations.upgrade`, in its transaction."""

from alembic import context

from pinyon.state.tables import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
