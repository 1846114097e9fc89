"""Which port an index gets. Clients cache an index's host, so a port that one index had must rest before another has
it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from pinyon.errors import FailedPrecondition
from pinyon.state.tables import indexes, released_ports

_NEVER = datetime.min.replace(tzinfo=UTC)


def choose_port(ports: range, taken: Container[int], released: Mapping[int, datetime]) -> int | None:
    """The lowest port that no index ever had, else the one that was released longest ago; None if all are taken."""
    free = (port for port in ports if port not in taken)
    return min(free, key=lambda port: (released.get(port, _NEVER), port), default=None)


def take_port(connection: sa.Connection, ports: range) -> int | None:
    """A port for an index that is about to be written; None if `ports` is empty. Raises FailedPrecondition when there
    is none left."""
    if not ports:
        return None
    taken = set(connection.scalars(sa.select(indexes.c.port).where(indexes.c.port.is_not(None))))
    released = {port: moment for port, moment in connection.execute(sa.select(released_ports))}
    port = choose_port(ports, taken, released)
    if port is None:
        raise FailedPrecondition(f"Every port from {ports[0]} to {ports[-1]} belongs to an index")
    connection.execute(released_ports.delete().where(released_ports.c.port == port))
    return port


def release_port(connection: sa.Connection, port: int | None, now: datetime) -> None:
    """Remembers that `port` rests from now on. None is no error."""
    if port is None:
        return
    # The clock may have been set back since; the last released must still come last.
    latest = connection.scalar(sa.select(sa.func.max(released_ports.c.released_at)))
    if latest is not None:
        now = max(now, latest + timedelta(microseconds=1))
    connection.execute(released_ports.insert().values(port=port, released_at=now))
