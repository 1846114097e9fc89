"""What an index may be: pure checks of settings and changes, whoever the vendor is.

Paths of errors are those of IndexSettings (`("name",)`, `("deployment", "pod_type")`, `("embed", "model")`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pinyon.catalog import ModelSpec
from pinyon.errors import InvalidRequest, NotFound, Param, Unsupported
from pinyon.state import Byoc, Dedicated, Deployment, Embed, IndexRecord, IndexSettings, Pod, Serverless, VectorType
from pinyon.stores.base import Layout
from pinyon.types import Metric

MAX_NAME = 45
MAX_DIMENSION = 20_000
MAX_TAGS = 20
MAX_TAG_KEY = 80
MAX_TAG_VALUE = 120
MAX_SCHEMA_FIELDS = 50
MAX_FIELD_NAME_BYTES = 64
MAX_COUNT = 2**31 - 1  # of replicas, shards, pods: clients read 32 bits
MAX_PLACE = 100  # characters of a region or an environment
CLOUDS = ("aws", "azure", "gcp")

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_TAG_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TAG_VALUE = re.compile(r"[ -~]*")
_POD_TYPE = re.compile(r"(s1|p1|p2)(?:\.(x1|x2|x4|x8))?")


@dataclass(frozen=True, slots=True)
class OnDemand:
    """Read capacity that nobody reserved."""


@dataclass(frozen=True, slots=True)
class EmbedChange:
    """A model for a plain index, or other ways of using the one that an index has. None leaves a part as it is."""

    model: str | None = None
    field_map: Mapping[str, str] | None = None
    read_parameters: Mapping[str, Any] | None = None
    write_parameters: Mapping[str, Any] | None = None
    of_field: str | None = None  # given: the index must have a model already, which reads this field


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What a client may change of an index; None leaves a part as it is."""

    tags: Mapping[str, str] | None = None  # merged; "" deletes
    deletion_protection: bool | None = None
    deployment: type[Deployment] | None = None  # what the client takes the index for
    read_capacity: OnDemand | Dedicated | None = None  # of Dedicated, a part that is None stays
    replicas: int | None = None  # of pods
    pod_type: str | None = None
    embed: EmbedChange | None = None


def checked_settings(settings: IndexSettings) -> IndexSettings:
    """The settings as they are remembered. Raises InvalidRequest, NotFound, Unsupported."""
    check_name(settings.name)
    _check_vectors(settings.vector_type, settings.metric, settings.dimension)
    if settings.cmek_id is not None:
        raise Unsupported("Customer-managed encryption keys are not served")
    check_schema(settings.schema)
    check_read_capacity(settings.read_capacity, settings.deployment)
    return replace(settings, tags=merged_tags({}, settings.tags), deployment=_checked_deployment(settings.deployment))


def layout_of(settings: IndexSettings) -> Layout:
    return Layout(settings.dimension, settings.metric)


def check_name(name: str) -> None:
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidRequest(f"must have 1 to {MAX_NAME} characters", ("name",))
    if _NAME.fullmatch(name) is None:
        reason = "must hold only lowercase letters, digits and '-', and must not begin or end with '-'"
        raise InvalidRequest(reason, ("name",))


def _check_vectors(vector_type: VectorType, metric: Metric, dimension: int | None) -> None:
    if vector_type is VectorType.SPARSE:
        if dimension is not None:
            raise InvalidRequest("must not be given for sparse vectors", ("dimension",))
        if metric is not Metric.DOTPRODUCT:
            raise InvalidRequest("must be 'dotproduct' for sparse vectors", ("metric",))
    elif dimension is None:
        raise InvalidRequest("is required for dense vectors", ("dimension",))
    elif not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidRequest(f"must be between 1 and {MAX_DIMENSION}", ("dimension",))


def _checked_deployment(deployment: Deployment) -> Deployment:
    match deployment:
        case Serverless(cloud, region):
            # A region is any name: they all run here. An empty one is a mistake, and so is a cloud that nobody has.
            if cloud not in CLOUDS or not _is_place(region):
                place = f"cloud: {cloud[:MAX_PLACE]} region: {region[:MAX_PLACE]}"
                raise NotFound(f"Resource {place} not found.", "cloud", cloud)
        case Byoc(environment) | Pod(environment) if not _is_place(environment):
            raise InvalidRequest(f"must have 1 to {MAX_PLACE} printable characters", ("deployment", "environment"))
    return checked_pods(deployment) if isinstance(deployment, Pod) else deployment


def _is_place(name: str) -> bool:
    return bool(name.strip()) and name.isprintable() and len(name) <= MAX_PLACE


def checked_pods(pod: Pod) -> Pod:
    """The type with its size. Raises InvalidRequest."""
    for part, count in (("replicas", pod.replicas), ("shards", pod.shards)):
        if not 1 <= count <= MAX_COUNT:
            raise InvalidRequest(f"must be between 1 and {MAX_COUNT}", ("deployment", part))
    if pod.pods > MAX_COUNT:
        raise InvalidRequest(f"must not make more than {MAX_COUNT} pods with the shards", ("deployment", "replicas"))
    return replace(pod, pod_type=checked_pod_type(pod.pod_type))


def checked_pod_type(pod_type: str) -> str:
    """The type with its size: "p1" is "p1.x1"."""
    match = _POD_TYPE.fullmatch(pod_type)
    if match is None:
        raise InvalidRequest("must be s1, p1 or p2, then .x1, .x2, .x4 or .x8", ("deployment", "pod_type"))
    return f"{match[1]}.{match[2] or 'x1'}"


def check_read_capacity(capacity: Dedicated | None, deployment: Deployment) -> None:
    """Reserved capacity must say all of itself."""
    if capacity is None:
        return
    if isinstance(deployment, Pod):
        raise InvalidRequest("must not be given for an index of pods", ("read_capacity",))
    for part in ("node_type", "scaling", "replicas", "shards"):
        if getattr(capacity, part) is None:
            raise InvalidRequest("is required for dedicated read capacity", ("read_capacity", part))
    if capacity.node_type not in ("b1", "t1"):
        raise InvalidRequest("must be 'b1' or 't1'", ("read_capacity", "node_type"))
    if capacity.scaling != "Manual":
        raise InvalidRequest("must be 'Manual'", ("read_capacity", "scaling"))
    assert capacity.replicas is not None and capacity.shards is not None
    for part, least, count in (("replicas", 0, capacity.replicas), ("shards", 1, capacity.shards)):
        if not least <= count <= MAX_COUNT:
            raise InvalidRequest(f"must be between {least} and {MAX_COUNT}", ("read_capacity", part))


def check_schema(schema: Mapping[str, Any]) -> None:
    """Metadata fields that are declared, each by `{"filterable": true}`."""
    if len(schema) > MAX_SCHEMA_FIELDS:
        raise InvalidRequest(f"must declare at most {MAX_SCHEMA_FIELDS} fields", ("schema",))
    for name, declaration in schema.items():
        check_field_name(name, ("schema", name))
        if declaration.get("filterable", True) is not True:
            raise InvalidRequest("must be true: every declared field can be filtered", ("schema", name, "filterable"))


def check_field_name(name: str, param: Param) -> None:
    if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= MAX_FIELD_NAME_BYTES or name[0] in "$_":
        reason = f"must be a field's name: 1 to {MAX_FIELD_NAME_BYTES} bytes, not beginning with '$' or '_'"
        raise InvalidRequest(reason, param)


def merged_tags(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The tags after a change: an empty value deletes."""
    for key, value in new.items():
        if len(key) > MAX_TAG_KEY or _TAG_KEY.fullmatch(key) is None:
            reason = f"must be a tag's name: 1 to {MAX_TAG_KEY} letters, digits, '_' or '-'"
            raise InvalidRequest(reason, ("tags", key))
        if len(value) > MAX_TAG_VALUE or _TAG_VALUE.fullmatch(value) is None:
            raise InvalidRequest(f"must be at most {MAX_TAG_VALUE} printable ASCII characters", ("tags", key))
    tags = {key: value for key, value in {**old, **new}.items() if value}
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"must be at most {MAX_TAGS} together", ("tags",))
    return tags


# --- integrated embedding ------------------------------------------------------------------------------------------


def checked_embed(embed: Embed, spec: ModelSpec) -> Embed:
    """What a new index with this model is like: `metric` and `dimension` are filled in. Raises InvalidRequest."""
    _check_task(embed.model, spec)
    _check_field_map(embed.field_map)
    _check_parameters(embed, spec)
    sparse = spec.vector_type == "sparse"
    metric = embed.metric or _default_metric(spec)
    _check_metric(metric, spec, ("embed", "metric"))
    dimension = _agreed_dimension(embed)
    if sparse and dimension is not None:
        raise InvalidRequest(f"must not be given: {embed.model!r} gives sparse vectors", ("embed", "dimension"))
    if not sparse:
        dimension = dimension or spec.default_dimension
        if dimension is None:
            raise InvalidRequest(f"is required by model {embed.model!r}", ("embed", "dimension"))
        spec.check_dimension(dimension, ("embed", "dimension"))
    return replace(embed, metric=metric, dimension=dimension)


def changed_embed(record: IndexRecord, change: EmbedChange, model: Callable[[str], ModelSpec]) -> Embed:
    """`model` finds a model by its name. Raises InvalidRequest, and what `model` raises."""
    old = record.embed
    if old is None:
        return _converted(record, change, model)
    if change.model is not None and change.model != old.model:
        raise InvalidRequest(f"must stay {old.model!r}: an index keeps its model", ("embed", "model"))
    if change.of_field is not None and change.of_field not in old.field_map.values():
        reason = f"must be {', '.join(map(repr, old.field_map.values()))}, the field that the index's model reads"
        raise InvalidRequest(reason, ("embed", "field_map"))
    if change.field_map is not None:
        _check_field_map(change.field_map)
    new = replace(
        old,
        field_map=old.field_map if change.field_map is None else change.field_map,
        read_parameters=old.read_parameters if change.read_parameters is None else change.read_parameters,
        write_parameters=old.write_parameters if change.write_parameters is None else change.write_parameters,
    )
    _check_parameters(new, model(old.model))
    _check_dimension_stays(new, record.dimension)
    return new


def _converted(record: IndexRecord, change: EmbedChange, model: Callable[[str], ModelSpec]) -> Embed:
    if change.of_field is not None:
        reason = "is not a field that a model reads: the index has no integrated embedding"
        raise InvalidRequest(reason, ("embed", "field_map"))
    if change.model is None:
        raise InvalidRequest("is required to give an index integrated embedding", ("embed", "model"))
    if change.field_map is None:
        raise InvalidRequest("is required to give an index integrated embedding", ("embed", "field_map"))
    spec = model(change.model)
    _check_task(change.model, spec)
    _check_field_map(change.field_map)
    if (spec.vector_type or "dense") != record.vector_type.value:
        reason = f"must give {record.vector_type.value} vectors, as the index holds"
        raise InvalidRequest(reason, ("embed", "model"))
    if record.dimension is not None:
        try:
            spec.check_dimension(record.dimension, ("embed", "model"))
        except InvalidRequest:
            reason = f"must give vectors of the index's dimension, {record.dimension}"
            raise InvalidRequest(reason, ("embed", "model")) from None
    if spec.metrics and record.metric.value not in spec.metrics:
        reason = f"must support the index's metric, {record.metric.value!r}"
        raise InvalidRequest(reason, ("embed", "model"))
    embed = Embed(
        model=change.model,
        field_map=change.field_map,
        metric=record.metric,
        dimension=record.dimension,
        read_parameters=change.read_parameters,
        write_parameters=change.write_parameters,
    )
    _check_parameters(embed, spec)
    _check_dimension_stays(embed, record.dimension)
    return embed


def _check_task(name: str, spec: ModelSpec) -> None:
    if spec.task != "embed":
        raise InvalidRequest(f"must be an embedding model; {name!r} is a reranking model", ("embed", "model"))


def _check_field_map(field_map: Mapping[str, str]) -> None:
    if set(field_map) != {"text"}:
        raise InvalidRequest("must name one field, as 'text'", ("embed", "field_map"))
    check_field_name(field_map["text"], ("embed", "field_map", "text"))


def _default_metric(spec: ModelSpec) -> Metric:
    usual = Metric.DOTPRODUCT if spec.vector_type == "sparse" else Metric.COSINE
    return usual if not spec.metrics or usual.value in spec.metrics else Metric(spec.metrics[0])


def _check_metric(metric: Metric, spec: ModelSpec, param: Param) -> None:
    if spec.metrics and metric.value not in spec.metrics:
        raise InvalidRequest(f"must be one of {', '.join(spec.metrics)} for model {spec.name!r}", param)


def _given_dimensions(embed: Embed) -> dict[Param, object]:
    """Every dimension that was asked for, by where."""
    given: dict[Param, object] = {}
    for parameters, name in ((embed.read_parameters, "read_parameters"), (embed.write_parameters, "write_parameters")):
        if parameters is not None and "dimension" in parameters:
            given["embed", name, "dimension"] = parameters["dimension"]
    return given


def _agreed_dimension(embed: Embed) -> int | None:
    """The one that was asked for, if any. Parameters were checked before: theirs are numbers."""
    agreed = embed.dimension
    for param, dimension in _given_dimensions(embed).items():
        assert isinstance(dimension, int)
        if agreed is not None and dimension != agreed:
            raise InvalidRequest(f"must be the same everywhere, and was {agreed} before", param)
        agreed = dimension
    return agreed


def _check_dimension_stays(embed: Embed, dimension: int | None) -> None:
    for param, given in _given_dimensions(embed).items():
        if given != dimension:
            raise InvalidRequest(f"must be the index's, {dimension}", param)


def _check_parameters(embed: Embed, spec: ModelSpec) -> None:
    known = {parameter.name: parameter for parameter in spec.parameters}
    for where, given in (("read_parameters", embed.read_parameters), ("write_parameters", embed.write_parameters)):
        for name, value in (given or {}).items():
            param = ("embed", where, name)
            if name not in known:
                takes = ", ".join(known) or "none"
                raise InvalidRequest(f"is not a parameter of model {spec.name!r}, which takes: {takes}", param)
            known[name].check(value, param)
