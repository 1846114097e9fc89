"""The embedded, durable store: Qdrant's engine, with a journal, compaction and order of its own.

Each open index has a process that has its shard, the host. From the outside in: store (folders, the lock), index (the
async calls), writer (the order of writes), compactor (when), contents (manifest, journal, ids), link (the calls to a
host), messages. On the other side of the socket: host, ranking (queries), shard (the engine); and compaction, snapshot
and creation, which have processes of their own. child and zygote are how processes are made.
"""

from pinyon.stores.edge.store import EdgeStore

__all__ = ["EdgeStore"]
