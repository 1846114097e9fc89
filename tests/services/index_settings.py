"""Index settings for tests."""

from __future__ import annotations

from typing import Any

from pinyon.state import Dedicated, Embed, IndexSettings, Serverless, VectorType
from pinyon.types import Metric

AWS = Serverless("aws", "us-east-1")
SPARSE: dict[str, Any] = {"vector_type": VectorType.SPARSE, "metric": Metric.DOTPRODUCT, "dimension": None}
READS = Dedicated("b1", "Manual", 1, 1)


def settings(name: str = "notes", **others: Any) -> IndexSettings:
    plain: dict[str, Any] = {
        "vector_type": VectorType.DENSE,
        "metric": Metric.COSINE,
        "dimension": 8,
        "deployment": AWS,
    }
    return IndexSettings(name=name, **plain | others)


def with_model(model: str = "all-minilm-l6-v2", field: str = "body", **others: Any) -> IndexSettings:
    return settings("faq", embed=Embed(model, {"text": field}, **others))
