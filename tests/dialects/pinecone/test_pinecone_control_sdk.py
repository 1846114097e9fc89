"""Pinecone's own Python SDK 10.x on the control plane of a live server. Other majors: test_pinecone_life.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pinecone
import pytest
from pinecone import AsyncPinecone, ByocSpec, Pinecone, PodSpec, ServerlessSpec

from tests.dialects.pinecone.control_server import ControlServer, control_server
from tests.grounds import GROUNDS

NO_RETRIES = pinecone.RetryConfig(max_retries=0)
AWS = ServerlessSpec(cloud="aws", region="us-east-1")


@pytest.fixture(params=GROUNDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ControlServer]:
    with control_server(tmp_path, keys=("secret",), on=request.param) as made:
        yield made


@pytest.fixture
def client(server: ControlServer) -> Iterator[Pinecone]:
    with Pinecone(api_key="secret", host=server.url, retry_config=NO_RETRIES) as client:
        yield client


def test_dense(client: Pinecone) -> None:
    assert not client.has_index("notes")
    made = client.create_index(
        "notes", dimension=8, metric="euclidean", spec=AWS, tags={"team": "a"}, deletion_protection="enabled"
    )
    assert (made.name, made.dimension, made.metric, made.vector_type) == ("notes", 8, "euclidean", "dense")
    assert made.status.ready
    assert client.has_index("notes")
    described = client.describe_index("notes")
    assert described == made
    assert described.host is not None
    assert described.host.startswith("http://localhost:")
    assert (described.tags, described.deletion_protection) == ({"team": "a"}, "enabled")
    assert described.spec.serverless is not None
    assert (described.spec.serverless.cloud, described.spec.serverless.region) == ("aws", "us-east-1")

    with pytest.raises(pinecone.ForbiddenError, match="Deletion protection") as protected:
        client.delete_index("notes")
    assert protected.value.error_code == "FORBIDDEN"
    client.configure_index("notes", deletion_protection="disabled", tags={"team": "", "owner": "b"})
    described = client.describe_index("notes")
    assert (described.tags, described.deletion_protection) == ({"owner": "b"}, "disabled")

    with pytest.raises(pinecone.ConflictError) as taken:
        client.create_index("notes", dimension=8, spec=AWS)
    assert taken.value.error_code == "ALREADY_EXISTS"
    client.delete_index("notes")
    assert not client.has_index("notes")
    with pytest.raises(pinecone.NotFoundError, match="Index notes not found"):
        client.describe_index("notes")


def test_sparse_and_byoc(client: Pinecone) -> None:
    client.create_index("terms", metric="dotproduct", vector_type="sparse", spec=AWS)
    client.create_index("own", dimension=4, spec=ByocSpec(environment="aws-env-1"))
    terms, own = client.describe_index("terms"), client.describe_index("own")
    assert (terms.dimension, terms.metric, terms.vector_type) == (None, "dotproduct", "sparse")
    assert own.spec.byoc is not None
    assert own.spec.byoc.environment == "aws-env-1"
    assert client.list_indexes().names() == ["own", "terms"]


def test_for_a_model(client: Pinecone) -> None:
    made = client.create_index_for_model(
        "faq",
        cloud="aws",
        region="us-east-1",
        embed={"model": "all-minilm-l6-v2", "field_map": {"text": "body"}, "write_parameters": {"truncate": "NONE"}},
        schema={"year": {"filterable": True}},
        tags={"a": "b"},
    )
    assert made.status.ready
    embed = client.describe_index("faq").embed
    assert embed is not None
    assert (embed.model, embed.metric, embed.field_map) == ("all-minilm-l6-v2", "cosine", {"text": "body"})
    assert embed.write_parameters == {"truncate": "NONE"}
    assert "year" in client.describe_index("faq").schema.fields


def test_errors(client: Pinecone, server: ControlServer) -> None:
    with pytest.raises(pinecone.ApiError, match="no index of pods") as pods:
        client.create_index("pods", dimension=4, spec=PodSpec(environment="e"))
    assert pods.value.status_code == 400
    with pytest.raises(pinecone.NotFoundError, match="cloud: moon"):
        client.create_index("moon", dimension=4, spec=ServerlessSpec(cloud="moon", region="r"))
    with pytest.raises(pinecone.NotFoundError):
        client.delete_index("nothing")
    with pytest.raises(pinecone.NotFoundError):
        client.configure_index("nothing", tags={"a": "b"})
    with (
        Pinecone(api_key="wrong", host=server.url, retry_config=NO_RETRIES) as wrong,
        pytest.raises(pinecone.UnauthorizedError, match="Invalid API key"),
    ):
        wrong.list_indexes()


def test_asyncio(server: ControlServer) -> None:
    async def use() -> None:
        async with AsyncPinecone(api_key="secret", host=server.url, retry_config=NO_RETRIES) as client:
            names = [f"index-{n}" for n in range(4)]
            await asyncio.gather(*(client.create_index(name, dimension=4, spec=AWS) for name in names))
            assert (await client.list_indexes()).names() == names
            await asyncio.gather(*(client.delete_index(name) for name in names))
            assert (await client.list_indexes()).names() == []

    asyncio.run(use())
