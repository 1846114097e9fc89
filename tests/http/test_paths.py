"""What is looked up is found as Starlette finds it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from pinyon.http.paths import Paths

PATTERNS = [
    "/query",
    "/vectors/list",
    "/i/{index}/query",
    "/i/{index}/vectors/list",
    "/i/{index}/namespaces",
    "/i/{index}/namespaces/{namespace:path}",
    "/indexes/{name}",
    "/indexes/{name}/backups",
    "/a/{x}/{y}",
    "/vendor/i/{index}/query",
]


class Saying:
    """An application that says which pattern it stands for, and what it was told of the path."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = [self._pattern, scope.get("path_params", {}), scope["path"]]
        await JSONResponse(told)(scope, receive, send)


@pytest.fixture(scope="module")
def clients() -> tuple[TestClient, TestClient]:
    table = {pattern: Saying(pattern) for pattern in PATTERNS}
    plain = Starlette(routes=[Route(pattern, app) for pattern, app in table.items()])
    plain.router.redirect_slashes = False
    return TestClient(Paths(table, plain)), TestClient(plain)


@pytest.mark.parametrize(
    "path",
    [
        "/query", "/query/", "//query", "/", "/i", "/i/", "/i/a", "/i/a/", "/i//query", "/i/a/query", "/i/a/query/",
        "/i/a/query/x", "/i/a%2Fb/query", "/i/%C3%A9/query", "/i/a b/query", "/i/a/vectors/list", "/i/a/vectors",
        "/i/a/namespaces", "/i/a/namespaces/", "/i/a/namespaces/b/c", "/i/a/namespaces/%2F", "/indexes/a",
        "/indexes/a/backups", "/indexes//backups", "/a/b/c", "/a/b", "/a/b/c/d", "/vendor/i/a/query",
        "/i/{index}/query", "/i/a/query?x=1", "/I/a/query", "/i/a\\n/query",
    ],
)  # fmt: skip
def test_a_path_is_found_as_starlette_finds_it(clients: tuple[TestClient, TestClient], path: str) -> None:
    answers: list[Any] = []
    for client in clients:
        answer = client.get(f"http://testserver{path}")
        answers.append((answer.status_code, answer.text))
    assert answers[0] == answers[1]


def test_a_busy_path_does_not_reach_the_router() -> None:
    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("asked the router")

    client = TestClient(Paths({pattern: Saying(pattern) for pattern in PATTERNS}, nobody))
    assert client.get("/i/a/vectors/list").json() == ["/i/{index}/vectors/list", {"index": "a"}, "/i/a/vectors/list"]
    assert client.get("/query").json()[0] == "/query"
    with pytest.raises(AssertionError):
        client.get("/i/a/namespaces/b")
