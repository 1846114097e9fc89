"""What is remembered, in no vendor's and no version's shape: one canonical record, from which every one can be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pinyon.types import Metric


class VectorType(StrEnum):
    """What an index was made for. A dense index with dotproduct takes sparse values too."""

    DENSE = "dense"
    SPARSE = "sparse"


class IndexStatus(StrEnum):
    """How far an index has come. Only READY ones answer."""

    INITIALIZING = "initializing"  # remembered; its store is being made
    READY = "ready"
    FAILED = "failed"  # its store could not be made
    TERMINATING = "terminating"  # its store is being dropped; changes no more


# Metadata fields that are declared: name -> `{"filterable": True}`.
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Serverless:
    """Where a managed index pretends to run. They all run here."""

    cloud: str
    region: str


@dataclass(frozen=True, slots=True)
class Pod:
    environment: str
    pod_type: str = "p1.x1"
    replicas: int = 1
    shards: int = 1
    indexed: tuple[str, ...] | None = None  # the metadata fields that can be filtered; None: all

    @property
    def pods(self) -> int:
        return self.replicas * self.shards


@dataclass(frozen=True, slots=True)
class Byoc:
    """Runs in the user's own cloud account, so they believe."""

    environment: str


Deployment = Serverless | Pod | Byoc


@dataclass(frozen=True, slots=True)
class Dedicated:
    """Read capacity that was reserved; older versions may leave any part out."""

    node_type: str | None = None
    scaling: str | None = None
    replicas: int | None = None
    shards: int | None = None


@dataclass(frozen=True, slots=True)
class Embed:
    """The model that turns an index's text into vectors. Parameters None: none were given."""

    model: str
    field_map: Mapping[str, str]  # what the model reads ("text") -> the record's field that holds it
    metric: Metric | None = None
    dimension: int | None = None
    read_parameters: Mapping[str, Any] | None = None
    write_parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """What whoever creates an index decides. Open mappings hold JSON values, and keep their order."""

    name: str
    vector_type: VectorType
    metric: Metric
    dimension: int | None  # None: sparse vectors alone
    deployment: Deployment
    read_capacity: Dedicated | None = None  # None: on demand
    tags: Mapping[str, str] = field(default_factory=dict)
    deletion_protection: bool = False
    schema: Schema = field(default_factory=dict)  # of namespaces that have none of their own
    embed: Embed | None = None
    source_collection: str | None = None  # its name; the collection itself may be gone
    source_backup_id: str | None = None  # likewise
    cmek_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecord(IndexSettings):
    """An index as it is remembered. `id`, `name` and `created_at` never change."""

    id: str  # a UUID, never used again
    status: IndexStatus
    port: int | None  # None: it has no port of its own
    created_at: datetime  # UTC
    version: int  # of this row: every change adds 1


# --- jobs, and what they make ----------------------------------------------------------------------------------------


class JobKind(StrEnum):
    BACKUP = "backup"
    RESTORE = "restore"
    IMPORT = "import"
    COLLECTION = "collection"


class JobStatus(StrEnum):
    PENDING = "pending"  # waits for its turn; nothing has been done
    RUNNING = "running"  # has begun; after a restart it goes on from its progress
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (JobStatus.PENDING, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Work that may outlast a request and a restart. `request` and `progress` hold JSON values."""

    id: str  # a UUID, never used again
    kind: JobKind
    index_id: (
        str | None
    )  # what it works on: of a backup or a collection the source, of a restore or an import the target
    index_name: str | None
    status: JobStatus
    request: Mapping[str, Any]  # what was asked for
    progress: Mapping[str, Any]  # where to go on
    percent: float  # 0 to 100
    error: str | None  # of a failed one, a sentence for people
    cancelling: bool  # somebody wants it to stop
    created_at: datetime  # UTC
    finished_at: datetime | None
    version: int  # of this row: every change adds 1


class CopyStatus(StrEnum):
    """Of a backup or a collection."""

    INITIALIZING = "initializing"
    READY = "ready"
    FAILED = "failed"
    TERMINATING = "terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRecord:
    """An index at one moment. The counts are None until they are known."""

    id: str  # a UUID, never used again
    name: str | None
    description: str | None
    source_index_id: str
    source_index_name: str
    settings: IndexSettings  # of the source at that moment
    schemas: Mapping[str, Schema]  # what its namespaces declared
    status: CopyStatus
    record_count: int | None
    namespace_count: int | None
    size_bytes: int | None
    tags: Mapping[str, str]
    created_at: datetime  # UTC
    source_deleted_at: datetime | None = None  # when its index was forgotten; None: it is there


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRecord:
    """A static copy of a pod index. The counts are None until they are known."""

    id: str  # a UUID, never used again
    name: str  # of one collection at a time
    environment: str
    settings: IndexSettings  # of the source at that moment
    dimension: int | None  # None: sparse vectors alone
    vector_count: int | None
    size_bytes: int | None
    status: CopyStatus
    created_at: datetime  # UTC
