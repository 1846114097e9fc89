"""The embedded, durable store: Qdrant's engine in this process, with a journal, compaction and order of its own.

From the outside in: store (folders, the lock), index (the async calls), ranking (queries), contents (what ties shard
and journal together), compaction (the child), journal, shard (the engine), ids.
"""

from pinyon.stores.edge.store import EdgeStore

__all__ = ["EdgeStore"]
