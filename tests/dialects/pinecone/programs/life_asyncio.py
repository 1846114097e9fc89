"""The asyncio client of whichever of Pinecone's Python SDKs is imported, on one index of vectors and one of texts.

Run as `python -m tests.dialects.pinecone.programs.life_asyncio URL`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tests.dialects.pinecone.programs.client import (
    MAJOR,
    MODEL,
    check_error,
    close,
    equal,
    exceptions,
    hits,
    ids,
    pinecone,
)

AWS = pinecone.ServerlessSpec(cloud="aws", region="us-east-1")


async def refused(kind: type[Exception], status: int, text: str, call: Callable[[], Awaitable[object]]) -> None:
    """As client.refused, for a call that is awaited."""
    try:
        await call()
    except kind as error:
        check_error(error, status, text)
    else:
        raise AssertionError(f"no {kind.__name__} of {text!r}")


async def opened(pc: Any, name: str) -> Any:
    if MAJOR >= 9:
        return await pc.index(name)
    return pc.IndexAsyncio(host=(await pc.describe_index(name)).host)


async def life_of_vectors(index: Any) -> None:
    batches = [[(f"{batch}#{n}", [1.0, float(batch), float(n)], {"n": n}) for n in range(50)] for batch in range(10)]
    done = await asyncio.gather(*(index.upsert(vectors=batch, namespace="many") for batch in batches))
    equal([answer.upserted_count for answer in done], [50] * 10)
    asked = [index.query(vector=[1.0, n / 10, n], top_k=1, filter={"n": n}, namespace="many") for n in range(50)]
    found = await asyncio.gather(*asked)
    equal([len(answer.matches) for answer in found], [1] * 50)
    assert all(answer.matches[0].id.endswith(f"#{n}") for n, answer in enumerate(found))
    nearest = await index.query(id="3#7", top_k=1, namespace="many", include_metadata=True, include_values=True)
    equal((ids(nearest.matches), list(nearest.matches[0].values)), (["3#7"], [1.0, 3.0, 7.0]))
    pages = [page async for page in index.list(prefix="2#", namespace="many", limit=30)]
    equal([len(page.vectors) if MAJOR >= 9 else len(page) for page in pages], [30, 20])
    await index.update(id="0#0", values=[0.5, 0.25, 2.0], set_metadata={"new": True}, namespace="many")
    vector = (await index.fetch(ids=["0#0"], namespace="many")).vectors["0#0"]
    close(vector.values, [0.5, 0.25, 2.0])
    equal(dict(vector.metadata), {"n": 0, "new": True})
    if MAJOR >= 8:
        page = await index.fetch_by_metadata(filter={"new": True}, namespace="many")
        equal(list(page.vectors), ["0#0"])
        await index.create_namespace(name="made")
        await index.delete_namespace(namespace="made")
    await index.delete(ids=["0#0"], namespace="many")
    await index.delete(filter={"n": {"$gte": 10}}, namespace="many")
    stats = await index.describe_index_stats()
    equal((stats.dimension, stats.total_vector_count), (3, 99))
    equal(int((await index.describe_namespace(namespace="many")).record_count), 99)
    await index.delete(delete_all=True, namespace="many")
    equal((await index.describe_index_stats()).total_vector_count, 0)
    wrong = exceptions.PineconeApiException
    await refused(wrong, 400, "dimension", lambda: index.upsert(vectors=[("a", [1.0])]))
    await refused(exceptions.NotFoundException, 404, "not found", lambda: index.describe_namespace(namespace="no"))


async def life_of_texts(index: Any) -> None:
    records = [{"_id": "bread", "body": "Bread needs yeast."}, {"_id": "pine", "body": "Pines are conifers."}]
    await index.upsert_records(namespace="docs", records=records)
    query: dict[str, Any] = {"inputs": {"text": "a tree with cones"}, "top_k": 1}
    found = await index.search(namespace="docs", query=query)
    equal(hits(found), [("pine", {"body": "Pines are conifers."})])


async def main(url: str) -> None:
    async with pinecone.PineconeAsyncio(api_key="secret", host=url) as pc:
        embed = {"model": MODEL, "field_map": {"text": "body"}}
        await asyncio.gather(
            pc.create_index("notes", dimension=3, spec=AWS),
            pc.create_index_for_model("faq", cloud="aws", region="us-east-1", embed=embed),
        )
        equal((await pc.list_indexes()).names(), ["faq", "notes"])
        async with await opened(pc, "notes") as index:
            await life_of_vectors(index)
        async with await opened(pc, "faq") as index:
            await life_of_texts(index)
        await pc.configure_index("faq", deletion_protection="enabled")
        await refused(exceptions.ForbiddenException, 403, "Deletion protection", lambda: pc.delete_index("faq"))
        await pc.configure_index("faq", deletion_protection="disabled")
        await asyncio.gather(pc.delete_index("faq"), pc.delete_index("notes"))
        equal((await pc.list_indexes()).names(), [])
        await refused(exceptions.NotFoundException, 404, "not found", lambda: pc.describe_index("notes"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    print(json.dumps({"version": pinecone.__version__}))
