"""What an index may be: every rule, and the field that it names."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pinyon.errors import InvalidRequest
from pinyon.services.index_rules import EmbedChange, changed_embed, checked_embed, checked_settings
from pinyon.state import (
    Byoc,
    Dedicated,
    Embed,
    IndexRecord,
    IndexSettings,
    IndexStatus,
    Pod,
)
from pinyon.testing import fake_catalogue
from pinyon.types import Metric
from tests.services.index_settings import READS, SPARSE, settings, with_model


@pytest.mark.parametrize(
    ("made", "param"),
    [
        (settings(""), ("name",)),
        (settings("x" * 46), ("name",)),
        (settings("Notes"), ("name",)),
        (settings("-a"), ("name",)),
        (settings("a-"), ("name",)),
        (settings("a_b"), ("name",)),
        (settings("a\n"), ("name",)),
        (settings("é"), ("name",)),
        (settings(dimension=None), ("dimension",)),
        (settings(dimension=0), ("dimension",)),
        (settings(dimension=-1), ("dimension",)),
        (settings(dimension=20_001), ("dimension",)),
        (settings(**SPARSE | {"dimension": 8}), ("dimension",)),
        (settings(**SPARSE | {"metric": Metric.COSINE}), ("metric",)),
        (settings(tags={"a b": "c"}), ("tags", "a b")),
        (settings(tags={"": "c"}), ("tags", "")),
        (settings(tags={"a" * 81: "c"}), ("tags", "a" * 81)),
        (settings(tags={"a": "c" * 121}), ("tags", "a")),
        (settings(tags={"a": "é"}), ("tags", "a")),
        (settings(tags={f"t{n}": "x" for n in range(21)}), ("tags",)),
        (settings(schema={"$a": {"filterable": True}}), ("schema", "$a")),
        (settings(schema={"a" * 65: {"filterable": True}}), ("schema", "a" * 65)),
        (settings(schema={"a": {"filterable": False}}), ("schema", "a", "filterable")),
        (settings(schema={f"f{n}": {"filterable": True} for n in range(51)}), ("schema",)),
        (settings(deployment=Byoc(" ")), ("deployment", "environment")),
        (settings(deployment=Pod("")), ("deployment", "environment")),
        (settings(deployment=Pod("e", "p9.x1")), ("deployment", "pod_type")),
        (settings(deployment=Pod("e", replicas=0)), ("deployment", "replicas")),
        (settings(deployment=Pod("e", shards=0)), ("deployment", "shards")),
        (settings(deployment=Pod("e"), read_capacity=READS), ("read_capacity",)),
        (settings(read_capacity=Dedicated("b1", "Manual")), ("read_capacity", "replicas")),
        (settings(read_capacity=replace(READS, node_type="x")), ("read_capacity", "node_type")),
        (settings(read_capacity=replace(READS, scaling="x")), ("read_capacity", "scaling")),
        (settings(read_capacity=replace(READS, replicas=-1)), ("read_capacity", "replicas")),
        (settings(read_capacity=replace(READS, shards=0)), ("read_capacity", "shards")),
    ],
)
def test_what_may_not(made: IndexSettings, param: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_settings(made)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("made", "param"),
    [
        (with_model("bge-reranker-v2-m3"), ("embed", "model")),
        (with_model(field=""), ("embed", "field_map", "text")),
        (with_model(field="_id"), ("embed", "field_map", "text")),
        (settings(embed=Embed("e5", {})), ("embed", "field_map")),
        (settings(embed=Embed("e5", {"text": "a", "image": "b"})), ("embed", "field_map")),
        (settings(embed=Embed("e5", {"body": "a"})), ("embed", "field_map")),
        (with_model("e5", metric=Metric.DOTPRODUCT), ("embed", "metric")),
        (with_model("e5", dimension=512), ("embed", "dimension")),
        (with_model("e5", read_parameters={"dimension": 512}), ("embed", "read_parameters", "dimension")),
        (
            with_model("llama-text-embed-v2", write_parameters={"dimension": 5}),
            ("embed", "write_parameters", "dimension"),
        ),
        (
            with_model("llama-text-embed-v2", dimension=384, read_parameters={"dimension": 512}),
            ("embed", "read_parameters", "dimension"),
        ),
        (with_model(write_parameters={"truncate": "MIDDLE"}), ("embed", "write_parameters", "truncate")),
        (with_model(read_parameters={"colour": 1}), ("embed", "read_parameters", "colour")),
        (with_model("pinecone-sparse-english-v0", dimension=8), ("embed", "dimension")),
        (with_model("pinecone-sparse-english-v0", metric=Metric.COSINE), ("embed", "metric")),
    ],
)
def test_a_model_that_does_not_fit(tmp_path: Path, made: IndexSettings, param: tuple[str, ...]) -> None:
    assert made.embed is not None
    spec = fake_catalogue(tmp_path, e5="multilingual-e5-large").get(made.embed.model)
    with pytest.raises(InvalidRequest) as caught:
        checked_embed(made.embed, spec)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("made", "change", "param"),
    [
        (settings(), EmbedChange("e5", {"text": "t"}), ("embed", "model")),  # another dimension
        (settings(dimension=1024, metric=Metric.DOTPRODUCT), EmbedChange("e5", {"text": "t"}), ("embed", "model")),
        (
            settings(dimension=1024),
            EmbedChange("pinecone-sparse-english-v0", {"text": "t"}),
            ("embed", "model"),
        ),
        (settings(**SPARSE), EmbedChange("e5", {"text": "t"}), ("embed", "model")),
        (settings(dimension=1024), EmbedChange(field_map={"text": "t"}), ("embed", "model")),
        (settings(dimension=1024), EmbedChange("e5"), ("embed", "field_map")),
        (settings(dimension=1024), EmbedChange("e5", of_field="t"), ("embed", "field_map")),
        (settings(dimension=1024), EmbedChange("bge-reranker-v2-m3", {"text": "t"}), ("embed", "model")),
        (
            settings(dimension=384),
            EmbedChange("llama-text-embed-v2", {"text": "t"}, {"dimension": 512}),
            ("embed", "read_parameters", "dimension"),
        ),
    ],
)
def test_a_model_that_the_index_cannot_have(
    tmp_path: Path, made: IndexSettings, change: EmbedChange, param: tuple[str, ...]
) -> None:
    values = {field.name: getattr(made, field.name) for field in fields(IndexSettings)}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    record = IndexRecord(**values, id="u", status=IndexStatus.READY, port=None, created_at=moment, version=1)
    with pytest.raises(InvalidRequest) as caught:
        changed_embed(record, change, fake_catalogue(tmp_path, e5="multilingual-e5-large").get)
    assert caught.value.param == param
