"""Who gets in: the ring of keys by itself, and each vendor's own header over the wire."""

from __future__ import annotations

import hmac

import pytest

from pinyon.errors import Unauthenticated
from pinyon.http.auth import KeyRing
from tests.http.conftest import Start
from tests.http.serving import EMBED_BODY, request


@pytest.mark.parametrize("key", ["first", "second", "a" * 1000])
def test_each_of_several_keys_opens(key: str) -> None:
    KeyRing(("first", "second", "a" * 1000)).check(key)


@pytest.mark.parametrize("key", [None, "", "firs", "first ", "First", "first\0", "firstsecond", "prémier", "\udcff"])
def test_no_other_key_opens(key: str | None) -> None:
    with pytest.raises(Unauthenticated):
        KeyRing(("first", "second")).check(key)


@pytest.mark.parametrize("key", [None, "", "anything", "\udcff"])
def test_with_no_key_configured_any_opens(key: str | None) -> None:
    KeyRing().check(key)


def test_a_key_that_is_not_ascii_opens_with_its_own_bytes_only() -> None:
    ring = KeyRing(("clé",))
    ring.check("clé")
    with pytest.raises(Unauthenticated):
        ring.check("cle\N{COMBINING ACUTE ACCENT}")


@pytest.mark.parametrize("key", ["first", "second", "third", "none of them"])
def test_a_key_is_compared_with_every_one_whichever_matches(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    compared: list[int] = []
    real = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(len(a))
        assert len(a) == len(b) == 32  # digests, so that not even a key's length shows
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    ring = KeyRing(("first", "second", "third", "third"))
    try:
        ring.check(key)
    except Unauthenticated:
        assert key == "none of them"
    assert len(compared) == 3


BODIES = {
    "/v1/embeddings": EMBED_BODY,
    "/openai/v1/embeddings": EMBED_BODY,
    "/perplexity/v1/embeddings": EMBED_BODY,
    "/api/v3/inference/embeddings": EMBED_BODY,
    "/embed": b'{"model": "all-minilm-l6-v2", "inputs": [{"text": "a text"}]}',
}


@pytest.mark.parametrize("path", BODIES)
def test_each_vendors_header(live: Start, path: str) -> None:
    wire = live(keys=("right", "other")).connect()

    def status(*headers: str) -> int:
        wire.send(request("POST", path, BODIES[path], *headers))
        return wire.answer().status

    name = "Api-Key: " if path == "/embed" else "Authorization: Bearer "
    assert status(name + "right") == 200
    assert status(name + "other") == 200
    assert status(name + "wrong") == 401
    assert status(name + "righ\N{LATIN SMALL LETTER T WITH CARON}") == 401
    assert status() == 401
    assert status(name) == 401
    foreign = "Authorization: Bearer " if path == "/embed" else "Api-Key: "
    assert status(foreign + "right") == 401


def test_header_bytes_that_are_no_text(live: Start) -> None:
    wire = live(keys=("right",)).connect()
    head = b"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer \xff\xfe\x80right\r\n\r\n"
    wire.send(head)
    assert wire.answer().status == 401
    wire.send(head.replace(b"\xff\xfe\x80", b""))
    assert wire.answer().status == 200
