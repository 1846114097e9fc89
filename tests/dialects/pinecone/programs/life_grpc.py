"""The life of an index whose vectors go over gRPC, driven by whichever of Pinecone's Python SDKs is imported.

Run as `python -m tests.dialects.pinecone.programs.life_grpc URL`. For https, PINYON_TEST_CA is the authority to trust,
and SSL_CERT_FILE too. Texts go over REST, to the same port.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from tests.dialects.pinecone.programs import client
from tests.dialects.pinecone.programs.client import MAJOR, equal, exceptions, pinecone, refused
from tests.dialects.pinecone.programs.life import AWS, life_of_sparse_vectors, life_of_texts, life_of_vectors

over_grpc: Any = importlib.import_module("pinecone.grpc")
CA = os.environ.get("PINYON_TEST_CA")


def connected(url: str, key: str = "secret") -> Any:
    trust = {"ssl_ca_certs": CA} if CA is not None and MAJOR < 9 else {}
    if MAJOR < 9:
        return over_grpc.PineconeGRPC(api_key=key, host=url, **trust)
    return pinecone.Pinecone(api_key=key, host=url, **({} if MAJOR < 10 or CA else {"grpc_scheme": "http"}))


def opened(pc: Any, name: str, key: str = "secret") -> Any:
    """The index over gRPC, with TLS or without."""
    host = pc.describe_index(name).host
    if MAJOR >= 10:
        return pc.index(name, grpc=True)
    if MAJOR == 9:
        return pc.index(name, grpc=True) if CA else pinecone.GrpcIndex(host=host, api_key=key, secure=False)
    if CA:
        return pc.Index(name=name)
    plain = over_grpc.GRPCClientConfig(secure=False)
    return pc.Index(name=name, host=host.removeprefix("http://"), grpc_config=plain)


def mixed(pc: Any, index: Any, url: str) -> None:
    """Both at one port: what is written by one is read by the other."""
    rest = pinecone.Pinecone(api_key="secret", host=url, **({"ssl_ca_certs": CA} if CA and MAJOR < 9 else {}))
    rest = rest.Index(host=pc.describe_index("notes").host)
    for turn in range(5):
        index.upsert(vectors=[(f"g{turn}", [1.0, 2.0, float(turn)])], namespace="mixed")
        rest.upsert(vectors=[(f"r{turn}", [2.0, 1.0, float(turn)])], namespace="mixed")
        for reader in (index, rest):
            found = reader.fetch(ids=[f"g{turn}", f"r{turn}"], namespace="mixed").vectors
            equal({id: list(each.values)[2] for id, each in found.items()}, {f"g{turn}": turn, f"r{turn}": turn})
    index.delete(delete_all=True, namespace="mixed")


def main(url: str) -> None:
    pc = connected(url)
    pc.create_index("notes", dimension=3, spec=AWS)
    pc.create_index("terms", metric="dotproduct", vector_type="sparse", spec=AWS)
    pc.create_index("own", dimension=4, metric="dotproduct", spec=AWS)
    index = opened(pc, "notes")
    mixed(pc, index, url)
    client.OVER_GRPC = True
    life_of_vectors(index)
    life_of_sparse_vectors(opened(pc, "terms"), opened(pc, "own"))
    client.OVER_GRPC = False
    if MAJOR >= 9:
        life_of_texts(pc)
        texts = opened(pc, "faq")
        equal(list(texts.fetch(ids=["cat"], namespace="docs").vectors), ["cat"])
        records = [{"_id": "dog", "body": "A dog barks."}]
        texts.upsert_records(namespace="docs", records=records)  # over REST, from the client of gRPC
        equal(list(texts.fetch(ids=["dog"], namespace="docs").vectors), ["dog"])
    for name in pc.list_indexes().names():
        pc.delete_index(name)
    client.OVER_GRPC = True
    refused(exceptions.NotFoundException, 404, "There is nothing here any more", index.describe_index_stats)


if __name__ == "__main__":
    main(sys.argv[1])
    print(json.dumps({"version": pinecone.__version__}))
