"""StoreContract: what every store must do, as tests. A store's own test module subclasses it:

    class TestMemory(StoreContract):
        def make_store(self, folder: Path) -> Store:
            return MemoryStore()

`durable = True` says that what the store holds outlives it. Only tests import this; tests/stores/test_machine.py goes
on where these examples end.
"""

from __future__ import annotations

from pinyon.testing_stores.filtering import Filtering
from pinyon.testing_stores.lifetimes import Lifetimes
from pinyon.testing_stores.ranking import Ranking
from pinyon.testing_stores.reads import Reads
from pinyon.testing_stores.snapshots import Snapshots
from pinyon.testing_stores.writes import Writes


class StoreContract(Lifetimes, Writes, Reads, Ranking, Filtering, Snapshots):
    """Every promise of stores/base.py. Subclass it, and say how a store is made."""
