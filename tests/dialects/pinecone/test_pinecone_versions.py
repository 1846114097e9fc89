"""Which API version a header asks for."""

from __future__ import annotations

import pytest

from pinyon.dialects.pinecone.versions import DEFAULT, KNOWN, read_version
from pinyon.errors import InvalidRequest


@pytest.mark.parametrize("version", KNOWN)
def test_a_known_version_is_itself(version: str) -> None:
    assert read_version(version) == version


def test_no_header_is_the_oldest() -> None:
    assert read_version(None) == DEFAULT == "2025-04"


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("2025-01", "2025-04"),  # Python SDK 6
        ("2024-07", "2025-04"),
        ("2025-07", "2025-04"),
        ("2025-12", "2025-10"),
        ("2026-01", "2025-10"),
        ("2026-05", "2026-04"),
        ("2026-10", "2026-07"),
        ("9999-12", "2026-07"),
    ],
)
def test_another_date_is_the_newest_not_later(asked: str, read: str) -> None:
    assert read_version(asked) == read


@pytest.mark.parametrize(
    "header",
    ["", "latest", "unstable", "2025-13", "2025-00", "2025-4", "2025-04-01", " 2025-04", "2025-04\n", "٢٠٢٥-٠٤"],
)
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest, match="must be a version such as 2026-07") as caught:
        read_version(header)
    assert caught.value.param == ("X-Pinecone-Api-Version",)
