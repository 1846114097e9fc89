"""What the control plane remembers: indexes, the ports they answer at, what their namespaces declare, jobs, backups and
collections. SQLite by default, PostgreSQL by URL.

`records` says what is remembered, `State` is how to get at it. The only place that imports SQLAlchemy; what SQLAlchemy
raises ends here, as the errors of `pinyon.errors`. Knows no vendor's shape, and checks only what the database must
guarantee: whether a name is well formed or a model exists is the services' to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pinyon.state.records import (
    BackupRecord,
    Byoc,
    CollectionRecord,
    CopyStatus,
    Dedicated,
    Deployment,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    JobKind,
    JobRecord,
    JobStatus,
    Pod,
    Schema,
    Serverless,
    VectorType,
)

if TYPE_CHECKING:
    from pinyon.state.state import State

__all__ = [
    "BackupRecord",
    "Byoc",
    "CollectionRecord",
    "CopyStatus",
    "Dedicated",
    "Deployment",
    "Embed",
    "IndexRecord",
    "IndexSettings",
    "IndexStatus",
    "JobKind",
    "JobRecord",
    "JobStatus",
    "Pod",
    "Schema",
    "Serverless",
    "State",
    "VectorType",
]


def __getattr__(name: str) -> Any:
    """SQLAlchemy takes as long to import as all the rest of the server: whoever opens no State goes without it."""
    if name == "State":
        from pinyon.state.state import State

        return State
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
