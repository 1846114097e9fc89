"""Golden pairs: a body and the core request it is, a core result and the bytes it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from pinyon import errors, filters
from pinyon.dialects.pinecone.data import convert, convert_texts, schema
from pinyon.dialects.pinecone.data.errors import CODES, status_answer
from pinyon.errors import InvalidRequest, Param, PinyonError
from pinyon.services.record_texts import Hit, SearchResult
from pinyon.services.records import Fetched, Ids, Matches, Namespace, Namespaces, Stats, VectorQuery
from pinyon.state.records import VectorType
from pinyon.stores.base import Match, Record, SparseVector
from pinyon.testing import fake_catalogue
from pinyon.types import Metric
from tests.dialects.pinecone.pinecone_data_server import MODEL, RANKER, index_record


def floats(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def sparse(indices: list[int], values: list[float]) -> SparseVector:
    return SparseVector(np.array(indices, dtype=np.uint32), floats(*values))


def plain(value: object) -> object:
    """Arrays as lists, so that == says what it should."""
    if isinstance(value, SparseVector):
        return {"indices": plain(value.indices), "values": plain(value.values)}
    if isinstance(value, np.ndarray):
        return [value.dtype.name, value.tolist()]
    return value


# --- requests --------------------------------------------------------------------------------------------------------


def test_upsert() -> None:
    body = schema.UPSERT.decode(
        b'{"vectors": [{"id": "a", "values": [1, 0.5]},'
        b' {"id": "b", "values": [], "sparseValues": {"indices": [5, 4294967295], "values": [1e39, 2]},'
        b' "metadata": {"x": 1, "y": [null]}}], "namespace": "n"}'
    )
    a, b = convert.drafts(body.vectors)
    assert (a.id, plain(a.values), a.sparse, a.metadata) == ("a", ["float32", [1.0, 0.5]], None, {})
    assert (b.id, plain(b.values), b.metadata) == ("b", ["float32", []], {"x": 1, "y": [None]})
    wanted = {"indices": ["uint32", [5, 4294967295]], "values": ["float32", [float("inf"), 2.0]]}
    assert plain(b.sparse) == wanted


QUERIES: list[tuple[str, dict[str, object]]] = [
    (
        '{"topK": 5, "vector": [1, 2]}',
        {"top_k": 5, "values": ["float32", [1.0, 2.0]]},
    ),
    (
        '{"topK": 5, "id": "a", "includeValues": true, "includeMetadata": false, "filter": {}, "namespace": null}',
        {"top_k": 5, "id": "a", "with_values": True},
    ),
    (
        '{"topK": 1, "sparseVector": {"indices": [3], "values": [0.5]}, "includeMetadata": true,'
        ' "filter": {"x": {"$gt": 1}}, "scanFactor": 2, "maxCandidates": 100}',
        {
            "top_k": 1,
            "sparse": {"indices": ["uint32", [3]], "values": ["float32", [0.5]]},
            "filter": filters.Gt("x", 1.0),
            "with_metadata": True,
        },
    ),
]


@pytest.mark.parametrize(("body", "wanted"), QUERIES)
def test_query(body: str, wanted: dict[str, object]) -> None:
    got = convert.query_request(schema.QUERY.decode(body))
    default = VectorQuery(0)
    names = VectorQuery.__dataclass_fields__
    assert {name: plain(getattr(got, name)) for name in names} == {
        name: wanted.get(name, getattr(default, name)) for name in names
    }


def test_update() -> None:
    one = convert.update_request(schema.UPDATE.decode('{"id": "a", "values": [1], "setMetadata": {"x": 2}}'))
    assert not isinstance(one, convert.UpdateWhere)
    assert (one.id, plain(one.values), one.sparse, one.metadata) == ("a", ["float32", [1.0]], None, {"x": 2})
    body = '{"filter": {"x": 1}, "setMetadata": {"x": 2}, "dryRun": true, "namespace": ""}'
    assert convert.update_request(schema.UPDATE.decode(body)) == (filters.Eq("x", 1.0), {"x": 2}, True)


def test_delete_query() -> None:
    call = convert.delete_query({"namespace": "n", "ids": "b"}, ["a", "b"])
    assert (call.ids, call.delete_all, call.namespace) == (["a", "b"], False, "n")
    assert convert.delete_query({"deleteAll": "true"}, []).delete_all
    with pytest.raises(InvalidRequest):
        convert.delete_query({"deleteAll": "1"}, [])


def test_fetch_filter() -> None:
    for version in ("2025-10", "2026-04"):
        assert convert.fetch_filter(schema.FetchByMetadataBody(), version) == filters.And(())
    with pytest.raises(InvalidRequest, match="required"):
        convert.fetch_filter(schema.FetchByMetadataBody(), "2026-07")


def test_namespace_in() -> None:
    assert [convert.namespace_in(name) for name in (None, "", "__default__", "n")] == ["", "", "", "n"]


def test_search(tmp_path: Any) -> None:
    body = schema.SEARCH.decode(
        json.dumps(
            {
                "query": {
                    "top_k": 3,
                    "inputs": {"text": "x"},
                    "filter": {"y": "z"},
                    "vector": {"values": [], "sparse_values": [0.5], "sparse_indices": [7]},
                    "match_terms": {"strategy": "all", "terms": ["a b"]},
                },
                "fields": ["y"],
                "rerank": {"model": RANKER, "rank_fields": ["y"], "top_n": 2, "query": "q"},
            }
        )
    )
    search = convert_texts.search_request(body, fake_catalogue(tmp_path).get(RANKER))
    assert (search.top_k, search.text, search.id, search.values) == (3, "x", None, None)
    assert plain(search.sparse) == {"indices": ["uint32", [7]], "values": ["float32", [0.5]]}
    assert (search.filter, search.terms) == (filters.Eq("y", "z"), ["a b"])
    rerank = search.rerank
    assert rerank is not None
    assert (rerank.model, rerank.fields, rerank.query, rerank.top_n) == (RANKER, ["y"], "q", 2)


# --- answers ---------------------------------------------------------------------------------------------------------

WHOLE = Record("a", floats(1, 0.1), sparse([3, 9], [0.5, 1]), {"year": 2019.0, "tags": ["x"], "ok": True})


def test_query_response() -> None:
    found = Matches([Match(0.25, WHOLE), Match(float("nan"), Record("b")), Match(float("-inf"), Record("c"))], 2, 7)
    assert convert.query_response(found, "n") == (
        b'{"matches":[{"id":"a","values":[1.0,0.1],"sparseValues":{"indices":[3,9],"values":[0.5,1.0]},'
        b'"metadata":{"year":2019.0,"tags":["x"],"ok":true},"score":0.25},'
        b'{"id":"b","values":[],"score":0.0},{"id":"c","values":[],"score":-3.4028234663852886e+38}],'
        b'"namespace":"n","usage":{"readUnits":2}}'
    )


def test_fetch_response() -> None:
    assert convert.fetch_response(Fetched([Record("s", None, sparse([1], [2]))], 1, 7), "") == (
        b'{"vectors":{"s":{"id":"s","values":[],"sparseValues":{"indices":[1],"values":[2.0]}}},'
        b'"namespace":"","usage":{"readUnits":1}}'
    )
    assert convert.fetch_response(Fetched([], 1, 7, "token"), "n") == (
        b'{"vectors":{},"namespace":"n","usage":{"readUnits":1},"pagination":{"next":"token"}}'
    )


def test_list_response() -> None:
    assert convert.list_response(Ids(["a", "b"], 1, 7, "token"), "n") == (
        b'{"vectors":[{"id":"a"},{"id":"b"}],"namespace":"n","usage":{"readUnits":1},"pagination":{"next":"token"}}'
    )
    assert b"pagination" not in convert.list_response(Ids([], 1, 7), "n")


def test_update_response() -> None:
    assert (convert.update_response(None), convert.update_response(3)) == (b"{}", b'{"matchedRecords":3}')


def test_stats_response() -> None:
    assert convert.stats_response(Stats(index_record("i"), {"": 2, "n": 1}, 7)) == (
        b'{"namespaces":{"":{"vectorCount":2},"n":{"vectorCount":1}},"indexFullness":0.0,"totalVectorCount":3,'
        b'"metric":"cosine","vectorType":"dense","dimension":3}'
    )
    record = index_record("i", vector_type=VectorType.SPARSE, metric=Metric.DOTPRODUCT, dimension=None)
    assert convert.stats_response(Stats(record, {}, 7)) == (
        b'{"namespaces":{},"indexFullness":0.0,"totalVectorCount":0,"metric":"dotproduct","vectorType":"sparse"}'
    )


def test_namespace_response() -> None:
    namespace = Namespace("", 5, 60, 7)
    assert convert.namespace_response(namespace, "2026-04") == b'{"name":"__default__","record_count":5}'
    assert convert.namespace_response(namespace, "2026-07") == (
        b'{"name":"__default__","record_count":"5","size_bytes":"60"}'
    )
    page = Namespaces([Namespace("n", 1, 12, 7)], 9, 7, "token")
    assert convert.namespaces_response(page, "2025-10") == (
        b'{"namespaces":[{"name":"n","record_count":1}],"total_count":9,"pagination":{"next":"token"}}'
    )


def test_search_response() -> None:
    found = SearchResult([Hit("a", 0.5, {"x": "y", "z": 1.0})], 1, 7, 4, 101, MODEL)
    everything = schema.SEARCH.decode('{"query": {"top_k": 1}}')
    hits = b'{"result":{"hits":[{"_id":"a","_score":0.5,"fields":{"x":"y","z":1.0}}]}'
    usage = b',"usage":{"read_units":1,"embed_total_tokens":4}'
    assert convert_texts.search_response(found, everything, "", "2026-04") == hits + usage + b"}"
    star = schema.SEARCH.decode('{"query": {"top_k": 1}, "fields": ["*"]}')
    assert convert_texts.search_response(found, star, "", "2026-04") == hits + usage + b"}"
    assert convert_texts.search_response(found, everything, "", "2026-07") == (
        hits + usage + b',"namespace":"__default__"}'
    )
    some = schema.SEARCH.decode(
        '{"query": {"top_k": 1}, "fields": ["z", "no"], "rerank": {"model": "m", "rank_fields": []}}'
    )
    assert convert_texts.search_response(found, some, "n", "2025-04") == (
        b'{"result":{"hits":[{"_id":"a","_score":0.5,"fields":{"z":1.0}}]},'
        b'"usage":{"read_units":1,"embed_total_tokens":4,"rerank_units":2}}'
    )


# --- names and errors ------------------------------------------------------------------------------------------------

PARAMS: list[tuple[Callable[[Param], Param], Param, Param]] = [
    (convert.upsert_param, ("records", 3, "sparse", "indices", 5), ("vectors", 3, "sparseValues", "indices", 5)),
    (convert.upsert_param, ("records",), ("vectors",)),
    (convert.upsert_param, ("namespace",), ("namespace",)),
    (convert.query_param, ("sparse", "values", 1), ("sparseVector", "values", 1)),
    (convert.query_param, ("filter", "x"), ("filter", "x")),
    (convert.update_param, ("metadata", "x"), ("setMetadata", "x")),
    (convert.page_param, ("limit",), ("limit",)),
    (convert_texts.upsert_param, ("records", 1, "metadata", "x", 2), ("records", 1, "x", 2)),
    (convert_texts.search_param, ("sparse",), ("query", "vector", "sparse_values")),
    (convert_texts.search_param, ("sparse", "indices", 1), ("query", "vector", "sparse_indices", 1)),
    (convert_texts.search_param, ("rerank", "truncate"), ("rerank", "parameters", "truncate")),
    (convert_texts.search_param, ("rerank", "model"), ("rerank", "model")),
]


@pytest.mark.parametrize(("rename", "core", "wire"), PARAMS)
def test_params(rename: Callable[[Param], Param], core: Param, wire: Param) -> None:
    assert rename(core) == wire


def test_every_error_has_a_code() -> None:
    answer = status_answer(InvalidRequest("must not be \ud800", ("vectors", 3)), "2026-07")
    assert answer.status == 400
    assert answer.body == b'{"code":3,"message":"Invalid value for \'vectors[3]\': must not be ?","details":[]}'
    direct = {cls for cls in vars(errors).values() if isinstance(cls, type) and cls.__base__ is PinyonError}
    assert direct <= set(CODES)


def test_unsigned_bounds() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"sparseVector\.indices\[0\]"):
        schema.QUERY.decode('{"topK": 1, "sparseVector": {"indices": [4294967296], "values": [1]}}')
