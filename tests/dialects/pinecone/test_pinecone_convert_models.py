"""The catalogue as Pinecone's ModelInfo, against the published models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinyon.catalog import Catalogue
from pinyon.dialects.pinecone.inference import convert
from pinyon.dialects.pinecone.inference.schema import ModelInfoList
from pinyon.testing import fake_catalogue

GOLDEN_MODELS = Path(__file__).with_name("golden_models.json")


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return fake_catalogue(tmp_path)


def test_models_are_the_published_ones(catalogue: Catalogue) -> None:
    """Every entry of the catalogue, limit by limit, against a list written from the vendors' pages."""
    infos = [convert.model_info(spec, name=spec.name, is_here=catalogue.is_here(spec)) for spec in catalogue.list()]
    given = json.loads(convert.model_info_response(ModelInfoList(infos)))
    assert given == json.loads(GOLDEN_MODELS.read_text("utf-8"))


def test_model_info_has_no_nulls_and_keeps_types(catalogue: Catalogue) -> None:
    for spec in catalogue.list():
        info = json.loads(convert.model_info_response(convert.model_info(spec, name="asked-for", is_here=True)))
        assert info["model"] == "asked-for"
        assert info["short_description"] == spec.description
        assert None not in info.values()
        for parameter in info["supported_parameters"]:
            assert None not in parameter.values()
            kind = {"string": str, "integer": int, "boolean": bool}[parameter["value_type"]]
            values = parameter.get("allowed_values", []) + [parameter[key] for key in ("default",) if key in parameter]
            assert all(type(value) is kind for value in values)
            assert ("allowed_values" in parameter) == (parameter["type"] == "one_of")
            assert ("min" in parameter) == ("max" in parameter) == (parameter["type"] == "numeric_range")


@pytest.mark.parametrize(
    ("query", "filters"),
    [
        ({}, (None, None)),
        ({"type": "embed"}, ("embed", None)),
        ({"type": "rerank"}, ("rerank", None)),
        ({"vector_type": "dense"}, (None, "dense")),
        ({"type": "embed", "vector_type": "sparse"}, ("embed", "sparse")),
    ],
)
def test_models_filter(query: dict[str, str], filters: tuple[str | None, str | None]) -> None:
    assert convert.models_filter(query) == filters
