"""The whole life of an index, driven by whichever of Pinecone's Python SDKs is imported.

Run as `python -m tests.dialects.pinecone.programs.life URL`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.dialects.pinecone.programs.client import (
    MAJOR,
    MODEL,
    close,
    equal,
    exceptions,
    hits,
    ids,
    pinecone,
    plain,
    refused,
)

AWS = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")
ODD = "a b/+%25&=#?'\""


def listed(index: Any, **options: Any) -> list[list[str]]:
    """The pages of the paginating generator."""
    pages = list(index.list(**options))
    return [ids(page.vectors) for page in pages] if MAJOR >= 9 else pages


def namespaces(index: Any) -> list[str]:
    found = list(index.list_namespaces())
    return [space.name for page in found for space in page.namespaces] if MAJOR >= 9 else [s.name for s in found]


def life_of_indexes(pc: Any, url: str) -> None:
    """The control plane: create, describe, list, configure, protect, delete."""
    assert not pc.has_index("notes")
    made = pc.create_index("notes", dimension=3, spec=AWS, tags={"a": "1", "b": "2"}, deletion_protection="enabled")
    equal((made.name, made.dimension, made.metric, made.vector_type), ("notes", 3, "cosine", "dense"))
    found = pc.describe_index("notes")
    assert found.status.ready and found.host == made.host
    assert found.host.startswith("http://127.0.0.1:") and found.host != url
    equal(found.spec.serverless.region, "us-east-1")
    refused(exceptions.ForbiddenException, 403, "Deletion protection", lambda: pc.delete_index("notes"))
    pc.configure_index("notes", deletion_protection="disabled", tags={"b": "", "c": "3"})
    found = pc.describe_index("notes")
    equal((plain(found.tags), found.deletion_protection), ({"a": "1", "c": "3"}, "disabled"))

    pc.create_index("terms", metric="dotproduct", vector_type="sparse", spec=AWS)
    found = pc.describe_index("terms")
    equal((found.vector_type, found.metric), ("sparse", "dotproduct"))
    pc.create_index("own", dimension=4, metric="dotproduct", spec=pinecone.ByocSpec(environment="aws-env-1"))
    equal(pc.describe_index("own").spec.byoc.environment, "aws-env-1")
    pods = pinecone.PodSpec(environment="us-east1-gcp", pod_type="p1.x1", replicas=2)
    if MAJOR >= 10:
        # NOTE: 2026-07 makes no index of pods.
        refused(exceptions.PineconeApiException, 400, "pods", lambda: pc.create_index("pods", dimension=3, spec=pods))
    else:
        pc.create_index("pods", dimension=3, metric="euclidean", spec=pods)
        pc.configure_index("pods", replicas=3, pod_type="p1.x2")
        pod = pc.describe_index("pods").spec.pod
        equal((pod.environment, pod.replicas, pod.pods, pod.pod_type), ("us-east1-gcp", 3, 3, "p1.x2"))
        pods_index = pc.Index(name="pods")
        pods_index.upsert(vectors=[("near", [1.0, 1.0, 1.0]), ("far", [4.0, 5.0, 1.0])])
        matches = pods_index.query(vector=[1.0, 1.0, 1.0], top_k=2).matches
        equal([(match.id, match.score) for match in matches], [("near", 0.0), ("far", 25.0)])

    conflict = exceptions.PineconeApiException
    refused(conflict, 409, "ALREADY_EXISTS", lambda: pc.create_index("notes", dimension=3, spec=AWS))
    if MAJOR < 9:
        # Later SDKs look at the name themselves.
        refused(conflict, 400, "INVALID_ARGUMENT", lambda: pc.create_index("No_", dimension=3, spec=AWS))
    refused(exceptions.NotFoundException, 404, "not found", lambda: pc.describe_index("nothing"))
    refused(exceptions.NotFoundException, 404, "not found", lambda: pc.delete_index("nothing"))
    stranger = pinecone.Pinecone(api_key="wrong", host=url)
    refused(exceptions.UnauthorizedException, 401, "Invalid API key", stranger.list_indexes)
    refused(exceptions.UnauthorizedException, 401, "", stranger.Index(host=found.host).describe_index_stats)


def life_of_vectors(index: Any) -> None:
    """Dense vectors: upsert, query, fetch, list, update, delete."""
    films = [
        {"id": "a", "values": [1.0, 0.0, 0.0], "metadata": {"genre": "drama", "year": 2019, "tags": ["x", "y"]}},
        {"id": "b", "values": [0.1, 0.9, 0.2], "metadata": {"genre": "comedy", "year": 2020, "good": True}},
    ]
    equal(index.upsert(vectors=films, namespace="films").upserted_count, 2)
    index.upsert(vectors=[("c", [0.0, 0.0, 1.0], {"genre": "drama", "year": 2021})], namespace="films")
    index.upsert(vectors=[pinecone.Vector(id="d", values=[0.5, 0.5, 0.5])], namespace="films")
    many = [(f"n#{n:03}", [1.0, 0.0, float(n)]) for n in range(250)]
    equal(index.upsert(vectors=many, batch_size=100, show_progress=False).upserted_count, 250)

    x = [1.0, 0.0, 0.0]
    found = index.query(vector=x, top_k=3, namespace="films")
    equal((ids(found.matches), found.namespace), (["a", "d", "b"], "films"))
    close([match.score for match in found.matches], [1.0, 3**-0.5, 0.1 / 0.86**0.5])
    assert found.usage.read_units >= 1
    drama = {"$and": [{"genre": {"$eq": "drama"}}, {"year": {"$gte": 2020}}]}
    found = index.query(
        vector=x, top_k=3, namespace="films", filter=drama, include_values=True, include_metadata=True
    ).matches
    equal(ids(found), ["c"])
    equal((list(found[0].values), dict(found[0].metadata)), ([0.0, 0.0, 1.0], {"genre": "drama", "year": 2021}))
    equal(ids(index.query(id="c", top_k=1, namespace="films").matches), ["c"])
    equal(ids(index.query(id="a", top_k=4, namespace="films", filter={"tags": {"$in": ["y"]}}).matches), ["a"])
    equal(ids(index.query(vector=x, top_k=1, namespace="nowhere").matches), [])
    both = index.query_namespaces(vector=x, namespaces=["films", ""], metric="cosine", top_k=3)
    equal((sorted(ids(both.matches[:2])), both.matches[2].id), (["a", "n#000"], "n#001"))

    vectors = index.fetch(ids=["b", "nothing"], namespace="films").vectors
    equal(list(vectors), ["b"])
    close(vectors["b"].values, [0.1, 0.9, 0.2])
    equal(dict(vectors["b"].metadata), {"genre": "comedy", "year": 2020, "good": True})
    pages = listed(index, prefix="n#")
    equal([len(page) for page in pages], [100, 100, 50])
    equal([id for page in pages for id in page], [f"n#{n:03}" for n in range(250)])
    equal(listed(index, prefix="", limit=3, namespace="films"), [["a", "b", "c"], ["d"]])
    page = index.list_paginated(prefix="n#", limit=3)
    page = index.list_paginated(prefix="n#", limit=3, pagination_token=page.pagination.next)
    equal(ids(page.vectors), ["n#003", "n#004", "n#005"])

    index.update(id="a", values=[0.0, 1.0, 0.0], set_metadata={"year": 1999}, namespace="films")
    vector = index.fetch(ids=["a"], namespace="films").vectors["a"]
    equal(list(vector.values), [0.0, 1.0, 0.0])
    equal(dict(vector.metadata), {"genre": "drama", "year": 1999, "tags": ["x", "y"]})
    stats = index.describe_index_stats()
    equal((stats.dimension, stats.total_vector_count), (3, 254))
    equal({name: space.vector_count for name, space in stats.namespaces.items()}, {"": 250, "films": 4})
    if MAJOR >= 8:
        by_metadata(index)

    equal(namespaces(index), ["__default__", "films"])
    equal(int(index.describe_namespace(namespace="films").record_count), 4)
    if MAJOR >= 8:
        equal(index.create_namespace(name="made").name, "made")
        equal(namespaces(index), ["__default__", "films", "made"])
        refused(exceptions.PineconeApiException, 409, "exists", lambda: index.create_namespace(name="made"))
        index.delete_namespace(namespace="made")
    refused(exceptions.NotFoundException, 404, "not found", lambda: index.describe_namespace(namespace="made"))
    names_that_need_escapes(index)

    wrong = exceptions.PineconeApiException
    refused(wrong, 400, "dimension", lambda: index.upsert(vectors=[("e", [1.0, 2.0])], namespace="films"))
    refused(wrong, 400, "dimension", lambda: index.query(vector=[1.0], top_k=1, namespace="films"))
    refused(wrong, 400, "$near", lambda: index.query(vector=x, top_k=1, filter={"a": {"$near": 1}}))
    index.delete(ids=["a", "nothing"], namespace="films")
    index.delete(filter={"genre": "comedy"}, namespace="films")
    equal(listed(index, prefix="", namespace="films"), [["c", "d"]])
    index.delete(delete_all=True)
    index.delete_namespace(namespace="films")
    equal((index.describe_index_stats().total_vector_count, namespaces(index)), (0, []))


def by_metadata(index: Any) -> None:
    """Fetching and changing records that a filter finds, which 2025-04 cannot."""
    page = index.fetch_by_metadata(filter={"year": {"$exists": True}}, namespace="films", limit=2)
    equal(sorted(page.vectors), ["a", "b"])
    page = index.fetch_by_metadata(
        filter={"year": {"$exists": True}}, namespace="films", limit=2, pagination_token=page.pagination.next
    )
    equal((sorted(page.vectors), page.pagination), (["c"], None))
    change = {"filter": {"genre": "drama"}, "set_metadata": {"seen": True}, "namespace": "films"}
    equal(index.update(**change, dry_run=True).matched_records, 2)
    equal(dict(index.fetch_by_metadata(filter={"seen": True}, namespace="films").vectors), {})
    index.update(**change)
    equal(sorted(index.fetch_by_metadata(filter={"seen": True}, namespace="films").vectors), ["a", "c"])


def names_that_need_escapes(index: Any) -> None:
    index.upsert(vectors=[(ODD, [1.0, 2.0, 3.0], {ODD: "猫"})], namespace=ODD)
    vectors = index.fetch(ids=[ODD], namespace=ODD).vectors
    equal([(id, dict(vector.metadata)) for id, vector in vectors.items()], [(ODD, {ODD: "猫"})])
    equal(listed(index, prefix=ODD, namespace=ODD), [[ODD]])
    equal(ids(index.query(id=ODD, top_k=1, filter={ODD: "猫"}, namespace=ODD).matches), [ODD])
    if MAJOR == 9:
        # NOTE: this one does not escape what it puts into a path.
        index.delete(delete_all=True, namespace=ODD)
        return
    equal(int(index.describe_namespace(namespace=ODD).record_count), 1)
    index.delete(ids=[ODD], namespace=ODD)
    index.delete_namespace(namespace=ODD)


def life_of_sparse_vectors(sparse: Any, hybrid: Any) -> None:
    values = pinecone.SparseValues(indices=[1, 5], values=[0.5, 1.0])
    sparse.upsert(vectors=[pinecone.Vector(id="s", sparse_values=values)])
    sparse.upsert(vectors=[{"id": "t", "sparse_values": {"indices": [9], "values": [4.0]}}])
    found = sparse.query(sparse_vector={"indices": [5, 7], "values": [2.0, 3.0]}, top_k=5, include_values=True).matches
    equal([(match.id, match.score) for match in found], [("s", 2.0)])
    equal((list(found[0].sparse_values.indices), list(found[0].sparse_values.values)), ([1, 5], [0.5, 1.0]))
    sparse.update(id="t", sparse_values={"indices": [5], "values": [8.0]})
    equal(list(sparse.fetch(ids=["t"]).vectors["t"].sparse_values.indices), [5])
    equal(ids(sparse.query(sparse_vector={"indices": [5], "values": [1.0]}, top_k=5).matches), ["t", "s"])
    equal(sparse.describe_index_stats().total_vector_count, 2)

    hybrid.upsert(
        vectors=[
            {"id": "both", "values": [1.0, 2.0, 3.0, 4.0], "sparse_values": {"indices": [3, 7], "values": [2.0, 0.5]}},
            {"id": "dense", "values": [1.0, 1.0, 1.0, 1.0]},
        ]
    )
    query: dict[str, Any] = {"vector": [1.0, 1.0, 1.0, 1.0], "sparse_vector": {"indices": [7], "values": [10.0]}}
    found = hybrid.query(**query, top_k=2).matches
    equal([(match.id, match.score) for match in found], [("both", 15.0), ("dense", 4.0)])
    vector = hybrid.fetch(ids=["both"]).vectors["both"]
    equal((list(vector.values), list(vector.sparse_values.values)), ([1.0, 2.0, 3.0, 4.0], [2.0, 0.5]))


def life_of_texts(pc: Any) -> None:
    """An index that embeds by itself, over the bundled model."""
    made = pc.create_index_for_model(
        "faq", cloud="aws", region="us-east-1", embed={"model": MODEL, "field_map": {"text": "body"}}
    )
    equal((made.embed.model, plain(made.embed.field_map)), (MODEL, {"text": "body"}))
    index = pc.Index(name="faq")
    bodies = {"bread": "Bread needs yeast to rise.", "pine": "Pines are conifers.", "cat": "A cat sleeps all day."}
    records = [{"_id": id, "body": body, "length": len(body)} for id, body in bodies.items()]
    index.upsert_records(namespace="docs", records=records)
    query: dict[str, Any] = {"inputs": {"text": "Which trees bear cones?"}, "top_k": 2}
    found = index.search(namespace="docs", query=query, fields=["body"])
    equal(hits(found)[0], ("pine", {"body": bodies["pine"]}))
    scores = [hit.score if MAJOR >= 9 else hit["_score"] for hit in found.result.hits]
    assert 1 > scores[0] > scores[1], scores
    assert found.usage.read_units >= 1 and found.usage.embed_total_tokens >= 5
    found = index.search(namespace="docs", query={**query, "filter": {"length": {"$gt": 20}}})
    equal(sorted(id for id, _ in hits(found)), ["bread", "cat"])
    equal(hits(found)[0][1].keys(), {"body", "length"})
    rerank = {"model": f"{MODEL}-rerank", "rank_fields": ["body"], "query": "How is dough leavened?", "top_n": 1}
    found = index.search(namespace="docs", query={**query, "top_k": 3}, rerank=rerank)
    equal(([id for id, _ in hits(found)], found.usage.rerank_units), (["bread"], 1))
    fetched = index.fetch(ids=["cat"], namespace="docs").vectors["cat"]
    equal((len(fetched.values), dict(fetched.metadata)), (384, {"body": bodies["cat"], "length": 21}))


def main(url: str) -> None:
    pc = pinecone.Pinecone(api_key="secret", host=url)
    life_of_indexes(pc, url)
    life_of_vectors(pc.Index(name="notes"))
    if MAJOR >= 9:
        equal(pc.index("notes").describe_index_stats().total_vector_count, 0)
    life_of_sparse_vectors(pc.Index(name="terms"), pc.Index(name="own"))
    life_of_texts(pc)
    names = pc.list_indexes().names()
    equal(names, ["faq", "notes", "own", *(["pods"] if MAJOR < 10 else []), "terms"])
    pc.Index(name="notes").upsert(vectors=[("left", [1.0, 1.0, 1.0])])
    for name in names:
        pc.delete_index(name)
        assert not pc.has_index(name)
    equal(pc.list_indexes().names(), [])
    refused(exceptions.NotFoundException, 404, "not found", lambda: pc.Index(name="notes"))
    # A new index of an old name has another host, and nothing of the old one.
    pc.create_index("notes", dimension=5, spec=AWS)
    stats = pc.Index(name="notes").describe_index_stats()
    equal((stats.dimension, stats.total_vector_count), (5, 0))
    pc.delete_index("notes")


if __name__ == "__main__":
    main(sys.argv[1])
    print(json.dumps({"version": pinecone.__version__}))
