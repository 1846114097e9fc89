"""Whichever of Pinecone's Python SDKs is imported, and how its answers are read and compared.

What differs from major to major is asked for here, in one place each.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

# Any, since the types are those of four different packages.
pinecone: Any = importlib.import_module("pinecone")
exceptions: Any = importlib.import_module("pinecone.exceptions")
MAJOR = int(pinecone.__version__.split(".")[0])
MODEL = "all-minilm-l6-v2"
# Set where a program goes over gRPC. There SDKs 7 and 8 raise their base exception, which has no status.
OVER_GRPC = False


def equal(seen: object, expected: object) -> None:
    assert seen == expected, f"{seen!r} is not {expected!r}"


def close(seen: Any, expected: list[float]) -> None:
    assert len(seen) == len(expected), f"{seen!r} is not {expected!r}"
    assert all(abs(a - b) < 1e-5 for a, b in zip(seen, expected, strict=True)), f"{seen!r} is not {expected!r}"


def refused(kind: type[Exception], status: int, text: str, call: Callable[[], object]) -> None:
    """`call` raises the SDK's own exception `kind`, for an answer of `status` that holds `text`."""
    bare = OVER_GRPC and MAJOR < 9
    expected = exceptions.PineconeException if bare else kind
    try:
        call()
    except expected as error:
        if bare:
            assert text in str(error), repr(error)
        else:
            check_error(error, status, text)
    else:
        raise AssertionError(f"no {kind.__name__} of {text!r}")


def check_error(error: Any, status: int, text: str) -> None:
    seen = error.status if MAJOR < 9 else error.status_code
    assert seen == status and text in str(error), repr(error)


def plain(mapping: Any) -> dict[str, Any]:
    """What the SDKs 7 and 8 keep in a generated model is a dictionary in others."""
    found: dict[str, Any] = mapping.to_dict() if hasattr(mapping, "to_dict") else dict(mapping)
    return found


def ids(matches: Any) -> list[str]:
    return [match.id for match in matches]


def hits(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    if MAJOR >= 9:
        return [(hit.id, dict(hit.fields)) for hit in answer.result.hits]
    return [(hit["_id"], plain(hit["fields"])) for hit in answer.result.hits]
