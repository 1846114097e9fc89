"""REST and gRPC through the same random histories: whatever is done by one to one index and by the other to its twin,
both answer alike, and leave the same, whoever reads it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pinyon.dialects.pinecone.data.proto import vector_service_pb2 as pb
from pinyon.types import Metric
from tests.dialects.pinecone.pinecone_data_server import MemoryIndexes, index_record
from tests.dialects.pinecone.pinecone_grpc_messages import packed, plain_vector, sparse, struct_of
from tests.dialects.pinecone.pinecone_grpc_server import BothServer, both_server

TWINS = ("one", "other")

# Few of each, so that operations meet, and some that are refused.
ids = st.sampled_from(["a", "b", 'c "/', "", "é"])
namespaces = st.sampled_from(["", "__default__", "n", 'ü "/'])
values = st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=3, max_size=3) | st.just([1.0])
weights = st.dictionaries(st.sampled_from([0, 7, 2**32 - 1]), st.sampled_from([-1.0, 0.5, 2.0]), max_size=3)
fields = st.dictionaries(
    st.sampled_from(["f", "", "$g", "ü"]),
    st.sampled_from(["x", "", 0.0, -1.5, 1e300, True, False]) | st.lists(st.sampled_from(["x", "y"]), max_size=2),
    max_size=3,
)
# One mistake at most: of two, either may be told, since the fields of a message have no order.
filters: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["f", "ü"]),
    st.sampled_from(["x", 0.0, True, {"$gte": -1.5}, {"$in": ["x", 0.0]}, {"$ne": "x"}, {"$exists": False}]),
    max_size=2,
) | st.just({"f": {"$no": 1}})
vectors = st.tuples(ids, st.none() | values, st.none() | weights, fields)


class BothMachine(RuleBasedStateMachine):
    """The first twin is written over REST, and the second over gRPC."""

    both: BothServer

    @initialize()
    def create(self) -> None:
        indexes = self.both.records.indexes
        assert isinstance(indexes, MemoryIndexes)
        for name in TWINS:
            asyncio.run(indexes.store.drop(name))
            asyncio.run(indexes.add(index_record(name, metric=Metric.DOTPRODUCT)))

    def alike(self, path: str, body: dict[str, Any] | None, method: str, message: Message, *,
              verb: str = "POST", params: dict[str, Any] | None = None) -> Any:  # fmt: skip
        """The message's answer. None if both refused."""
        kept = {name: value for name, value in (body or {}).items() if value is not None}
        rest = self.both.ask(TWINS[0], verb, path, json=kept if body is not None else None, params=params)
        try:
            answer, said = self.both.call(TWINS[1], method, message)
        except grpc.RpcError as error:
            told: Any = error
            assert (told.details(), told.code().value[0]) == (rest.json()["message"], rest.json()["code"])
            return None
        assert rest.status_code == 200, (rest.text, message)
        lsns = {name: value for name, value in rest.headers.items() if "lsn" in name}
        assert lsns == {name: value for name, value in said.items() if "lsn" in name}
        self.rest = rest.json()
        return answer

    @rule(records=st.lists(vectors, min_size=1, max_size=3), namespace=namespaces)
    def upsert(self, records: list[Any], namespace: str) -> None:
        body = [json_vector(*record) for record in records]
        message = pb.UpsertRequest(vectors=[message_vector(*record) for record in records], namespace=namespace)
        answer = self.alike("/vectors/upsert", {"vectors": body, "namespace": namespace}, "Upsert", message)
        assert answer is None or answer.upserted_count == self.rest["upsertedCount"]

    @rule(record=vectors, namespace=namespaces)
    def update(self, record: Any, namespace: str) -> None:
        body = json_vector(*record)
        body["setMetadata"] = body.pop("metadata")
        if not body["id"]:
            del body["id"]  # which is the same over gRPC
        whole = message_vector(*record)
        message = pb.UpdateRequest(id=whole.id, values=whole.values, set_metadata=whole.metadata, namespace=namespace)
        if whole.HasField("sparse_values"):
            message.sparse_values.CopyFrom(whole.sparse_values)
        self.alike("/vectors/update", body | {"namespace": namespace}, "Update", message)

    @rule(filter=filters, change=fields, namespace=namespaces, dry_run=st.booleans())
    def update_where(self, filter: Any, change: Any, namespace: str, dry_run: bool) -> None:
        body = {"filter": filter, "setMetadata": change, "namespace": namespace, "dryRun": dry_run}
        message = pb.UpdateRequest(
            filter=struct_of(filter), set_metadata=struct_of(change), namespace=namespace, dry_run=dry_run
        )
        answer = self.alike("/vectors/update", body, "Update", message)
        assert answer is None or answer.matched_records == self.rest["matchedRecords"]

    @rule(names=st.lists(ids, max_size=2), filter=st.none() | filters, every=st.booleans(), namespace=namespaces)
    def delete(self, names: list[str], filter: Any, every: bool, namespace: str) -> None:
        body = {"ids": names or None, "filter": filter, "deleteAll": every or None, "namespace": namespace}
        message = pb.DeleteRequest(ids=names, delete_all=every, namespace=namespace)
        if filter is not None:
            message.filter.CopyFrom(struct_of(filter))
        self.alike("/vectors/delete", body, "Delete", message)

    @rule(name=st.sampled_from(["n", "m", "__default__", ""]), there=st.booleans())
    def make_or_delete_namespace(self, name: str, there: bool) -> None:
        if there:
            self.alike("/namespaces", {"name": name}, "CreateNamespace", pb.CreateNamespaceRequest(name=name))
        elif name:
            message = pb.DeleteNamespaceRequest(namespace=name)
            self.alike(f"/namespaces/{name}", None, "DeleteNamespace", message, verb="DELETE")

    @rule(values=st.none() | values, weights=st.none() | weights, filter=filters, namespace=namespaces,
          top_k=st.integers(0, 3), whole=st.booleans())  # fmt: skip
    def query(self, values: Any, weights: Any, filter: Any, namespace: str, top_k: int, whole: bool) -> None:
        body = json_vector("", values, weights, {})
        asked = {"vector": body.get("values"), "sparseVector": body.get("sparseValues"), "filter": filter,
                 "namespace": namespace, "topK": top_k, "includeValues": whole, "includeMetadata": whole}  # fmt: skip
        message = pb.QueryRequest(vector=packed(*(values or ())), filter=struct_of(filter), namespace=namespace,
                                  top_k=top_k, include_values=whole, include_metadata=whole)  # fmt: skip
        if weights is not None:
            message.sparse_vector.CopyFrom(sparse(weights))
        answer = self.alike("/query", asked, "Query", message)
        if answer is not None:
            assert [plain_vector(each) | {"score": each.score} for each in answer.matches] == self.rest["matches"]
            assert answer.usage.read_units == self.rest["usage"]["readUnits"]

    @invariant()
    def same_contents(self) -> None:
        stats = self.alike("/describe_index_stats", {}, "DescribeIndexStats", pb.DescribeIndexStatsRequest())
        counts = {name: {"vectorCount": each.vector_count} for name, each in stats.namespaces.items()}
        assert counts == self.rest["namespaces"]
        page = self.alike("/namespaces", None, "ListNamespaces", pb.ListNamespacesRequest(), verb="GET")
        assert [each.name for each in page.namespaces] == [each["name"] for each in self.rest["namespaces"]]
        for namespace in counts:
            params = {"namespace": namespace}
            names = self.alike("/vectors/list", None, "List", pb.ListRequest(**params), verb="GET", params=params)
            found = [item.id for item in names.vectors]
            assert found == [each["id"] for each in self.rest["vectors"]]
            if found:
                message = pb.FetchRequest(ids=found, **params)
                answer = self.alike(
                    "/vectors/fetch", None, "Fetch", message, verb="GET", params={"ids": found, **params}
                )
                # As JSON, where true is not 1.0.
                plain = {id: plain_vector(each) for id, each in answer.vectors.items()}
                assert json.dumps(plain, sort_keys=True) == json.dumps(self.rest["vectors"], sort_keys=True)
                crossed, _ = self.both.call(TWINS[0], "Fetch", message)
                assert dict(crossed.vectors) == dict(answer.vectors)


def json_vector(id: str, values: Any, weights: Any, fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": id, "metadata": fields}
    if values is not None:
        plain["values"] = values
    if weights is not None:
        plain["sparseValues"] = {"indices": list(weights), "values": list(weights.values())}
    return plain


def message_vector(id: str, values: Any, weights: Any, fields: Any) -> pb.Vector:
    made = pb.Vector(id=id, values=packed(*(values or ())), metadata=struct_of(fields))
    if weights is not None:
        made.sparse_values.CopyFrom(sparse(weights))
    return made


def test_rest_and_grpc_do_the_same() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(both_server(Path(folder)))
        machine = type("Machine", (BothMachine,), {"both": server})
        chosen = settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        )
        run_state_machine_as_test(machine, settings=chosen)
