"""A request's body: its limit, its end, and what a client that is still sending gets to read."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.base import json_response
from pinyon.http.room import ConnectionLimits
from tests.http.conftest import Lines, Start
from tests.http.serving import EMBED, EMBED_BODY, Answer, chunked, eventually, request

LIMIT = 4096


async def size(request: Request, body: bytes) -> Response:
    return json_response(b"%d" % len(body))


ECHO = {"/size": size}


def is_refusal(answer: Answer, param: str = "") -> bool:
    return answer.status == 413 and str(LIMIT).encode() in answer.body and answer.headers["x-request-id"] != ""


@pytest.mark.parametrize("length", [0, 1, LIMIT - 1, LIMIT])
def test_up_to_the_limit(live: Start, length: int) -> None:
    wire = live(handlers=ECHO, max_body_bytes=LIMIT).connect()
    wire.send(request("POST", "/size", b"x" * length, length=length))
    assert wire.answer().body == b"%d" % length
    parts = [b"y" * 100] * (length // 100) + ([b"y" * (length % 100)] if length % 100 else [])
    wire.send(chunked("/size", *parts, b""))
    assert wire.answer().body == b"%d" % length


@pytest.mark.parametrize("length", [LIMIT + 1, 10 * LIMIT, 200 * LIMIT])
def test_past_the_limit_the_connection_goes_on(live: Start, length: int) -> None:
    server = live(handlers=ECHO, max_body_bytes=LIMIT)
    wire = server.connect()
    wire.send(request("POST", "/size", b"x" * length) + EMBED)
    assert is_refusal(wire.answer())
    assert wire.answer().status == 200
    wire.send(chunked("/size", b"x" * length, b"") + EMBED)
    assert is_refusal(wire.answer())
    assert wire.answer().status == 200


def test_the_answer_comes_before_the_body_has(live: Start) -> None:
    wire = live(handlers=ECHO, max_body_bytes=LIMIT).connect()
    wire.send(request("POST", "/size", length=10**15))
    assert is_refusal(wire.answer())
    wire = live(handlers=ECHO, max_body_bytes=LIMIT).connect()
    wire.send(chunked("/size", b"x" * (LIMIT + 1)))
    assert is_refusal(wire.answer())


@pytest.mark.parametrize("closing", ["Connection: close", "Connection: keep-alive"])
def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(live: Start, closing: str) -> None:
    wire = live(handlers=ECHO, max_body_bytes=LIMIT).connect()
    wire.send(request("POST", "/size", b"x" * (20 << 20), closing))
    assert is_refusal(wire.answer())
    if closing == "Connection: close":
        assert wire.is_ended()


def test_a_wrong_key_with_a_large_body(live: Start) -> None:
    wire = live(handlers=ECHO, keys=("right",), max_body_bytes=64 << 20).connect()
    wire.send(request("POST", "/size", b"x" * (8 << 20), "Authorization: Bearer wrong"))
    assert wire.answer().status == 401
    wire.send(request("POST", "/size", b"x" * (8 << 20), "Authorization: Bearer right"))
    assert wire.answer().body == b"%d" % (8 << 20)


def test_what_is_read_after_a_refusal_has_a_bound(live: Start) -> None:
    server = live(handlers=ECHO, max_body_bytes=LIMIT, limits=ConnectionLimits(drain_bytes=1 << 20))
    wire = server.connect()
    wire.send_all_it_takes(request("POST", "/size", b"x" * (30 << 20)))
    eventually(lambda: server.connections == 0)


def test_what_trickles_after_a_refusal_has_an_end(live: Start) -> None:
    server = live(handlers=ECHO, max_body_bytes=LIMIT, limits=ConnectionLimits(body_seconds=0.3))
    wire = server.connect()
    wire.send(request("POST", "/size", length=10**6))
    assert is_refusal(wire.answer())
    until = threading.Event()

    def trickle() -> bool:
        wire.send_all_it_takes(b"x")
        until.wait(0.02)
        return server.connections == 0

    eventually(trickle)


def test_a_body_that_stops_arriving(live: Start, lines: Lines) -> None:
    server = live(handlers=ECHO, limits=ConnectionLimits(body_seconds=0.3))
    wire = server.connect()
    wire.send(request("POST", "/size", b"half", length=8))
    answer = wire.answer()
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert wire.is_ended()
    eventually(lambda: len(lines.access) == 1)
    assert vars(lines.access[0])["status"] == 408
    assert vars(lines.access[0])["request_id"] == answer.headers["x-request-id"]


def test_a_body_that_keeps_arriving_may_take_its_time(live: Start) -> None:
    wire = live(handlers=ECHO, limits=ConnectionLimits(body_seconds=0.5)).connect()
    wire.send(request("POST", "/size", length=20))
    pause = threading.Event()
    for _ in range(20):  # a second altogether
        pause.wait(0.05)
        wire.send(b"x")
    assert wire.answer().body == b"20"


def test_a_stalled_chunked_body(live: Start) -> None:
    wire = live(handlers=ECHO, limits=ConnectionLimits(body_seconds=0.3)).connect()
    wire.send(chunked("/size", b"some", b"more"))
    assert wire.answer().status == 408
    assert wire.is_ended()


def test_junk_between_chunks_has_a_bound(live: Start) -> None:
    server = live(handlers=ECHO, limits=ConnectionLimits(head_bytes=1024))
    wire = server.connect()
    wire.send_all_it_takes(chunked("/size", b"some") + b"4;" + b"x" * (4 << 20))
    assert wire.answer().status == 400
    assert wire.is_ended()
    trailers = b"0\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 100) for n in range(40_000))
    wire = server.connect()
    wire.send_all_it_takes(chunked("/size", b"some") + trailers)
    assert wire.answer().status == 400
    assert wire.is_ended()


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip", "zstd"])
def test_a_compressed_body_is_refused(live: Start, encoding: str) -> None:
    wire = live().connect()
    wire.send(request("POST", "/v1/embeddings", gzip.compress(EMBED_BODY), f"Content-Encoding: {encoding}") + EMBED)
    answer = wire.answer()
    assert answer.status == 400
    assert b"compressed" in answer.body
    assert wire.answer().status == 200


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_an_identity_encoding_is_none(live: Start, encoding: str) -> None:
    wire = live().connect()
    wire.send(request("POST", "/v1/embeddings", EMBED_BODY, f"Content-Encoding: {encoding}"))
    assert wire.answer().status == 200


def test_expect_100_continue(live: Start) -> None:
    wire = live(handlers=ECHO, max_body_bytes=LIMIT).connect()
    wire.send(request("POST", "/size", b"", "Expect: 100-continue", length=4))
    interim = wire.socket.recv(25)
    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"body")
    assert wire.answer().body == b"4"


def test_expect_100_continue_of_a_body_past_the_limit(live: Start) -> None:
    wire = live(handlers=ECHO, max_body_bytes=LIMIT).connect()
    wire.send(request("POST", "/size", b"", "Expect: 100-continue", length=LIMIT + 1))
    assert is_refusal(wire.answer())  # and no 100 before it


def test_bodies_that_are_too_much_together_are_refused_and_room_is_given_back(live: Start) -> None:
    entered, opened = threading.Event(), threading.Event()

    async def hold(request: Request, body: bytes) -> Response:
        entered.set()
        while not opened.is_set():
            await asyncio.sleep(0)
        return json_response(b"%d" % len(body))

    server = live(handlers={"/hold": hold, **ECHO}, max_body_bytes=LIMIT, max_held_bytes=LIMIT)
    first, second = server.connect(), server.connect()
    first.send(request("POST", "/hold", b"x" * (LIMIT - 10)))
    assert entered.wait(30)
    second.send(request("POST", "/size", b"x" * 11))
    refused = second.answer()
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    second.send(request("POST", "/size", b"x" * 10))
    assert second.answer().body == b"10"
    opened.set()
    assert first.answer().body == b"%d" % (LIMIT - 10)
    second.send(request("POST", "/size", b"x" * LIMIT))
    assert second.answer().body == b"%d" % LIMIT
