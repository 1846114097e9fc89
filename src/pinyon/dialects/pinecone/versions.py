"""Which version of Pinecone's API a request speaks: the header `X-Pinecone-Api-Version`. Knows nothing of shapes.

Inference is the same at every version known here, so there it only decides whether a request is refused.
"""

from __future__ import annotations

import re

from pinyon.errors import InvalidRequest

HEADER = "X-Pinecone-Api-Version"
KNOWN = ("2025-04", "2025-10", "2026-04", "2026-07")  # oldest first

# NOTE: "If you don't, requests default to the oldest supported stable version" (docs.pinecone.io, "API versioning").
DEFAULT = KNOWN[0]

_DATE = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")


def read_version(header: str | None) -> str:
    """The known version that a header's value asks for. Raises InvalidRequest if it is not a YYYY-MM date.

    A date that is not known is read as the newest known one that is not later, or as the oldest. So Python SDK 6, which
    sends 2025-01, is served at 2025-04.
    """
    if header is None:
        return DEFAULT
    if _DATE.fullmatch(header) is None:
        raise InvalidRequest(f"must be a version such as {KNOWN[-1]}", (HEADER,))
    # The form makes the order of the texts the order of the dates.
    return max((version for version in KNOWN if version <= header), default=KNOWN[0])
