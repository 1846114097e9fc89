"""What stands around every handler: paths and methods, request ids, the access log, bugs, clients that go away."""

from __future__ import annotations

import json
import re

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pinyon.errors import Overloaded
from pinyon.http.logging import JsonFormatter, TextFormatter
from pinyon.testing import FakeEngine
from tests.http.conftest import Lines, Start
from tests.http.serving import EMBED, EMBED_BODY, GatedEngine, Wire, eventually, request

PINECONE_EMBED = b'{"model": "all-minilm-l6-v2", "inputs": [{"text": "three short words"}]}'
PERPLEXITY_EMBED = b'{"model": "all-minilm-l6-v2", "input": "three short words", "encoding_format": "base64_int8"}'
VERBS = {
    "pinecone": ("/embed", PINECONE_EMBED),
    "perplexity": ("/perplexity/v1/embeddings", PERPLEXITY_EMBED),
    "nugen": ("/api/v3/inference/embeddings", EMBED_BODY),
    "openai": ("/v1/embeddings", EMBED_BODY),
}


def vendor_of(body: bytes) -> str:
    """Whose error body it is."""
    match json.loads(body):
        case {"error": {"code": str(), "message": str()}, "status": int()}:
            return "pinecone"
        case {"error": {"message": str(), "type": str(), "param": _, "code": _}}:
            return "openai"
        case {"error": {"message": str(), "type": str(), "code": int()}}:
            return "perplexity"
        case {"detail": _}:
            return "nugen"
    raise AssertionError(body)


@pytest.mark.parametrize(
    ("path", "vendor"),
    [
        ("/", "pinecone"),
        ("/x", "pinecone"),
        ("/pinecone", "pinecone"),
        ("/pinecone/x", "pinecone"),
        ("/embed/x", "pinecone"),
        ("/pineconex", "pinecone"),
        ("/openai/x", "openai"),
        ("/v1/x", "openai"),
        ("/v1/embeddings/", "openai"),
        ("/api/v3/x", "nugen"),
        ("/nugen/x", "nugen"),
        ("/perplexity/x", "perplexity"),
        ("//evil", "pinecone"),
        ("/v1/%0a%0d%00", "openai"),
        ("/v1/%ff%fe", "openai"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_nothing_there(live: Start, lines: Lines, method: str, path: str, vendor: str) -> None:
    wire = live().connect()
    wire.send(request(method, path, b"{}"))
    answer = wire.answer()
    assert answer.status == 404
    assert vendor_of(answer.body) == vendor
    eventually(lambda: len(lines.access) == 1)
    logged = vars(lines.access[0])
    assert (logged["dialect"], logged["verb"], logged["status"]) == (vendor, "not_found", 404)


@pytest.mark.parametrize(
    ("method", "path", "vendor", "allow"),
    [
        ("GET", "/embed", "pinecone", "POST"),
        ("DELETE", "/models", "pinecone", "GET"),
        ("PUT", "/v1/embeddings", "openai", "POST"),
        ("HEAD", "/v1/embeddings", "openai", "POST"),
        ("GET", "/perplexity/v1/embeddings", "perplexity", "POST"),
        ("OPTIONS", "/api/v3/inference/embeddings", "nugen", "POST"),
        ("POST", "/openai/v1/models", "openai", "GET"),
    ],
)
def test_wrong_method(live: Start, method: str, path: str, vendor: str, allow: str) -> None:
    server = live()
    wire = server.connect()
    wire.send(request(method, path, b""))
    answer = wire.answer(to_head=method == "HEAD")
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    if method != "HEAD":
        assert vendor_of(answer.body) == vendor
    assert b'verb="wrong_method"' in server.metrics.render()
    wire.send(EMBED)
    assert wire.answer().status == 200


def test_head_is_get_without_a_body(live: Start) -> None:
    wire = live().connect()
    wire.send(request("HEAD", "/v1/models") + request("GET", "/v1/models"))
    head, get = wire.answer(to_head=True), wire.answer()
    assert head.status == get.status == 200
    assert head.headers["content-length"] == get.headers["content-length"]


def test_every_answer_has_its_own_request_id_and_the_log_says_the_same(live: Start, lines: Lines) -> None:
    async def bug(request: Request, body: bytes) -> Response:
        raise ValueError("secret text")

    wire = live(keys=("right",), handlers={"/bug": bug}, max_body_bytes=1000).connect()
    key = "Authorization: Bearer right"
    expected = [
        (request("POST", "/v1/embeddings", EMBED_BODY, key), 200),
        (request("POST", "/v1/embeddings", EMBED_BODY), 401),
        (request("POST", "/v1/embeddings", b"{", key), 400),
        (request("POST", "/v1/embeddings", b"x" * 2000, key), 413),
        (request("POST", "/nowhere", b"", "Api-Key: right"), 404),
        (request("PUT", "/v1/embeddings", b"", key), 405),
        (request("POST", "/bug", b"", key), 500),
        (request("GET", "/models", b"", "Api-Key: right"), 200),
        (request("GET", "/models", b""), 401),
    ]
    ids = []
    for number, (asked, status) in enumerate(expected, 1):
        wire.send(asked)
        answer = wire.answer()
        assert answer.status == status
        request_id = answer.headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{24}", request_id)
        if asked.startswith((b"GET /models", b"POST /nowhere")):
            assert answer.headers["x-pinecone-request-id"] == request_id
        eventually(lambda number=number: len(lines.access) == number)  # type: ignore[misc]
        assert vars(lines.access[-1])["request_id"] == request_id
        ids.append(request_id)
    assert len(set(ids)) == len(ids)
    bug_line = lines.named("pinyon.bug")[0]
    assert vars(bug_line)["request_id"] == ids[6]


@pytest.mark.parametrize("vendor", VERBS)
def test_the_fields_of_an_access_line(live: Start, lines: Lines, vendor: str) -> None:
    path, body = VERBS[vendor]
    wire = live().connect()
    wire.send(request("POST", path, body))
    assert wire.answer().status == 200
    eventually(lambda: len(lines.access) == 1)
    logged = vars(lines.access[0])
    fields = {name: logged[name] for name in ("dialect", "verb", "status", "model", "inputs", "tokens")}
    assert fields == {
        "dialect": vendor, "verb": "embed", "status": 200, "model": "all-minilm-l6-v2", "inputs": 1, "tokens": 3,
    }  # fmt: skip
    assert 0 <= logged["ms"] < 20_000


@pytest.mark.parametrize("vendor", VERBS)
def test_a_bug_shows_nothing_of_the_users(live: Start, lines: Lines, vendor: str) -> None:
    secret = "SECRET-TEXT"
    engine = FakeEngine()
    try:
        raise KeyError(secret)
    except KeyError as inner:
        engine.error = ValueError(f"{secret}\nforged=1")
        engine.error.__cause__ = inner
    path, body = VERBS[vendor]
    wire = live(engine=engine, keys=("KEY-1234",)).connect()
    key = "Api-Key: KEY-1234" if vendor == "pinecone" else "Authorization: Bearer KEY-1234"
    wire.send(request("POST", path, body.replace(b"three short words", secret.encode()), key))
    answer = wire.answer()
    assert answer.status == 500
    assert vendor_of(answer.body) == vendor
    eventually(lambda: len(lines.access) == 1)
    logged = "\n".join(form.format(line) for line in lines.records for form in (TextFormatter(), JsonFormatter()))
    for text in (secret, "forged", "KEY-1234"):
        assert text not in logged
        assert text.encode() not in answer.body
    exception = vars(lines.named("pinyon.bug")[0])["exception"]
    assert exception.startswith("ValueError at ")
    assert "testing.py:" in exception
    assert "KeyError at " in exception


@pytest.mark.parametrize("vendor", VERBS)
def test_nothing_of_a_users_in_any_line_or_metric(live: Start, lines: Lines, vendor: str) -> None:
    secret = "SECRET-TEXT"
    path, body = VERBS[vendor]
    server = live(keys=("KEY-1234",))
    wire = server.connect()
    key = "Api-Key: KEY-1234" if vendor == "pinecone" else "Authorization: Bearer KEY-1234"
    asked = [
        request("POST", path, body.replace(b"three short words", secret.encode()), key),
        request("POST", path, body.replace(b"all-minilm-l6-v2", secret.encode()), key),
        request("POST", path, body.replace(b"model", secret.encode()), key),
        request("POST", path, secret.encode(), key),
        request("POST", path, body, "Api-Key: " + secret, "Authorization: Bearer " + secret),
        request("POST", f"{path}/{secret}?{secret}={secret}", body, key, f"X-Request-Id: {secret}"),
        request("POST", f"/{secret}", body, key),
    ]
    for one in asked:
        wire.send(one)
        wire.answer()
    eventually(lambda: len(lines.access) == len(asked))
    logged = "\n".join(form.format(line) for line in lines.records for form in (TextFormatter(), JsonFormatter()))
    for text in (secret, "KEY-1234"):
        assert text not in logged
        assert text.encode() not in server.metrics.render()


@pytest.mark.parametrize("vendor", VERBS)
def test_a_client_that_goes_away_stops_the_work(live: Start, lines: Lines, vendor: str) -> None:
    engine = GatedEngine()
    server = live(engine=engine)
    wire = server.connect()
    wire.send(request("POST", *VERBS[vendor]))
    eventually(lambda: engine.entered == 1)
    wire.close()
    eventually(lambda: engine.cancelled == 1)
    eventually(lambda: len(lines.access) == 1)
    logged = vars(lines.access[0])
    assert (logged["dialect"], logged["status"], logged["tokens"]) == (vendor, 499, 0)
    assert (
        f'pinyon_requests_total{{dialect="{vendor}",status="499",verb="embed"}} 1.0' in server.metrics.render().decode()
    )
    assert "pinyon_requests_in_flight 0.0" in server.metrics.render().decode()
    assert not [line for line in lines.records if line.levelname in ("ERROR", "CRITICAL")]


def test_a_client_that_goes_away_stops_what_it_pipelined(live: Start, lines: Lines) -> None:
    engine = GatedEngine()
    server = live(engine=engine)
    wire = server.connect()
    wire.send(EMBED + EMBED)
    eventually(lambda: engine.entered == 1)
    wire.close()
    eventually(lambda: engine.cancelled == 1)
    eventually(lambda: not server.server.server_state.tasks)
    assert engine.entered == 1


def test_others_go_on_when_one_goes_away(live: Start) -> None:
    engine = GatedEngine()
    server = live(engine=engine)
    leaving, staying = server.connect(), server.connect()
    for wire in (leaving, staying):
        wire.send(EMBED)
    eventually(lambda: engine.entered == 2)
    leaving.close()
    eventually(lambda: engine.cancelled == 1)
    engine.open()
    assert staying.answer().status == 200


@pytest.mark.parametrize(("seconds", "header"), [(0.3, "1"), (2.1, "3")])
@pytest.mark.parametrize("vendor", VERBS)
def test_overloaded(live: Start, vendor: str, seconds: float, header: str) -> None:
    engine = FakeEngine()
    engine.error = Overloaded("Too much work is waiting for this model", retry_after=seconds)
    wire = live(engine=engine).connect()
    wire.send(request("POST", *VERBS[vendor]))
    answer = wire.answer()
    assert (answer.status, answer.headers["retry-after"]) == (429, header)
    assert vendor_of(answer.body) == vendor


def own_page(wire: Wire, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    wire.send(request(method, path))
    answer = wire.answer(to_head=method == "HEAD")
    return answer.status, answer.headers, answer.body


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_own_pages_need_no_key_and_take_no_other_method(live: Start, path: str) -> None:
    wire = live(keys=("right",)).connect()
    status, headers, body = own_page(wire, "GET", path)
    assert status == 200
    assert body
    if path == "/metrics":
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert own_page(wire, "HEAD", path)[::2] == (200, b"")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, headers, _ = own_page(wire, method, path)
        assert status == 405
        assert set(headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}
    assert own_page(wire, "GET", path + "/")[0] == 401  # no page of ours, so a key is asked for
