"""Golden pairs: Pinecone's JSON of /embed, against core requests and results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pinyon.catalog import Catalogue, ModelSpec, Parameter
from pinyon.dialects.pinecone.inference import convert
from pinyon.dialects.pinecone.inference.schema import EMBED_BODY
from pinyon.errors import InvalidRequest, Param
from pinyon.testing import fake_catalogue
from pinyon.types import EmbedRequest, EmbedResult, SparseEmbedding, SparseEmbedResult, Truncate


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return fake_catalogue(tmp_path)


def embed_request(catalogue: Catalogue, body: bytes) -> EmbedRequest:
    call = EMBED_BODY.decode(body)
    return convert.embed_request(call, catalogue.get(call.model))


# --- embed: requests -----------------------------------------------------------------------------------------------

EMBED_REQUESTS: dict[str, tuple[bytes, EmbedRequest]] = {
    "the vendor's curl example": (
        b"""{
            "model": "llama-text-embed-v2",
            "parameters": {"input_type": "passage", "truncate": "END"},
            "inputs": [
              {"text": "Apple is a popular fruit known for its sweetness and crisp texture."},
              {"text": "Many people enjoy eating apples as a healthy snack."}
            ]
        }""",
        EmbedRequest(
            model="llama-text-embed-v2",
            inputs=[
                "Apple is a popular fruit known for its sweetness and crisp texture.",
                "Many people enjoy eating apples as a healthy snack.",
            ],
            input_type="passage",
            truncate=Truncate.END,
            dimension=1024,
        ),
    ),
    "no parameters": (
        b'{"model":"all-minilm-l6-v2","inputs":[{"text":"one"}]}',
        EmbedRequest(model="all-minilm-l6-v2", inputs=["one"], dimension=384),
    ),
    "parameters null": (
        b'{"model":"all-minilm-l6-v2","inputs":[{"text":"one"}],"parameters":null}',
        EmbedRequest(model="all-minilm-l6-v2", inputs=["one"], dimension=384),
    ),
    "parameters empty": (
        b'{"inputs":[{"text":"one"}],"parameters":{},"model":"all-minilm-l6-v2"}',
        EmbedRequest(model="all-minilm-l6-v2", inputs=["one"], dimension=384),
    ),
    "every parameter": (
        b'{"model":"llama-text-embed-v2","inputs":[{"text":"a"},{"text":"\xf0\x9f\x8c\xb2"}],'
        b'"parameters":{"input_type":"query","truncate":"START","dimension":512}}',
        EmbedRequest(
            model="llama-text-embed-v2",
            inputs=["a", "\N{EVERGREEN TREE}"],
            input_type="query",
            truncate=Truncate.START,
            dimension=512,
        ),
    ),
    "a model without dimensions to choose from": (
        b'{"model":"multilingual-e5-large","inputs":[{"text":"a"}],"parameters":{"input_type":"query","truncate":"NONE"}}',
        EmbedRequest(model="multilingual-e5-large", inputs=["a"], input_type="query", truncate=Truncate.NONE),
    ),
    "a sparse model's own parameters": (
        b'{"model":"pinecone-sparse-english-v0","inputs":[{"text":"a"}],'
        b'"parameters":{"input_type":"passage","max_tokens_per_sequence":2048,"return_tokens":true}}',
        EmbedRequest("pinecone-sparse-english-v0", ["a"], "passage", max_tokens=2048, return_tokens=True),
    ),
}


@pytest.mark.parametrize(("body", "expected"), EMBED_REQUESTS.values(), ids=EMBED_REQUESTS)
def test_embed_request(catalogue: Catalogue, body: bytes, expected: EmbedRequest) -> None:
    assert embed_request(catalogue, body) == expected


MINI = '"model":"all-minilm-l6-v2","inputs":[{"text":"a"}]'
E5 = '"model":"multilingual-e5-large","inputs":[{"text":"a"}]'
SPARSE = '"model":"pinecone-sparse-english-v0","inputs":[{"text":"a"}]'
PPLX = '"model":"pplx-embed-v1-0.6b","inputs":[{"text":"a"}]'

BAD_EMBEDS: dict[str, tuple[str, Param, str]] = {
    "unknown parameter": (
        f'{{{MINI},"parameters":{{"inputtype":"query"}}}}',
        ("parameters", "inputtype"),
        "is not a parameter of model 'all-minilm-l6-v2', which takes: input_type, truncate, dimension",
    ),
    "unknown parameter, null": (
        f'{{{MINI},"parameters":{{"x":null}}}}',
        ("parameters", "x"),
        "is not a parameter of model 'all-minilm-l6-v2', which takes: input_type, truncate, dimension",
    ),
    "no parameters to take": (
        '{"model":"nugen-flash-embed","inputs":[{"text":"a"}],"parameters":{"truncate":"END"}}',
        ("parameters", "truncate"),
        "is not a parameter of model 'nugen-flash-embed', which takes: none",
    ),
    "unknown value": (
        f'{{{MINI},"parameters":{{"input_type":"document"}}}}',
        ("parameters", "input_type"),
        "must be one of 'query', 'passage'",
    ),
    "unknown value of truncate": (
        f'{{{MINI},"parameters":{{"truncate":"end"}}}}',
        ("parameters", "truncate"),
        "must be one of 'END', 'NONE', 'START'",
    ),
    "a value that this model lacks": (
        f'{{{E5},"parameters":{{"input_type":"query","truncate":"START"}}}}',
        ("parameters", "truncate"),
        "must be one of 'END', 'NONE'",
    ),
    "required": (
        f'{{{E5},"parameters":{{"truncate":"END"}}}}',
        ("parameters", "input_type"),
        "is required by model 'multilingual-e5-large': 'query' or 'passage'",
    ),
    "required, no parameters": (
        f"{{{E5}}}",
        ("parameters", "input_type"),
        "is required by model 'multilingual-e5-large': 'query' or 'passage'",
    ),
    "null value": (f'{{{MINI},"parameters":{{"truncate":null}}}}', ("parameters", "truncate"), "must be a string"),
    "unsupported dimension": (
        f'{{{MINI},"parameters":{{"dimension":512}}}}',
        ("parameters", "dimension"),
        "must be one of 384",
    ),
    "dimension a string": (
        f'{{{MINI},"parameters":{{"dimension":"384"}}}}',
        ("parameters", "dimension"),
        "must be an integer",
    ),
    "dimension a float": (
        f'{{{MINI},"parameters":{{"dimension":384.0}}}}',
        ("parameters", "dimension"),
        "must be an integer",
    ),
    "dimension a bool": (
        f'{{{PPLX},"parameters":{{"dimension":true}}}}',
        ("parameters", "dimension"),
        "must be an integer",
    ),
    "dimension an object": (
        f'{{{MINI},"parameters":{{"dimension":{{"d":[384]}}}}}}',
        ("parameters", "dimension"),
        "must be an integer",
    ),
    "dimension beyond any machine": (
        f'{{{PPLX},"parameters":{{"dimension":1{"0" * 400}}}}}',
        ("parameters", "dimension"),
        "must be between 128 and 1024",
    ),
    "dimension below": (
        f'{{{PPLX},"parameters":{{"dimension":127}}}}',
        ("parameters", "dimension"),
        "must be between 128 and 1024",
    ),
    "a flag that is a number": (
        f'{{{SPARSE},"parameters":{{"input_type":"query","return_tokens":1}}}}',
        ("parameters", "return_tokens"),
        "must be a boolean",
    ),
    "max_tokens_per_sequence": (
        f'{{{SPARSE},"parameters":{{"input_type":"query","max_tokens_per_sequence":2049}}}}',
        ("parameters", "max_tokens_per_sequence"),
        "must be between 1 and 2048",
    ),
    "too many inputs": (
        json.dumps({"model": "all-minilm-l6-v2", "inputs": [{"text": "a"}] * 97}),
        ("inputs",),
        "holds 97 inputs, more than the 96 that the model takes",
    ),
    "parameters before inputs": (
        json.dumps({"model": "all-minilm-l6-v2", "inputs": [], "parameters": {"dimension": 1}}),
        ("parameters", "dimension"),
        "must be one of 384",
    ),
    "a reranking model": (
        '{"model":"bge-reranker-v2-m3","inputs":[{"text":"a"}],"parameters":{"input_type":"query"}}',
        ("model",),
        "'bge-reranker-v2-m3' is a reranking model, not an embedding model",
    ),
}


@pytest.mark.parametrize(("body", "param", "reason"), BAD_EMBEDS.values(), ids=BAD_EMBEDS)
def test_embed_request_refuses(catalogue: Catalogue, body: str, param: Param, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embed_request(catalogue, body.encode())
    assert (caught.value.param, caught.value.reason) == (param, reason)


def test_as_many_inputs_as_the_model_takes(catalogue: Catalogue) -> None:
    body = json.dumps({"model": "all-minilm-l6-v2", "inputs": [{"text": "a"}] * 96}).encode()
    assert len(embed_request(catalogue, body).inputs) == 96


def test_float_parameters_take_integers() -> None:
    weight = Parameter("weight", "numeric_range", "float", minimum=0, maximum=1, default=0.5)
    spec = ModelSpec("m", "embed", "d", "p", "l", parameters=(weight,))
    assert convert.checked_parameters({"weight": 1}, spec) == {"weight": 1}
    assert convert.checked_parameters(None, spec) == {"weight": 0.5}
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        convert.checked_parameters({"weight": 1.5}, spec)


# --- embed: responses ----------------------------------------------------------------------------------------------


def test_embed_response() -> None:
    vectors = np.array([[0.1, -0.25, 1e-9], [1.0, 0.0, 3.4028235e38]], dtype=np.float32)
    result = EmbedResult("my-alias", vectors, np.array([3, 5], dtype=np.int32))
    assert convert.embed_response(result) == (
        b'{"model":"my-alias","vector_type":"dense","data":['
        b'{"values":[0.1,-0.25,1e-9],"vector_type":"dense"},'
        b'{"values":[1.0,0.0,3.4028235e+38],"vector_type":"dense"}],'
        b'"usage":{"total_tokens":8}}'
    )


@pytest.mark.parametrize("with_tokens", [True, False])
def test_embed_sparse_response(with_tokens: bool) -> None:
    def embedding(indices: list[int], values: list[float], tokens: list[str]) -> SparseEmbedding:
        arrays = np.array(indices, np.uint32), np.array(values, np.float32)
        return SparseEmbedding(*arrays, tokens if with_tokens else None)

    found = [embedding([7, 2**32 - 1], [0.1, 2.5], ["pine", "\u00e5"]), embedding([], [], [])]
    first, second = (b',"sparse_tokens":["pine","\xc3\xa5"]', b',"sparse_tokens":[]') if with_tokens else (b"", b"")
    assert convert.embed_sparse_response(SparseEmbedResult("m", found, np.array([3, 0], np.int32))) == (
        b'{"model":"m","vector_type":"sparse","data":['
        b'{"vector_type":"sparse","sparse_values":[0.1,2.5],"sparse_indices":[7,4294967295]' + first + b"},"
        b'{"vector_type":"sparse","sparse_values":[],"sparse_indices":[]' + second + b"}],"
        b'"usage":{"total_tokens":3}}'
    )


def test_embed_response_gives_back_every_bit() -> None:
    vectors = np.random.default_rng(7).standard_normal((5, 384)).astype(np.float32)
    for given in (vectors, np.asfortranarray(vectors), vectors[:, ::-1]):
        body = json.loads(convert.embed_response(EmbedResult("m", given, np.ones(5, dtype=np.int32))))
        values = np.array([item["values"] for item in body["data"]]).astype(np.float32)
        assert np.array_equal(values, given)


@pytest.mark.parametrize(
    ("core", "wire"),
    [
        (("inputs",), ("inputs",)),
        (("inputs", 3), ("inputs", 3, "text")),
        (("dimension",), ("parameters", "dimension")),
        (("truncate",), ("parameters", "truncate")),
        (("input_type",), ("parameters", "input_type")),
        (("max_tokens",), ("parameters", "max_tokens_per_sequence")),
        (("model",), ("model",)),
        ((), ()),
    ],
)
def test_embed_param(core: Param, wire: Param) -> None:
    assert convert.embed_param(core) == wire
