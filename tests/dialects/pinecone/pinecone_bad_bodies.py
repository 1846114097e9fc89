"""Bodies that Pinecone's inference plane must refuse, and what it says of each. Data, for test_pinecone_wire."""

from __future__ import annotations

import json
from typing import Any

EMBED: dict[str, Any] = {"model": "all-minilm-l6-v2", "inputs": [{"text": "two words"}]}
RERANK: dict[str, Any] = {"model": "all-minilm-l6-v2-rerank", "query": "q", "documents": [{"text": "a"}, {"text": "b"}]}


def changed(base: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(base | changes).encode()


def without(base: dict[str, Any], name: str) -> bytes:
    return json.dumps({key: value for key, value in base.items() if key != name}).encode()


DEEP = b"[" * 2000 + b"]" * 2000

# name -> (verb, body, the message or what it starts with)
BAD_BODIES: dict[str, tuple[str, bytes, str]] = {
    # empty
    "no inputs": ("embed", changed(EMBED, inputs=[]), "Invalid value for 'inputs': must hold at least one input"),
    "an empty text": (
        "embed",
        changed(EMBED, inputs=[{"text": "a"}, {"text": "b"}, {"text": "c"}, {"text": ""}]),
        "Invalid value for 'inputs[3].text': must not be empty",
    ),
    "no documents": (
        "rerank",
        changed(RERANK, documents=[]),
        "Invalid value for 'documents': must hold at least one document",
    ),
    "an empty query": ("rerank", changed(RERANK, query=""), "Invalid value for 'query': must not be empty"),
    "an empty document": (
        "rerank",
        changed(RERANK, documents=[{"text": ""}]),
        "Invalid value for 'documents[0].text': must not be empty",
    ),
    # wrong types, at every depth
    "a list": ("embed", b"[]", "Expected `object`, got `array`"),
    "a string": ("embed", b'"text"', "Expected `object`, got `str`"),
    "null": ("rerank", b"null", "Expected `object`, got `null`"),
    "inputs a string": ("embed", changed(EMBED, inputs="text"), "Invalid value for 'inputs': Expected `array`"),
    "inputs an object": ("embed", changed(EMBED, inputs={"text": "a"}), "Invalid value for 'inputs': Expected `array`"),
    "inputs null": ("embed", changed(EMBED, inputs=None), "Invalid value for 'inputs': Expected `array`, got `null`"),
    "an input a string": ("embed", changed(EMBED, inputs=["a"]), "Invalid value for 'inputs[0]': Expected `object`"),
    "an input null": (
        "embed",
        changed(EMBED, inputs=[{"text": "a"}, None]),
        "Invalid value for 'inputs[1]': Expected `object`, got `null`",
    ),
    "an input without text": (
        "embed",
        changed(EMBED, inputs=[{"text": "a"}, {}]),
        "Invalid value for 'inputs[1].text': is required",
    ),
    "a text that is a number": (
        "embed",
        changed(EMBED, inputs=[{"text": 5}]),
        "Invalid value for 'inputs[0].text': Expected `str`, got `int`",
    ),
    "a text that is null": (
        "embed",
        changed(EMBED, inputs=[{"text": None}]),
        "Invalid value for 'inputs[0].text': Expected `str`, got `null`",
    ),
    "a text that is a list": (
        "embed",
        changed(EMBED, inputs=[{"text": ["a"]}]),
        "Invalid value for 'inputs[0].text': Expected `str`, got `array`",
    ),
    "parameters a list": (
        "embed",
        changed(EMBED, parameters=["END"]),
        "Invalid value for 'parameters': Expected `object | null`, got `array`",
    ),
    "model a number": ("embed", changed(EMBED, model=1), "Invalid value for 'model': Expected `str`, got `int`"),
    "no model": ("embed", without(EMBED, "model"), "Invalid value for 'model': is required"),
    "no inputs key": ("embed", without(EMBED, "inputs"), "Invalid value for 'inputs': is required"),
    "no query": ("rerank", without(RERANK, "query"), "Invalid value for 'query': is required"),
    "query a list": ("rerank", changed(RERANK, query=["q"]), "Invalid value for 'query': Expected `str`"),
    "documents an object": ("rerank", changed(RERANK, documents={}), "Invalid value for 'documents': Expected `array`"),
    "a document a string": (
        "rerank",
        changed(RERANK, documents=[{"text": "a"}, "b"]),
        "Invalid value for 'documents[1]': Expected `object`, got `str`",
    ),
    "a document a list": (
        "rerank",
        changed(RERANK, documents=[["a"]]),
        "Invalid value for 'documents[0]': Expected `object`, got `array`",
    ),
    "a document without its field": (
        "rerank",
        changed(RERANK, documents=[{"text": "a"}, {"text": "b"}, {"body": "c"}]),
        "Invalid value for 'documents[2].text': is required: it is one of the rank_fields",
    ),
    "a rank field that is a number": (
        "rerank",
        changed(RERANK, documents=[{"text": 1}]),
        "Invalid value for 'documents[0].text': must be a string",
    ),
    "rank_fields a string": (
        "rerank",
        changed(RERANK, rank_fields="text"),
        "Invalid value for 'rank_fields': Expected `array | null`, got `str`",
    ),
    "rank_fields of numbers": (
        "rerank",
        changed(RERANK, rank_fields=["text", 1]),
        "Invalid value for 'rank_fields[1]': Expected `str`, got `int`",
    ),
    "top_n a bool": ("rerank", changed(RERANK, top_n=True), "Invalid value for 'top_n': Expected `int | null`"),
    "top_n a float": ("rerank", changed(RERANK, top_n=1.5), "Invalid value for 'top_n': Expected `int | null`"),
    "top_n a string": ("rerank", changed(RERANK, top_n="1"), "Invalid value for 'top_n': Expected `int | null`"),
    "top_n 0": ("rerank", changed(RERANK, top_n=0), "Invalid value for 'top_n': must be 1 or more"),
    "top_n negative": ("rerank", changed(RERANK, top_n=-1), "Invalid value for 'top_n': must be 1 or more"),
    "return_documents a string": (
        "rerank",
        changed(RERANK, return_documents="yes"),
        "Invalid value for 'return_documents': Expected `bool | null`, got `str`",
    ),
    # unknown
    "an unknown key": ("embed", changed(EMBED, input_type="query"), "Invalid value for 'input_type': is not a known"),
    "an unknown key of an input": (
        "embed",
        changed(EMBED, inputs=[{"text": "a", "txt": "b"}]),
        "Invalid value for 'inputs[0].txt': is not a known field",
    ),
    "an unknown key of rerank": ("rerank", changed(RERANK, topn=1), "Invalid value for 'topn': is not a known field"),
    "an unknown parameter": (
        "embed",
        changed(EMBED, parameters={"foo": 1}),
        "Invalid value for 'parameters.foo': is not a parameter of model 'all-minilm-l6-v2', which takes: input_type",
    ),
    "an unknown value": (
        "embed",
        changed(EMBED, parameters={"truncate": "MIDDLE"}),
        "Invalid value for 'parameters.truncate': must be one of 'END', 'NONE', 'START'",
    ),
    "an unsupported dimension": (
        "embed",
        changed(EMBED, parameters={"dimension": 383}),
        "Invalid value for 'parameters.dimension': must be one of 384",
    ),
    "an unknown parameter of rerank": (
        "rerank",
        changed(RERANK, parameters={"truncat": "END"}),
        "Invalid value for 'parameters.truncat': is not a parameter of",
    ),
    "a reranker asked to embed": (
        "embed",
        changed(EMBED, model="all-minilm-l6-v2-rerank"),
        "Invalid value for 'model'",
    ),
    "an embedder asked to rank": ("rerank", changed(RERANK, model="all-minilm-l6-v2"), "Invalid value for 'model'"),
    "bad parameters of a model that is not here": (
        "embed",
        changed(EMBED, model="llama-text-embed-v2"),
        "Invalid value for 'parameters.input_type': is required",
    ),
    # too many, too long
    "too many inputs": (
        "embed",
        changed(EMBED, inputs=[{"text": "a"}] * 97),
        "Invalid value for 'inputs': holds 97 inputs, more than the 96 that the model takes",
    ),
    "too many documents": (
        "rerank",
        changed(RERANK, documents=[{"text": "a"}] * 101),
        "Invalid value for 'documents': holds 101 documents, more than the 100 that the model takes",
    ),
    "too long": (
        "embed",
        changed(EMBED, inputs=[{"text": "a"}, {"text": "a " * 257}], parameters={"truncate": "NONE"}),
        "Invalid value for 'inputs[1].text': has 257 tokens, more than the 256 that the model takes",
    ),
    "too long a document": (
        "rerank",
        changed(RERANK, documents=[{"text": "a"}, {"text": "a " * 300}], parameters={"truncate": "NONE"}),
        "Invalid value for 'documents[1].text': has 300 tokens, more than the 256 that the model takes",
    ),
    "too long a query": (
        "rerank",
        changed(RERANK, query="a " * 300, parameters={"truncate": "NONE"}),
        "Invalid value for 'query': has 300 tokens, more than the 256 that the model takes",
    ),
    # not JSON
    "nothing": ("embed", b"", "The request body is not valid JSON"),
    "cut off": ("embed", b'{"model":"all-minilm-l6-v2","inputs":[{"te', "The request body is not valid JSON"),
    "not JSON": ("rerank", b"model=all-minilm-l6-v2", "The request body is not valid JSON"),
    "a trailing comma": ("embed", b'{"model":"m",}', "The request body is not valid JSON"),
    "something after": ("embed", changed(EMBED) + b"x", "The request body is not valid JSON"),
    "NaN": ("embed", b'{"model":"m","inputs":[],"parameters":{"dimension":NaN}}', "The request body is not valid JSON"),
    "UTF-16": ("embed", json.dumps(EMBED).encode("utf-16"), "The request body is not valid JSON"),
    "deep nesting": ("embed", DEEP, ""),
    "deep nesting in inputs": ("embed", b'{"model":"all-minilm-l6-v2","inputs":%b}' % DEEP, ""),
    "deep nesting in parameters": (
        "embed",
        b'{"model":"all-minilm-l6-v2","inputs":[{"text":"a"}],"parameters":{"x":%b}}' % DEEP,
        "The request body is nested too deeply",
    ),
    "deep nesting in a document": (
        "rerank",
        b'{"model":"all-minilm-l6-v2-rerank","query":"q","documents":[{"text":"a","x":%b}]}' % DEEP,
        "The request body is nested too deeply",
    ),
    # not text
    "a lone surrogate": (
        "embed",
        rb'{"model":"all-minilm-l6-v2","inputs":[{"text":"a"},{"text":"b\ud800"}]}',
        "Invalid value for 'inputs[1].text': must be valid Unicode text",
    ),
    "a lone low surrogate": (
        "embed",
        rb'{"model":"all-minilm-l6-v2","inputs":[{"text":"\udc00"}]}',
        "Invalid value for 'inputs[0].text': must be valid Unicode text",
    ),
    "bytes that are not UTF-8": (
        "embed",
        b'{"model":"all-minilm-l6-v2","inputs":[{"text":"a\xff"}]}',
        "Invalid value for 'inputs[0].text': must be valid Unicode text",
    ),
    "a lone surrogate in a name": (
        "embed",
        rb'{"model":"all-minilm-l6-v2","inputs":[{"text":"a"}],"parameters":{"\ud800":1}}',
        "Invalid value for 'parameters",
    ),
    "a lone surrogate in a document": (
        "rerank",
        rb'{"model":"all-minilm-l6-v2-rerank","query":"q","documents":[{"text":"a"},{"text":"a","o":["\ud800"]}]}',
        "Invalid value for 'documents[1].o[0]': must be valid Unicode text",
    ),
    "a document that is not UTF-8": (
        "rerank",
        b'{"model":"all-minilm-l6-v2-rerank","query":"q","documents":[{"text":"a"},{"text":"a","o":"\xff"}]}',
        "Invalid value for 'documents[1].o': must be valid Unicode text",
    ),
    "a lone surrogate in a query": (
        "rerank",
        rb'{"model":"all-minilm-l6-v2-rerank","query":"\ud800","documents":[{"text":"a"}]}',
        "Invalid value for 'query': must be valid Unicode text",
    ),
    "NUL": (
        "embed",
        changed(EMBED, inputs=[{"text": "a\0b"}]),
        "Invalid value for 'inputs[0].text': must not contain the NUL character",
    ),
    "NUL in a document": (
        "rerank",
        changed(RERANK, documents=[{"text": "a"}, {"text": "\0"}]),
        "Invalid value for 'documents[1].text': must not contain the NUL character",
    ),
    "NUL in a query": (
        "rerank",
        changed(RERANK, query="\0"),
        "Invalid value for 'query': must not contain the NUL character",
    ),
    "a raw control character": (
        "embed",
        b'{"model":"all-minilm-l6-v2","inputs":[{"text":"a\x00"}]}',
        "The request body is not valid JSON",
    ),
}
