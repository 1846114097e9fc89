"""Every PinyonError has an answer of its own in every dialect, and so has every one that is yet to be written."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pinyon import errors
from pinyon.app import dialects
from pinyon.dialects.base import Dialect
from pinyon.errors import InputTooLong, NotFound, Overloaded, PayloadTooLarge, PinyonError, WrongMethod
from pinyon.services.inference import InferenceService
from pinyon.testing import FakeEngine, fake_catalogue

VENDORS = ("pinecone", "perplexity", "nugen", "openai")
REASON = "a reason to be read"


def subclasses(base: type[PinyonError]) -> Iterator[type[PinyonError]]:
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:  # not those that this file makes up
            yield child
            yield from subclasses(child)


CLASSES = sorted(set(subclasses(PinyonError)), key=lambda cls: cls.__name__)

# Those whose constructor takes more than a reason. What is left of a reason in the answer stands beside each.
MAKE: dict[type[PinyonError], tuple[Callable[[type[Any]], PinyonError], tuple[str, ...]]] = {
    InputTooLong: (lambda cls: cls(300, 256, ("inputs", 3)), ("300", "256", "inputs")),
    PayloadTooLarge: (lambda cls: cls(4096), ("4096",)),
    NotFound: (lambda cls: cls(REASON, kind="model", name="m"), (REASON,)),
    WrongMethod: (lambda cls: cls("PUT", ("GET", "POST")), ("PUT",)),
    Overloaded: (lambda cls: cls(REASON, retry_after=2.5), (REASON,)),
}


def made(cls: type[PinyonError]) -> tuple[PinyonError, tuple[str, ...]]:
    make, texts = next((MAKE[base] for base in cls.__mro__ if base in MAKE), (lambda cls: cls(REASON), (REASON,)))
    return make(cls), texts


@pytest.fixture(params=VENDORS)
def dialect(request: pytest.FixtureRequest, tmp_path: Path) -> Dialect:
    spoken = dialects(InferenceService(fake_catalogue(tmp_path), FakeEngine()))
    return next(dialect for dialect in spoken if dialect.name == request.param)


@pytest.fixture
def request_() -> Request:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/embeddings",
        "query_string": b"",
        "headers": [],
        "server": ("127.0.0.1", 5080),
    }
    return Request(scope)


def in_the_vendors_shape(vendor: str, response: Response) -> dict[str, Any]:
    """The body, after checking that it is what this vendor's clients read."""
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = json.loads(bytes(response.body))
    status = response.status_code
    match vendor:
        case "pinecone":
            assert body.keys() == {"error", "status"}
            assert body["status"] == status
            assert body["error"].keys() == {"code", "message"}
            assert body["error"]["code"].isupper()
        case "openai":
            assert body.keys() == {"error"}
            assert body["error"].keys() == {"message", "type", "param", "code"}
            assert isinstance(body["error"]["message"], str)
        case "perplexity" | "nugen" if status == 422:
            assert body.keys() == {"detail"}
            assert all(item.keys() >= {"loc", "msg", "type"} for item in body["detail"])
            assert body["detail"]
        case "perplexity":
            assert body.keys() == {"error"}
            assert body["error"].keys() == {"message", "type", "code"}
            assert body["error"]["code"] == status
        case "nugen":
            assert isinstance(body["detail"], str)
    return body


def test_all_vendors_are_here(tmp_path: Path) -> None:
    spoken = dialects(InferenceService(fake_catalogue(tmp_path), FakeEngine()))
    assert {dialect.name for dialect in spoken} == set(VENDORS)


def test_the_tree_is_what_the_module_holds() -> None:
    in_module = {
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, PinyonError) and cls is not PinyonError
    }
    assert set(CLASSES) == in_module
    assert len(CLASSES) >= 12


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_its_answer(dialect: Dialect, request_: Request, cls: type[PinyonError]) -> None:
    error, texts = made(cls)
    response = dialect.error(request_, error)
    assert 400 <= response.status_code < 600
    bug = dialect.internal_error(request_)
    assert (response.status_code, response.body) != (bug.status_code, bug.body)
    assert response.status_code != 500
    shown = json.dumps(in_the_vendors_shape(dialect.name, response), ensure_ascii=False)
    for text in texts:
        assert text in shown


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_yet_to_come_is_answered_as_its_base(
    dialect: Dialect, request_: Request, cls: type[PinyonError]
) -> None:
    newer = type("Newer", (cls,), {})
    newest = type("Newest", (newer,), {})
    expected = dialect.error(request_, made(cls)[0])
    for new in (newer, newest):
        response = dialect.error(request_, made(new)[0])
        assert (response.status_code, response.body) == (expected.status_code, expected.body)
        assert response.headers == expected.headers


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.5, "2"), (30, "30")])
def test_overloaded_says_when_to_come_back(dialect: Dialect, request_: Request, seconds: float, header: str) -> None:
    response = dialect.error(request_, Overloaded("busy", retry_after=seconds))
    assert response.status_code == 429
    assert response.headers["retry-after"] == header


def test_wrong_method_says_which_are_right(dialect: Dialect, request_: Request) -> None:
    response = dialect.error(request_, WrongMethod("PUT", ("GET", "POST")))
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("param", [(), ("input",), ("inputs", 3), ("input", 0, 5), ("a.b", "c"), ("é\n'\"\0",)])
def test_a_field_of_any_name_can_be_written(dialect: Dialect, request_: Request, param: tuple[str | int, ...]) -> None:
    response = dialect.error(request_, errors.InvalidRequest("must not be empty", param))
    assert response.status_code in (400, 422)
    in_the_vendors_shape(dialect.name, response)


def test_a_bug_shows_nothing_of_itself(dialect: Dialect, request_: Request) -> None:
    try:
        raise RuntimeError("a secret of the inside")
    except RuntimeError:
        response = dialect.internal_error(request_)
    assert response.status_code == 500
    shown = json.dumps(in_the_vendors_shape(dialect.name, response)).lower()
    for leak in ("secret", "runtimeerror", "traceback", ".py", "/"):
        assert leak not in shown
