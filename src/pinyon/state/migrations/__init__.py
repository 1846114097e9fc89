"""From any earlier revision of the tables to the newest. There is no way back.

A new revision: a file in `versions/` that names the one before it, `tables.HEAD`, and the same change in `tables`.
Revisions never import `tables`, which moves on while they stay.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def _config() -> Config:
    config = Config()
    # Every per cent sign would be read as a reference to another setting.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def revisions() -> list[str]:
    """Every revision, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return [step.revision for step in script.walk_revisions()][::-1]


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Brings the tables to `revision`, inside the connection's transaction: whole or not at all."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
