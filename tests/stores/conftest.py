"""Nothing that a test writes is a load for which a compaction would wait, unless the test says so."""

from __future__ import annotations

import pytest

from .edge_scenario import no_load


@pytest.fixture(autouse=True)
def _no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    no_load(monkeypatch.setattr)
