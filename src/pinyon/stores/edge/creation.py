"""The making of an empty shard, in a process of its own: the server's has no engine."""

from __future__ import annotations

import socket
from pathlib import Path

from pinyon.stores.base import Layout
from pinyon.stores.edge import child
from pinyon.stores.edge.compaction import sync_tree
from pinyon.stores.edge.shard import Shard


def main(stream: socket.socket, arguments: list[str], layout: Layout) -> None:
    """The child's work."""
    (folder,) = map(Path, arguments)
    Shard.create(folder, layout).close()
    sync_tree(folder)
    child.say(stream, child.DONE)
