"""The VectorService beside REST on one port: the same answers, the same refusals in the same words."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from pinyon.dialects.pinecone.data.grpc_convert import decode, upsert_request
from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb
from pinyon.errors import InvalidRequest, PayloadTooLarge
from tests.dialects.pinecone.pinecone_data_server import VERSIONS
from tests.dialects.pinecone.pinecone_grpc_messages import WRONG, packed, plain_vector, sparse, struct_of, vector
from tests.dialects.pinecone.pinecone_grpc_server import BothServer, both_server
from tests.http.serving import eventually

FIELDS = {"s": "x", "n": 1.5, "yes": True, "no": False, "list": ["a", "b"], "": ""}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothServer]:
    with both_server(tmp_path_factory.mktemp("models")) as server:
        yield server


def refusal(both: BothServer, index: str | None, method: str, message: Message | bytes, **more: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        both.call(index, method, message, **more)
    return caught.value


# --- the same as REST


def test_written_by_one_and_read_by_the_other(both: BothServer) -> None:
    records = [vector("a", 1, 2, 3, weights={7: 0.5, 3: 2.0}, **FIELDS), vector("b", 3, 2, 1)]
    done, said = both.call("hybrid", "Upsert", pb.UpsertRequest(vectors=records, namespace="both"))
    assert done.upserted_count == 2
    assert said["x-pinecone-request-lsn"] == said["x-pinecone-lsn-committed"]
    assert said["x-pinecone-request-id"] == said["x-request-id"]
    fetched = both.ask("hybrid", "GET", "/vectors/fetch", params={"ids": ["a", "b"], "namespace": "both"})
    assert fetched.headers["x-pinecone-max-indexed-lsn"] == said["x-pinecone-request-lsn"]
    wanted = {
        "a": {"id": "a", "values": [1, 2, 3], "sparseValues": {"indices": [3, 7], "values": [2, 0.5]},
              "metadata": FIELDS},
        "b": {"id": "b", "values": [3, 2, 1]},
    }  # fmt: skip
    assert fetched.json()["vectors"] == wanted
    found, said = both.call("hybrid", "Fetch", pb.FetchRequest(ids=["a", "nothing", "b"], namespace="both"))
    assert {id: plain_vector(each) for id, each in found.vectors.items()} == wanted
    assert (found.namespace, found.usage.read_units) == ("both", 1)
    assert said["x-pinecone-max-indexed-lsn"] == said["x-pinecone-lsn-reconciled"]


def test_a_query(both: BothServer) -> None:
    many = [vector(f"v{n}", 1, n, 2, weights={n: 1.0}, n=n) for n in range(12)]
    both.call("hybrid", "Upsert", pb.UpsertRequest(vectors=many, namespace="q"))
    call = pb.QueryRequest(
        namespace="q", top_k=11, vector=packed(1, 1, 1), sparse_vector=sparse({3: 100.0}), include_values=True,
        include_metadata=True, filter=struct_of({"n": {"$gte": 1}}), scan_factor=1.5, max_candidates=50,
    )  # fmt: skip
    found, said = both.call("hybrid", "Query", call)
    body = {
        "namespace": "q", "topK": 11, "vector": [1, 1, 1], "sparseVector": {"indices": [3], "values": [100]},
        "includeValues": True, "includeMetadata": True, "filter": {"n": {"$gte": 1}},
    }  # fmt: skip
    rest = both.ask("hybrid", "POST", "/query", json=body)
    assert [plain_vector(match) | {"score": match.score} for match in found.matches] == rest.json()["matches"]
    assert found.matches[0].id == "v3" and found.usage.read_units == rest.json()["usage"]["readUnits"] == 2
    assert said["x-pinecone-max-indexed-lsn"] == rest.headers["x-pinecone-max-indexed-lsn"]
    found, _ = both.call("hybrid", "Query", pb.QueryRequest(namespace="q", top_k=2, id="v7"))
    assert [(match.values, match.HasField("metadata")) for match in found.matches] == [(b"", False)] * 2
    assert "results" not in pb.QueryResponse.DESCRIPTOR.fields_by_name


def test_pages(both: BothServer) -> None:
    many = [vector(f"p#{n:03}", 1, 1, n, n=n) for n in range(150)]
    both.call("dense", "Upsert", pb.UpsertRequest(vectors=many, namespace="pages"))
    first, _ = both.call("dense", "List", pb.ListRequest(namespace="pages", prefix="p#"))
    last, _ = both.call(
        "dense",
        "List",
        pb.ListRequest(namespace="pages", prefix="p#", pagination_token=first.pagination.next),
    )
    assert [item.id for item in (*first.vectors, *last.vectors)] == [f"p#{n:03}" for n in range(150)]
    assert first.HasField("pagination") and not last.HasField("pagination")
    few, _ = both.call("dense", "List", pb.ListRequest(namespace="pages", limit=2))
    assert len(few.vectors) == 2
    call = pb.FetchByMetadataRequest(namespace="pages", filter=struct_of({"n": {"$lt": 3}}), limit=2)
    first, _ = both.call("dense", "FetchByMetadata", call)
    call.pagination_token = first.pagination.next
    last, _ = both.call("dense", "FetchByMetadata", call)
    assert [sorted(page.vectors) for page in (first, last)] == [["p#000", "p#001"], ["p#002"]]
    assert not last.HasField("pagination")


def test_updates_deletions_and_stats(both: BothServer) -> None:
    space = "changing"
    both.call("dense", "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, n=1), vector("b", 2, 1, 1, n=1)],
              namespace=space))  # fmt: skip
    change = pb.UpdateRequest(id="a", values=packed(4, 5, 6), set_metadata=struct_of({"m": "x"}), namespace=space)
    done, said = both.call("dense", "Update", change)
    assert not done.HasField("matched_records") and int(said["x-pinecone-lsn-committed"]) > 0
    found, _ = both.call("dense", "Fetch", pb.FetchRequest(ids=["a"], namespace=space))
    assert plain_vector(found.vectors["a"]) == {"id": "a", "values": [4, 5, 6], "metadata": {"n": 1, "m": "x"}}
    where = pb.UpdateRequest(
        filter=struct_of({"n": 1}), set_metadata=struct_of({"n": 2}), namespace=space, dry_run=True
    )
    assert both.call("dense", "Update", where)[0].matched_records == 2
    where.dry_run = False
    assert both.call("dense", "Update", where)[0].matched_records == 2
    assert both.call("dense", "Update", where)[0].matched_records == 0
    stats, _ = both.call("dense", "DescribeIndexStats", pb.DescribeIndexStatsRequest())
    rest = both.ask("dense", "GET", "/describe_index_stats").json()
    assert {name: {"vectorCount": each.vector_count} for name, each in stats.namespaces.items()} == rest["namespaces"]
    assert (stats.dimension, stats.metric, stats.vector_type) == (3, "cosine", "dense")
    assert stats.total_vector_count == rest["totalVectorCount"]
    both.call("dense", "Delete", pb.DeleteRequest(ids=["a", "nothing"], namespace=space))
    both.call("dense", "Delete", pb.DeleteRequest(filter=struct_of({"n": 2}), namespace=space))
    both.call("dense", "Delete", pb.DeleteRequest(delete_all=True, namespace=space))
    assert refusal(both, "dense", "Delete", pb.DeleteRequest(delete_all=True, namespace=space)).code() is (
        grpc.StatusCode.NOT_FOUND
    )
    assert not both.call("sparse", "DescribeIndexStats", pb.DescribeIndexStatsRequest())[0].HasField("dimension")


@pytest.mark.parametrize("version", VERSIONS)
def test_namespaces(both: BothServer, version: str) -> None:
    name = f"a b/{version}"
    schema = pb.MetadataSchema(fields={"genre": pb.MetadataFieldProperties(filterable=True)})
    made, _ = both.call("far", "CreateNamespace", pb.CreateNamespaceRequest(name=name, schema=schema), version=version)
    assert (made.name, made.record_count, list(made.indexed_fields.fields)) == (name, 0, ["genre"])
    both.call("far", "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 2, 3)], namespace=name), version=version)
    found, _ = both.call("far", "DescribeNamespace", pb.DescribeNamespaceRequest(namespace=name), version=version)
    assert (found.record_count, found.size_bytes, found.schema.fields["genre"].filterable) == (1, 12, True)
    page, _ = both.call("far", "ListNamespaces", pb.ListNamespacesRequest(prefix="a b/", limit=1), version=version)
    assert ([each.name for each in page.namespaces], page.total_count) == ([name], 1)
    code = refusal(both, "far", "CreateNamespace", pb.CreateNamespaceRequest(name=name), version=version).code()
    assert code is grpc.StatusCode.ALREADY_EXISTS
    both.call("far", "DeleteNamespace", pb.DeleteNamespaceRequest(namespace=name), version=version)
    code = refusal(both, "far", "DescribeNamespace", pb.DescribeNamespaceRequest(namespace=name)).code()
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("name", WRONG)
def test_what_rest_refuses_is_refused_in_the_same_words(both: BothServer, name: str) -> None:
    index, method, path, body, call, message = WRONG[name]
    told: dict[str, Any] = {"json": body} if method == "POST" else {"params": body}
    rest = both.ask(index, method, path, **told).json()
    error = refusal(both, index, call, message)
    assert error.details() == rest["message"]
    assert error.code().value[0] == rest["code"]
    assert {name for name, _ in error.trailing_metadata()} >= {"x-request-id", "x-pinecone-request-id"}


def test_what_only_a_message_can_hold(both: BothServer) -> None:
    for value in (float("nan"), float("inf")):
        error = refusal(both, "dense", "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 1, 1, m=value)]))
        assert error.details() == "Invalid value for 'vectors[0].metadata.m': must be a finite number"
        call = pb.QueryRequest(vector=packed(1, 1, 1), top_k=1, filter=struct_of({"m": {"$gt": value}}))
        assert "finite" in refusal(both, "dense", "Query", call).details()
    for torn in (b"\0", packed(1, 1, 1)[:-1]):
        error = refusal(both, "dense", "Upsert", pb.UpsertRequest(vectors=[pb.Vector(id="a", values=torn)]))
        assert error.details() == "Invalid value for 'vectors[0].values': must be packed 32-bit floats"
    for not_one in (b"\xff", b"\x0a\x05", b"\x12\x02\xff\xfe"):
        error = refusal(both, "dense", "Upsert", not_one)
        assert error.details() == "The message is not of the type UpsertRequest"
    error = refusal(both, "dense", "Query", pb.QueryRequest(top_k=1, queries=[pb.QueryVector()]))
    assert "queries" in error.details()
    for method, message in (("DescribeNamespace", pb.DescribeNamespaceRequest()),
                            ("DeleteNamespace", pb.DeleteNamespaceRequest())):  # fmt: skip
        assert "must not be empty" in refusal(both, "dense", method, message).details()


def test_the_namespace_schema_before_2026_07(both: BothServer) -> None:
    schema = pb.MetadataSchema(fields={"a": pb.MetadataFieldProperties()})
    made, _ = both.call(
        "dense", "CreateNamespace", pb.CreateNamespaceRequest(name="lenient", schema=schema), version="2025-10"
    )
    assert made.schema.fields["a"].filterable
    both.call("dense", "DeleteNamespace", pb.DeleteNamespaceRequest(namespace="lenient"))


def test_versions(both: BothServer) -> None:
    message = pb.FetchByMetadataRequest(namespace="nowhere")
    assert both.call("dense", "FetchByMetadata", message, version="2026-04")[0].namespace == "nowhere"
    error = refusal(both, "dense", "FetchByMetadata", message, version="soon")
    assert error.details() == "Invalid value for 'X-Pinecone-Api-Version': must be a version such as 2026-07"


# --- floats


def test_floats_that_are_not_packed(both: BothServer) -> None:
    """Which protobuf lets a sender do."""
    loose = b"".join(b"\x15" + packed(value) for value in (1.5, -2.0, 0.25))
    record = b"\x0a\x01u" + loose
    both.call("dense", "Upsert", b"\x0a" + bytes([len(record)]) + record + b"\x12\x05loose")
    found, _ = both.call("dense", "Fetch", pb.FetchRequest(ids=["u"], namespace="loose"))
    assert plain_vector(found.vectors["u"])["values"] == [1.5, -2.0, 0.25]


def test_values_come_back_bit_for_bit(both: BothServer) -> None:
    odd = np.array([1e-45, -0.0, 3.4028235e38], np.float32)
    both.call("far", "Upsert", pb.UpsertRequest(vectors=[pb.Vector(id="bits", values=odd.tobytes())]))
    found, _ = both.call("far", "Fetch", pb.FetchRequest(ids=["bits"]))
    assert found.vectors["bits"].values == odd.tobytes()


def test_large_messages_are_looked_through_before_they_are_decoded() -> None:
    """Decoded, what is refused here would take gigabytes."""

    def refused(message: bytes) -> str:
        with pytest.raises(InvalidRequest) as caught:
            upsert_request(message, 2 << 20)
        return caught.value.reason

    assert refused(b"\x0a\x00" * (1 << 20)) == "must hold 1 to 1000 records, and holds 1048576"
    tiny = b"\x0a\x00" * (6 << 20)  # an empty value each
    assert refused(_nested(tiny, 0x32, 0x12, 0x0A, 0x1A, 0x0A)).startswith("Request size 13MB exceeds")
    assert refused(_nested(b"\x0a\x01a" * (1 << 20), 0x0A)) == "has too many fields"
    loose = b"\x15abcd" * (1 << 19)
    for odd in (b"\xff" * (2 << 20), b"\x0a" + b"\xff" * (2 << 20), b"\x0a\xff\xff\xff\xff\x07" + b"x" * (2 << 20),
                _nested(loose, 0x0A), b"\x08\x01" + b"\x0a\x00" * (1 << 20)):  # fmt: skip
        assert refused(odd) == "The message is not of the type UpsertRequest"
    with pytest.raises(PayloadTooLarge):
        decode(pb.QueryRequest, b"\x1a" * (5 << 20))
    large = [vector(f"{n}", *range(20_000)) for n in range(30)]
    assert len(upsert_request(pb.UpsertRequest(vectors=large).SerializeToString(), 2 << 20)[1]) == 30


def _nested(data: bytes, *tags: int) -> bytes:
    for tag in tags:
        data = bytes([tag]) + _length(data) + data
    return data


# --- where a call goes, keys, size, time


def test_which_index_is_meant_on_the_main_port(tmp_path: Path) -> None:
    stats = pb.DescribeIndexStatsRequest()
    with both_server(tmp_path, index_hosts="https://{index}.example.org:8443") as both:
        for host, index, kind in (
            ("sparse.example.org", None, "sparse"),
            ("SPARSE.example.org:443", "dense", "sparse"),
            ("sparse.localhost:5080", None, "sparse"),
            ("example.org", "sparse", "sparse"),
            ("other.example.com", "dense", "dense"),
            ("[::1]:5080", "sparse", "sparse"),
        ):
            assert both.call(index, "DescribeIndexStats", stats, host=host)[0].vector_type == kind
        error = refusal(both, "dense", "DescribeIndexStats", stats, host="nothing.example.org")
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "Index nothing not found")
        for index in (None, ""):
            error = refusal(both, index, "DescribeIndexStats", stats)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert error.details().startswith("No index is named")


def test_keys(tmp_path: Path) -> None:
    with both_server(tmp_path, keys=("right",)) as both:
        assert both.call("dense", "DescribeIndexStats", pb.DescribeIndexStatsRequest())
        for wrong in ("wrong", None):
            both.key = wrong
            error = refusal(both, "dense", "DescribeIndexStats", pb.DescribeIndexStatsRequest())
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert error.details().startswith("Invalid API key")


def test_an_unknown_method(both: BothServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        both.channel.unary_unary("/NamespaceAliasService/ListNamespaceAliases")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_of_128_mb(tmp_path: Path) -> None:
    """It is taken, and refused for what is in it."""
    largest = 128 << 20
    message = pb.UpsertRequest(vectors=[vector("a", 1, 1, 1)], namespace="x" * (largest - 24)).SerializeToString()
    with both_server(tmp_path) as both:
        assert len(message) == largest
        error = refusal(both, "dense", "Upsert", message, timeout=60)
        assert error.details().startswith("Invalid value for 'namespace'")
        error = refusal(both, "dense", "Upsert", message + b"\x12\x00", timeout=60)
        assert error.code() is grpc.StatusCode.OUT_OF_RANGE


def test_a_deadline_cancels_the_query(both: BothServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def slow(*arguments: Any, **more: Any) -> Any:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    index = asyncio.run(both.records.indexes.open_index("dense")).index
    monkeypatch.setattr(type(index), "query", slow)
    call = pb.QueryRequest(vector=packed(1, 1, 1), top_k=1)
    error = refusal(both, "dense", "Query", call, timeout=0.3)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: seen == ["begun", "cancelled"])


# --- garbage


MESSAGES: tuple[tuple[str, str, Message], ...] = (
    ("hybrid", "Upsert", pb.UpsertRequest(vectors=[vector("a", 1, 2, 3, weights={1: 2.0, 9: 1.0}, **FIELDS)],
                                          namespace="g")),
    ("hybrid", "Query", pb.QueryRequest(vector=packed(1, 2, 3), top_k=3, filter=struct_of({"n": {"$in": [1, "a"]}}),
                                        include_values=True, sparse_vector=sparse({1: 1.0}), namespace="g")),
    ("hybrid", "Update", pb.UpdateRequest(id="a", values=packed(1, 1, 1), set_metadata=struct_of(FIELDS),
                                          namespace="g")),
    ("hybrid", "Update", pb.UpdateRequest(filter=struct_of({"s": "x"}), set_metadata=struct_of(FIELDS), dry_run=True)),
    ("hybrid", "Fetch", pb.FetchRequest(ids=["a", "b"], namespace="g")),
    ("hybrid", "FetchByMetadata", pb.FetchByMetadataRequest(filter=struct_of({"s": "x"}), limit=3, namespace="g")),
    ("hybrid", "List", pb.ListRequest(prefix="a", limit=3, namespace="g")),
    ("hybrid", "Delete", pb.DeleteRequest(filter=struct_of({"$or": [{"s": "y"}, {"n": {"$lt": 1}}]}), namespace="g")),
    ("pods", "DescribeIndexStats", pb.DescribeIndexStatsRequest(filter=struct_of({"n": {"$gt": 1}}))),
    ("hybrid", "ListNamespaces", pb.ListNamespacesRequest(prefix="g", limit=3)),
    ("hybrid", "CreateNamespace", pb.CreateNamespaceRequest(
        name="g2", schema=pb.MetadataSchema(fields={"a": pb.MetadataFieldProperties(filterable=True)}))),
    ("hybrid", "DescribeNamespace", pb.DescribeNamespaceRequest(namespace="g")),
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(MESSAGES)), ids=lambda number: MESSAGES[number][1])
def test_messages_with_bytes_changed(both: BothServer, caplog: pytest.LogCaptureFixture, number: int) -> None:
    """Answered or refused, and never an error of the server's. Seeded."""
    rng = random.Random(number)
    index, method, message = MESSAGES[number]
    right = message.SerializeToString()
    for _ in range(120):
        odd = bytearray(right)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(odd) + 1)
            odd[at : at + rng.choice((0, 1, 1, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 2)))
        try:
            both.call(index, method, bytes(odd), version=rng.choice(VERSIONS))
        except grpc.RpcError as error:
            assert error.code() in (
                grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS,
            ), bytes(odd)  # fmt: skip
    assert not [record for record in caplog.records if record.name == "pinyon.bug"]


def test_a_message_nested_without_end() -> None:
    nested = b""
    for _ in range(5000):
        nested = b"\x0a" + _length(nested) + nested
    for kind in (pb.DescribeIndexStatsRequest, pb.UpsertRequest):
        deep = b"\x0a" + _length(nested) + nested
        try:
            decode(kind, deep)
        except InvalidRequest as error:
            assert "is not of the type" in error.reason


def _length(data: bytes) -> bytes:
    size, out = len(data), bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*out, size))
