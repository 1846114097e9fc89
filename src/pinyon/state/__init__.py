"""What the control plane remembers: indexes, and the ports they answer at. SQLite by default, PostgreSQL by URL.

`records` says what is remembered, `State` is how to get at it. The only place that imports SQLAlchemy; what SQLAlchemy
raises ends here, as the errors of `pinyon.errors`. Knows no vendor's shape, and checks only what the database must
guarantee: whether a name is well formed or a model exists is the services' to say.
"""

from pinyon.state.records import (
    Byoc,
    Dedicated,
    Deployment,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    Pod,
    Serverless,
    VectorType,
)
from pinyon.state.state import State

__all__ = [
    "Byoc",
    "Dedicated",
    "Deployment",
    "Embed",
    "IndexRecord",
    "IndexSettings",
    "IndexStatus",
    "Pod",
    "Serverless",
    "State",
    "VectorType",
]
