"""Pinecone's inference bodies to core requests, and core results to bytes. Pure functions: no HTTP, no engine.

What is raised here names fields as the wire does. Errors of the core name them as the core does; `embed_param` and
`rerank_param` translate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import orjson
from msgspec import UNSET

from pinyon.catalog import ModelSpec, Scalar
from pinyon.dialects.pinecone.inference.schema import (
    EmbedBody,
    ModelInfo,
    ModelInfoList,
    RerankBody,
    SupportedParameter,
)
from pinyon.dialects.wire import to_json
from pinyon.errors import InvalidRequest, Param
from pinyon.types import EmbedRequest, EmbedResult, RerankRequest, RerankResult, SparseEmbedResult, Truncate

DEFAULT_RANK_FIELDS = ("text",)
DOCUMENTS_PER_RERANK_UNIT = 100

# --- embed ---------------------------------------------------------------------------------------------------------


def embed_request(body: EmbedBody, spec: ModelSpec) -> EmbedRequest:
    """Raises InvalidRequest for parameters that the model does not take, and for more inputs than it takes."""
    if spec.task != "embed":
        raise InvalidRequest(f"{body.model!r} is a reranking model, not an embedding model", ("model",))
    given = checked_parameters(body.parameters, spec)
    if len(body.inputs) > spec.max_batch:
        raise InvalidRequest(
            f"holds {len(body.inputs)} inputs, more than the {spec.max_batch} that the model takes", ("inputs",)
        )
    return EmbedRequest(
        model=body.model,
        inputs=[item.text for item in body.inputs],
        input_type=_text(given.get("input_type")),
        truncate=Truncate(_text(given.get("truncate")) or Truncate.END),
        dimension=_integer(given.get("dimension")),
        max_tokens=_integer(given.get("max_tokens_per_sequence")),
        return_tokens=given.get("return_tokens") is True,
    )


def embed_response(result: EmbedResult) -> bytes:
    """`{"model", "vector_type", "data": [{"values", "vector_type"}], "usage"}`; float32 with its fewest digits."""
    rows = np.ascontiguousarray(result.vectors)  # [inputs, dimension]
    return to_json(
        {
            "model": result.model,
            "vector_type": "dense",
            "data": [{"values": row, "vector_type": "dense"} for row in rows],
            "usage": {"total_tokens": int(result.tokens.sum())},
        }
    )


def embed_sparse_response(result: SparseEmbedResult) -> bytes:
    """As `embed_response`, with `sparse_values`, `sparse_indices` and, if the request wants them, `sparse_tokens`."""
    data = []
    for embedding in result.embeddings:
        item: dict[str, object] = {"vector_type": "sparse", "sparse_values": embedding.values}
        item["sparse_indices"] = embedding.indices
        if embedding.tokens is not None:
            item["sparse_tokens"] = embedding.tokens
        data.append(item)
    usage = {"total_tokens": int(result.tokens.sum())}
    return to_json({"model": result.model, "vector_type": "sparse", "data": data, "usage": usage})


def embed_param(param: Param) -> Param:
    """A core path as /embed calls it: `inputs[3].text` for `("inputs", 3)`, `parameters.x` for `("x",)`."""
    match param:
        case ("inputs", int()):
            return (*param, "text")
        case ("max_tokens", *_):
            return ("parameters", "max_tokens_per_sequence")
        case ("input_type" | "truncate" | "dimension", *_):
            return ("parameters", *param)
    return param


# --- rerank --------------------------------------------------------------------------------------------------------


def rerank_request(body: RerankBody, documents: Sequence[Mapping[str, object]], spec: ModelSpec) -> RerankRequest:
    """`documents` are `body.documents`, decoded. Raises InvalidRequest as `embed_request` does, and for a document
    without its rank fields."""
    if spec.task != "rerank":
        raise InvalidRequest(f"{body.model!r} is an embedding model, not a reranking model", ("model",))
    given = checked_parameters(body.parameters, spec)
    fields = rank_fields(body)
    if not fields:
        raise InvalidRequest("must hold at least one field", ("rank_fields",))
    if spec.max_rank_fields is not None and len(fields) > spec.max_rank_fields:
        raise InvalidRequest(
            f"holds {len(fields)} fields, more than the {spec.max_rank_fields} that the model ranks by",
            ("rank_fields",),
        )
    if len(documents) > spec.max_batch:
        raise InvalidRequest(
            f"holds {len(documents)} documents, more than the {spec.max_batch} that the model takes", ("documents",)
        )
    return RerankRequest(
        model=body.model,
        query=body.query,
        documents=[_rank_text(document, fields, position) for position, document in enumerate(documents)],
        top_n=body.top_n,
        truncate=Truncate(_text(given.get("truncate")) or Truncate.END),
    )


def rank_fields(body: RerankBody) -> Sequence[str]:
    return DEFAULT_RANK_FIELDS if body.rank_fields is None else body.rank_fields


def _rank_text(document: Mapping[str, object], fields: Sequence[str], position: int) -> str:
    """The document's rank fields in the order asked for, one a line; empty ones are left out.

    The whole is refused where it is empty, by the name of the first field.
    """
    texts: list[str] = []
    for field in fields:
        if field not in document:
            raise InvalidRequest("is required: it is one of the rank_fields", ("documents", position, field))
        text = document[field]
        if not isinstance(text, str):
            raise InvalidRequest("must be a string: it is one of the rank_fields", ("documents", position, field))
        texts.append(text)
    joined = "\n".join(filter(None, texts))
    if not joined:
        raise InvalidRequest("must not be empty", ("documents", position, fields[0]))
    return joined


def rerank_response(result: RerankResult, body: RerankBody) -> bytes:
    """`{"model", "data": [{"index", "score", "document"?}], "usage"}`, with documents byte for byte as they came."""
    data: list[dict[str, object]] = [
        {"index": int(index), "score": score} for index, score in zip(result.indices, result.scores, strict=True)
    ]
    if body.return_documents is not False:
        for ranked, index in zip(data, result.indices, strict=True):
            ranked["document"] = orjson.Fragment(bytes(body.documents[index]))
    units = max(1, -(-len(body.documents) // DOCUMENTS_PER_RERANK_UNIT))
    return to_json({"model": result.model, "data": data, "usage": {"rerank_units": units}})


def rerank_param(param: Param, fields: Sequence[str]) -> Param:
    """A core path as /rerank calls it. A document that is ranked by several fields is named as a whole."""
    match param:
        case ("documents", int()) if len(fields) == 1:
            return (*param, fields[0])
        case ("truncate", *_):
            return ("parameters", *param)
    return param


# --- models --------------------------------------------------------------------------------------------------------


def models_filter(query: Mapping[str, str]) -> tuple[str | None, str | None]:
    """`type` and `vector_type` of GET /models. Raises InvalidRequest for another key or value."""
    choices = {"type": ("embed", "rerank"), "vector_type": ("dense", "sparse")}
    for name, value in query.items():
        if name not in choices:
            raise InvalidRequest(f"is not a known query parameter, use {' or '.join(choices)}", (name,))
        if value not in choices[name]:
            raise InvalidRequest(f"must be {' or '.join(map(repr, choices[name]))}", (name,))
    return query.get("type"), query.get("vector_type")


def model_info(spec: ModelSpec, *, name: str, is_here: bool, stand_in: str | None = None) -> ModelInfo:
    """`name` is the name asked for: the model's own or an alias. `stand_in`: the model that is run in its place."""
    where = "" if is_here else _whereabouts(spec)
    if stand_in is not None:
        where = f" Here {stand_in} stands in for it, for development: the numbers are not this model's."
    return ModelInfo(
        model=name,
        short_description=spec.description + where,
        type=spec.task,
        supported_parameters=[
            SupportedParameter(
                parameter=parameter.name,
                type=parameter.kind,
                value_type=parameter.value_type,
                required=parameter.required,
                allowed_values=parameter.allowed or UNSET,
                min=UNSET if parameter.minimum is None else parameter.minimum,
                max=UNSET if parameter.maximum is None else parameter.maximum,
                default=UNSET if parameter.default is None else parameter.default,
            )
            for parameter in spec.parameters
        ],
        vector_type=spec.vector_type or UNSET,
        default_dimension=spec.default_dimension or UNSET,
        modality="text",
        max_sequence_length=spec.max_tokens or UNSET,
        max_batch_size=spec.max_batch,
        provider_name=spec.provider,
        supported_dimensions=spec.dimensions or UNSET,
        supported_metrics=spec.metrics or UNSET,
    )


def _whereabouts(spec: ModelSpec) -> str:
    if spec.source is not None and spec.source.repository is not None:
        return f" Weights not on this machine: pinyon models pull {spec.name}."
    return " Weights not on this machine."


def model_info_response(info: ModelInfo | ModelInfoList) -> bytes:
    return msgspec.json.encode(info)


# --- parameters ----------------------------------------------------------------------------------------------------


def checked_parameters(given: Mapping[str, object] | None, spec: ModelSpec) -> dict[str, Scalar]:
    """The values of a model's parameters, with its defaults for those that are not given.

    Raises InvalidRequest for one that the model does not have, a value that it may not have, and a required one that is
    not given.
    """
    given = given or {}
    known = {parameter.name for parameter in spec.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(parameter.name for parameter in spec.parameters) or "none"
            raise InvalidRequest(
                f"is not a parameter of model {spec.name!r}, which takes: {takes}", ("parameters", name)
            )
    values: dict[str, Scalar] = {}
    for parameter in spec.parameters:
        if parameter.name in given:
            values[parameter.name] = parameter.check(given[parameter.name], ("parameters", parameter.name))
        elif parameter.required:
            choices = f": {' or '.join(map(repr, parameter.allowed))}" if parameter.allowed else ""
            raise InvalidRequest(f"is required by model {spec.name!r}{choices}", ("parameters", parameter.name))
        elif parameter.default is not None:
            values[parameter.name] = parameter.default
    return values


def _text(value: Scalar | None) -> str | None:
    assert value is None or isinstance(value, str)
    return value


def _integer(value: Scalar | None) -> int | None:
    assert value is None or isinstance(value, int)
    return value
