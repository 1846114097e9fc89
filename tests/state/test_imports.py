"""A server without indexes starts without what only they need, which takes as long to import as all the rest."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import pinyon.app
heavy = {"sqlalchemy", "alembic", "qdrant_edge"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
from pinyon.state import State
assert "sqlalchemy" in sys.modules and "alembic" not in sys.modules
assert State.__module__ == "pinyon.state.state"
"""


def test_what_is_imported_when() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
