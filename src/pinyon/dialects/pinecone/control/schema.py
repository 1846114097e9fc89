"""The bodies of Pinecone's control plane that are read. An optional key may be null, which is as leaving it out.

Until 2026-04 the vendor's schemas leave unknown keys open, except in `spec`; at 2026-07 they refuse them. So do these.
Values of a fixed set (metrics, clouds) are texts here: `convert` says which are right.
"""

from __future__ import annotations

from typing import Any

import msgspec

# --- read capacity: the same at every version that has it ------------------------------------------------------------


class Manual(msgspec.Struct, forbid_unknown_fields=True):
    replicas: int | None = None
    shards: int | None = None


class DedicatedConfig(msgspec.Struct, forbid_unknown_fields=True):
    node_type: str | None = None
    scaling: str | None = None
    manual: Manual | None = None


class OnDemandCapacity(msgspec.Struct, tag_field="mode", tag="OnDemand", forbid_unknown_fields=True):
    pass


class DedicatedCapacity(msgspec.Struct, tag_field="mode", tag="Dedicated", forbid_unknown_fields=True):
    dedicated: DedicatedConfig


ReadCapacity = OnDemandCapacity | DedicatedCapacity


class MetadataField(msgspec.Struct, omit_defaults=True):
    filterable: bool | None = None


class MetadataSchema(msgspec.Struct):
    fields: dict[str, MetadataField]


# --- 2025-04 to 2026-04 ----------------------------------------------------------------------------------------------


class ServerlessSpec(msgspec.Struct):
    cloud: str
    region: str
    read_capacity: ReadCapacity | None = None
    source_collection: str | None = None
    schema: MetadataSchema | None = None


class MetadataConfig(msgspec.Struct):
    indexed: list[str] | None = None


class PodSpec(msgspec.Struct):
    environment: str
    pod_type: str | None = None
    replicas: int | None = None
    shards: int | None = None
    pods: int | None = None
    metadata_config: MetadataConfig | None = None
    source_collection: str | None = None


class ByocSpec(msgspec.Struct):
    environment: str
    read_capacity: ReadCapacity | None = None
    schema: MetadataSchema | None = None


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of them."""

    serverless: ServerlessSpec | None = None
    pod: PodSpec | None = None
    byoc: ByocSpec | None = None


class CreateBody(msgspec.Struct):
    name: str
    spec: Spec
    dimension: int | None = None
    metric: str | None = None
    vector_type: str | None = None
    deletion_protection: str | None = None
    tags: dict[str, str] | None = None


class EmbedBody(msgspec.Struct):
    model: str
    field_map: dict[str, str]
    metric: str | None = None
    dimension: int | None = None
    read_parameters: dict[str, Any] | None = None
    write_parameters: dict[str, Any] | None = None


class CreateForModelBody(msgspec.Struct):
    """The same at every version."""

    name: str
    cloud: str
    region: str
    embed: EmbedBody
    deletion_protection: str | None = None
    tags: dict[str, str] | None = None
    schema: MetadataSchema | None = None
    read_capacity: ReadCapacity | None = None


class CapacityPatch(msgspec.Struct):
    read_capacity: ReadCapacity | None = None


class PodPatch(msgspec.Struct):
    replicas: int | None = None
    pod_type: str | None = None


class SpecPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of them."""

    serverless: CapacityPatch | None = None
    pod: PodPatch | None = None
    byoc: CapacityPatch | None = None


class EmbedPatch(msgspec.Struct):
    model: str | None = None
    field_map: dict[str, str] | None = None
    read_parameters: dict[str, Any] | None = None
    write_parameters: dict[str, Any] | None = None


class ConfigureBody(msgspec.Struct):
    spec: SpecPatch | None = None
    deletion_protection: str | None = None
    tags: dict[str, str] | None = None
    embed: EmbedPatch | None = None


# --- 2026-07 ---------------------------------------------------------------------------------------------------------


class ManagedV27(msgspec.Struct, tag_field="deployment_type", tag="managed", forbid_unknown_fields=True):
    cloud: str
    region: str
    environment: str | None = None  # read-only: what was described may be sent back


class ByocV27(msgspec.Struct, tag_field="deployment_type", tag="byoc", forbid_unknown_fields=True):
    environment: str


class PodV27(msgspec.Struct, tag_field="deployment_type", tag="pod"):
    """Refused, whatever is in it."""


class DenseField(msgspec.Struct, tag_field="type", tag="dense_vector", forbid_unknown_fields=True):
    dimension: int
    metric: str
    description: str | None = None


class SparseField(msgspec.Struct, tag_field="type", tag="sparse_vector", forbid_unknown_fields=True):
    description: str | None = None


class StringField(msgspec.Struct, tag_field="type", tag="string"):
    """Of a document index, which is not served."""

    full_text_search: dict[str, Any] | None = None
    embed: dict[str, Any] | None = None
    sparse_embed: dict[str, Any] | None = None


class SemanticTextField(msgspec.Struct, tag_field="type", tag="semantic_text"):
    """Refused: such an index is made through create-for-model."""


class FloatField(msgspec.Struct, tag_field="type", tag="float"):
    """Refused, as the next ones: metadata needs no declaration."""


class NumberField(msgspec.Struct, tag_field="type", tag="number"):
    pass


class IntegerField(msgspec.Struct, tag_field="type", tag="integer"):
    pass


class BooleanField(msgspec.Struct, tag_field="type", tag="boolean"):
    pass


class StringListField(msgspec.Struct, tag_field="type", tag="string_list"):
    pass


FieldV27 = (
    DenseField
    | SparseField
    | StringField
    | SemanticTextField
    | FloatField
    | NumberField
    | IntegerField
    | BooleanField
    | StringListField
)


class SchemaV27(msgspec.Struct, forbid_unknown_fields=True):
    fields: dict[str, msgspec.Raw]  # of FieldV27; decoded one by one, so that an error can name the field


class CreateBodyV27(msgspec.Struct, forbid_unknown_fields=True):
    schema: SchemaV27
    name: str | None = None
    deployment: ManagedV27 | ByocV27 | PodV27 | None = None
    read_capacity: ReadCapacity | None = None
    tags: dict[str, str] | None = None
    deletion_protection: str | None = None
    cmek_id: str | None = None


class PodPatchV27(msgspec.Struct, forbid_unknown_fields=True):
    replicas: int | None = None
    pod_type: str | None = None


class SemanticTextPatch(msgspec.Struct, tag_field="type", tag="semantic_text", forbid_unknown_fields=True):
    model: str | None = None
    read_parameters: dict[str, Any] | None = None
    write_parameters: dict[str, Any] | None = None


class SchemaPatch(msgspec.Struct, forbid_unknown_fields=True):
    fields: dict[str, SemanticTextPatch]


class ConfigureBodyV27(msgspec.Struct, forbid_unknown_fields=True):
    deployment: PodPatchV27 | None = None
    schema: SchemaPatch | None = None
    read_capacity: ReadCapacity | None = None
    tags: dict[str, str] | None = None
    deletion_protection: str | None = None


# --- backups and collections -----------------------------------------------------------------------------------------


class CreateBackupBody(msgspec.Struct):
    """The same at every version, as that of collections."""

    name: str | None = None
    description: str | None = None


class CreateCollectionBody(msgspec.Struct):
    name: str
    source: str


class RestoreBody(msgspec.Struct):
    name: str
    tags: dict[str, str] | None = None
    deletion_protection: str | None = None


class RestoreBodyV27(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    tags: dict[str, str] | None = None
    deletion_protection: str | None = None
    read_capacity: ReadCapacity | None = None


CREATE_BODY = msgspec.json.Decoder(CreateBody)
CREATE_FOR_MODEL_BODY = msgspec.json.Decoder(CreateForModelBody)
CONFIGURE_BODY = msgspec.json.Decoder(ConfigureBody)
CREATE_BODY_V27 = msgspec.json.Decoder(CreateBodyV27)
FIELD_V27: msgspec.json.Decoder[FieldV27] = msgspec.json.Decoder(FieldV27)
CONFIGURE_BODY_V27 = msgspec.json.Decoder(ConfigureBodyV27)
CREATE_BACKUP_BODY = msgspec.json.Decoder(CreateBackupBody)
CREATE_COLLECTION_BODY = msgspec.json.Decoder(CreateCollectionBody)
RESTORE_BODY = msgspec.json.Decoder(RestoreBody)
RESTORE_BODY_V27 = msgspec.json.Decoder(RestoreBodyV27)
