import pytest

# Before anything imports them: the contract's asserts are in the package, and should explain themselves as those of a
# test module do.
pytest.register_assert_rewrite("pinyon.testing_stores", "tests.stores.machine")
