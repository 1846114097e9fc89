"""Backups, restore jobs and collections, driven by whichever of Pinecone's Python SDKs is imported. The calls are those
of the vendor's reference.

Run as `python -m tests.dialects.pinecone.programs.backups URL`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.dialects.pinecone.programs.client import MAJOR, equal, exceptions, pinecone, plain, refused

AWS = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
VECTORS = [{"id": f"v{n}", "values": [1.0, n / 7, 0.5], "metadata": {"n": n}} for n in range(20)]


def until(describe: Callable[[], Any], status: str) -> Any:
    end = time.monotonic() + 60
    while (found := describe()).status != status:
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found


def contents(index: Any) -> dict[str, Any]:
    found = {
        space: index.fetch(ids=[vector["id"] for vector in VECTORS], namespace=space).vectors
        for space in ("", "a b/日")
    }
    return {
        space: {id: (list(vector.values), dict(vector.metadata)) for id, vector in vectors.items()}
        for space, vectors in found.items()
    }


def life_of_backups(pc: Any) -> None:
    pc.create_index("docs-example", dimension=3, spec=AWS, tags={"team": "a"})
    index = pc.Index(name="docs-example")
    index.upsert(vectors=VECTORS[:12])
    index.upsert(vectors=VECTORS[12:], namespace="a b/日")
    source = contents(index)
    equal(list(pc.list_backups()), [])
    equal(list(pc.list_backups(index_name="docs-example")), [])

    made = pc.create_backup(
        index_name="docs-example", backup_name="example-backup", description="Monthly backup of production index"
    )
    assert made.status in ("Initializing", "Ready")
    backup = until(lambda: pc.describe_backup(backup_id=made.backup_id), "Ready")
    equal((backup.name, backup.description), ("example-backup", "Monthly backup of production index"))
    equal((backup.source_index_name, backup.cloud, backup.region), ("docs-example", "aws", "us-east-1"))
    equal((backup.record_count, backup.namespace_count, plain(backup.tags)), (20, 2, {"team": "a"}))
    equal(backup.source_index_id, made.source_index_id)
    assert backup.size_bytes > 20 * 12
    if MAJOR < 10:
        equal((backup.dimension, backup.metric), (3, "cosine"))
    pc.create_backup(index_name="docs-example", backup_name="second")
    listed = list(pc.list_backups(index_name="docs-example"))
    equal([each.name for each in listed], ["second", "example-backup"])
    equal([each.backup_id for each in pc.list_backups()], [each.backup_id for each in listed])
    print(pc.list_backups(), file=sys.stderr)  # as the samples do
    page = pc.list_backups(index_name="docs-example", limit=1)
    equal([each.name for each in page], ["second"])
    page = pc.list_backups(index_name="docs-example", pagination_token=page.pagination.next)
    equal(([each.name for each in page], page.pagination), (["example-backup"], None))
    until(lambda: pc.describe_backup(backup_id=listed[0].backup_id), "Ready")

    pc.delete_index("docs-example")
    pc.create_index_from_backup(
        name="restored-index", backup_id=backup.backup_id, tags={"team": "b"}, deletion_protection="enabled"
    )
    model = pc.describe_index("restored-index")
    assert model.status.ready
    equal((plain(model.tags), model.deletion_protection, model.dimension), ({"team": "b"}, "enabled", 3))
    equal(contents(pc.Index(name="restored-index")), source)
    print(pc.list_restore_jobs(), file=sys.stderr)  # as the samples do
    [job] = list(pc.list_restore_jobs())
    equal((job.backup_id, job.target_index_name, job.status), (backup.backup_id, "restored-index", "Completed"))
    equal(float(job.percent_complete), 100.0)
    assert moment(job.created_at) <= moment(job.completed_at) <= datetime.now(UTC)
    equal(pc.describe_restore_job(job_id=job.restore_job_id).target_index_id, job.target_index_id)

    wrong, missing = exceptions.PineconeApiException, exceptions.NotFoundException
    again: dict[str, Any] = {"backup_id": backup.backup_id, "name": "restored-index"}
    refused(wrong, 409, "ALREADY_EXISTS", lambda: pc.create_index_from_backup(**again))
    refused(missing, 404, "not found", lambda: pc.create_backup(index_name="nothing", backup_name="b"))
    refused(missing, 404, "not found", lambda: pc.describe_restore_job(job_id="nothing"))
    for each in listed:
        pc.delete_backup(backup_id=each.backup_id)
        refused(missing, 404, "not found", partial(pc.describe_backup, backup_id=each.backup_id))
    equal(list(pc.list_backups()), [])
    pc.configure_index("restored-index", deletion_protection="disabled")
    pc.delete_index("restored-index")


def moment(text: Any) -> datetime:
    return text if isinstance(text, datetime) else datetime.fromisoformat(text)


def life_of_collections(pc: Any) -> None:
    equal(list(pc.list_collections().names()), [])
    if MAJOR >= 10:
        # NOTE: 2026-07 makes no index of pods, so that there is nothing to make a collection of.
        pc.create_index("notes", dimension=3, spec=AWS)
        refused(exceptions.PineconeApiException, 400, "pods", lambda: pc.create_collection(name="old", source="notes"))
        pc.delete_index("notes")
        return
    pods: dict[str, Any] = {"environment": "us-east1-gcp", "pod_type": "p1.x1"}
    pc.create_index("pods", dimension=3, spec=pinecone.PodSpec(**pods))
    index = pc.Index(name="pods")
    index.upsert(vectors=VECTORS)
    source = contents(index)
    pc.create_collection("old", "pods")
    found = until(lambda: described(pc.describe_collection("old")), "Ready")
    assert found.size > 20 * 12
    equal((found.name, found.environment, found.dimension, found.vector_count), ("old", "us-east1-gcp", 3, 20))
    equal(list(pc.list_collections().names()), ["old"])
    pc.create_index("again", dimension=3, spec=pinecone.PodSpec(**pods, source_collection="old"))
    assert pc.describe_index("again").status.ready
    equal(pc.describe_index("again").spec.pod.source_collection, "old")
    equal(contents(pc.Index(name="again")), source)
    pc.delete_collection("old")
    refused(exceptions.NotFoundException, 404, "not found", lambda: pc.describe_collection("old"))
    for name in ("pods", "again"):
        pc.delete_index(name)


def described(collection: Any) -> SimpleNamespace:
    """A collection, whether it came as a model or as a dictionary."""
    names = ("name", "status", "environment", "dimension", "vector_count", "size")
    is_mapping = isinstance(collection, dict)
    return SimpleNamespace(
        **{name: collection.get(name) if is_mapping else getattr(collection, name, None) for name in names}
    )


def main(url: str) -> None:
    pc = pinecone.Pinecone(api_key="secret", host=url)
    life_of_backups(pc)
    life_of_collections(pc)


if __name__ == "__main__":
    main(sys.argv[1])
    print(json.dumps({"version": pinecone.__version__}))
