"""What a client can do to a connection: heads, silence, garbage, pipelining, too many at once, never reading."""

from __future__ import annotations

import contextlib
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pinyon.dialects.base import json_response
from pinyon.http.connection import _Answer
from pinyon.http.room import ConnectionLimits
from tests.http.conftest import Lines, Start
from tests.http.serving import EMBED, GatedEngine, chunked, eventually, request


async def name(request: Request, body: bytes) -> Response:
    return json_response(b'"%s"' % body)


ECHO = {"/name": name}


def named(text: bytes) -> bytes:
    return request("POST", "/name", text)


# --- heads


def test_a_large_head_in_one_piece_and_in_many(live: Start) -> None:
    server = live(limits=ConnectionLimits(head_bytes=2000))
    right = request("GET", "/v1/models", b"", "X-Long: " + "x" * 1800)
    wrong = request("GET", "/v1/models", b"", "X-Long: " + "x" * 2100)
    for step in (len(wrong), 700, 100, 1):
        wire = server.connect()
        for start in range(0, len(right), step):
            wire.send(right[start : start + step])
        assert wire.answer().status == 200, step
        for start in range(0, len(wrong), step):
            wire.send_all_it_takes(wrong[start : start + step])
        answer = wire.answer()
        assert answer.status == 431, step
        assert answer.headers["connection"] == "close"
        assert wire.is_ended()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * (1 << 20),
        b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20),
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (1 << 18),
    ],
)
def test_a_head_without_end(live: Start, head: bytes) -> None:
    server = live()
    wire = server.connect()
    wire.send_all_it_takes(head)
    assert wire.answer().status == 431
    assert wire.is_ended()
    wire.close()
    eventually(lambda: server.connections == 0)


def test_a_head_is_measured_without_the_body_that_comes_with_it(live: Start) -> None:
    wire = live(handlers=ECHO, limits=ConnectionLimits(head_bytes=500)).connect()
    for _ in range(3):
        wire.send(named(b"x" * 300_000) + named(b"after"))
        assert len(wire.answer().body) == 300_002
        assert wire.answer().body == b'"after"'


@pytest.mark.parametrize(
    "head", [b"G", b"GET / HTTP/1.1\r\n", b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 4\r\n"]
)
def test_a_slow_head(live: Start, lines: Lines, head: bytes) -> None:
    server = live(limits=ConnectionLimits(head_seconds=0.3))
    for used in (False, True):
        wire = server.connect()
        if used:
            wire.send(EMBED)
            assert wire.answer().status == 200
        wire.send(head)
        answer = wire.answer()
        assert answer.status == 408
        assert wire.is_ended()
        refused = [record for record in lines.named("pinyon.server") if record.message == "refused"]
        assert vars(refused[-1])["request_id"] == answer.headers["x-request-id"]


def test_a_head_that_trickles_has_one_deadline(live: Start) -> None:
    server = live(limits=ConnectionLimits(head_seconds=0.3))
    wire = server.connect()
    wire.send(b"GET / HTTP/1.1\r\nX: ")
    wire.socket.settimeout(0.02)
    heard = b""

    def trickle() -> bool:
        nonlocal heard
        wire.send_all_it_takes(b"x")
        try:
            heard += wire.socket.recv(1000)
        except TimeoutError:
            return False
        return True

    eventually(trickle)
    assert heard.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_in_the_end(live: Start) -> None:
    server = live(limits=ConnectionLimits(idle_seconds=0.4))
    fresh, used = server.connect(), server.connect()
    used.send(EMBED)
    assert used.answer().status == 200
    assert fresh.is_ended()
    assert used.is_ended()
    eventually(lambda: server.connections == 0)


def test_a_request_takes_as_long_as_it_takes(live: Start) -> None:
    engine = GatedEngine()
    limits = ConnectionLimits(head_seconds=0.1, body_seconds=0.1, idle_seconds=0.1, reader_seconds=0.1)
    server = live(engine=engine, limits=limits)
    wire, idle = server.connect(), server.connect()
    wire.send(EMBED)
    assert idle.is_ended()  # so all of the limits have passed
    engine.open()
    assert wire.answer().status == 200


# --- garbage


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"CONNECT here:443 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"GET http://elsewhere HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage(live: Start, lines: Lines, garbage: bytes) -> None:
    server = live()
    wire = server.connect()
    wire.send(garbage)
    answer = wire.answer()
    assert 400 <= answer.status < 500
    assert answer.headers["x-request-id"]
    wire.close()
    eventually(lambda: server.connections == 0)
    other = server.connect()
    other.send(EMBED)
    assert other.answer().status == 200
    assert not [record for record in lines.records if record.levelname in ("ERROR", "CRITICAL")]


def test_garbage_after_a_request_lets_it_be_answered(live: Start) -> None:
    engine = GatedEngine()
    wire = live(engine=engine).connect()
    wire.send(EMBED + EMBED + b"\x00\x01 garbage\r\n\r\n")
    eventually(lambda: engine.entered == 1)
    engine.open()
    assert wire.answer().status == 200
    answer = wire.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert wire.is_ended()


def test_a_broken_body_ends_its_request(live: Start, lines: Lines) -> None:
    server = live(handlers=ECHO)
    wire = server.connect()
    wire.send(chunked("/name", b"fine"))
    wire.send(b"not a chunk\r\n")
    assert wire.answer().status == 400
    assert wire.is_ended()
    eventually(lambda: len(lines.access) == 1)
    assert vars(lines.access[0])["status"] == 499


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_is_not_taken_up(live: Start, protocol: str) -> None:
    # NOTE: the headers of Java's HttpClient, which sends them with the first request of each connection.
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
    wire = live(handlers=ECHO).connect()
    for step in (1000, 7):
        asked = request("POST", "/name", b"x" * 100, *offer) + request("GET", "/v1/models", b"", *offer) + EMBED
        for start in range(0, len(asked), step):
            wire.send(asked[start : start + step])
        assert wire.answer().body == b'"%s"' % (b"x" * 100)
        assert wire.answer().body.startswith(b'{"object":"list"')
        assert wire.answer().status == 200
    body = chunked("/name", b"some", b"more", b"").replace(b"\r\n", b"\r\n" + "\r\n".join(offer).encode() + b"\r\n", 1)
    wire.send(body)
    assert wire.answer().body == b'"somemore"'


# --- order


def test_pipelined_requests_are_answered_in_order(live: Start) -> None:
    wire = live(handlers=ECHO).connect()
    for start in range(0, 100, 20):
        names = [b"%d" % number for number in range(start, start + 20)]
        wire.send(b"".join(map(named, names)))
        assert [wire.answer().body for _ in names] == [b'"%s"' % text for text in names]


def test_pipelined_behind_a_slow_one(live: Start) -> None:
    engine = GatedEngine()
    wire = live(engine=engine, handlers=ECHO).connect()
    wire.send(EMBED + named(b"one") + named(b"two"))
    eventually(lambda: engine.entered == 1)
    engine.open()
    assert wire.answer().status == 200
    assert [wire.answer().body for _ in range(2)] == [b'"one"', b'"two"']


def test_pipelining_has_a_bound(live: Start) -> None:
    engine = GatedEngine()
    wire = live(engine=engine, handlers=ECHO, limits=ConnectionLimits(pipelined=3)).connect()
    wire.send(EMBED + b"".join(named(b"%d" % number) for number in range(200)))
    eventually(lambda: engine.entered == 1)
    engine.open()
    assert wire.answer().status == 200
    assert [wire.answer().body for _ in range(3)] == [b'"0"', b'"1"', b'"2"']
    assert wire.is_ended()


def test_connection_close_and_http_1_0(live: Start) -> None:
    server = live()
    wire = server.connect()
    wire.send(request("GET", "/v1/models", b"", "Connection: close"))
    assert wire.answer().headers["connection"] == "close"
    assert wire.is_ended()
    wire = server.connect()
    wire.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert wire.answer().status == 200
    assert wire.is_ended()


# --- going away


def test_half_closed_counts_as_gone(live: Start, lines: Lines) -> None:
    engine = GatedEngine()
    server = live(engine=engine)
    wire = server.connect()
    wire.send(EMBED)
    eventually(lambda: engine.entered == 1)
    wire.socket.shutdown(socket.SHUT_WR)
    eventually(lambda: engine.cancelled == 1)
    eventually(lambda: len(lines.access) == 1)
    assert vars(lines.access[0])["status"] == 499
    assert wire.is_ended()


def test_half_closed_in_the_middle_of_a_head_or_body(live: Start) -> None:
    server = live(handlers=ECHO)
    for part in (b"", b"GET / HT", request("POST", "/name", b"half", length=8)):
        wire = server.connect()
        wire.send(part)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_ended()
    eventually(lambda: server.connections == 0)


def test_a_client_that_never_reads_is_ended_and_holds_up_nobody(live: Start) -> None:
    async def large(request: Request, body: bytes) -> Response:
        return Response(bytes(64 << 20))

    server = live(handlers={"/large": large}, limits=ConnectionLimits(reader_seconds=0.4))
    deaf, other = server.connect(), server.connect()
    deaf.send(request("POST", "/large", length=0))
    for _ in range(20):
        other.send(EMBED)
        assert other.answer().status == 200
    eventually(lambda: server.connections == 1)
    got = 0
    with contextlib.suppress(ConnectionResetError):
        while part := deaf.socket.recv(1 << 20):
            got += len(part)
    assert got < 64 << 20


def test_a_client_that_reads_slowly_gets_everything(live: Start) -> None:
    async def large(request: Request, body: bytes) -> Response:
        return Response(bytes(32 << 20))

    server = live(handlers={"/large": large}, limits=ConnectionLimits(reader_seconds=5))
    wire = server.connect()
    wire.send(request("POST", "/large", length=0))
    assert len(wire.answer().body) == 32 << 20


# --- how many


def test_idle_connections_give_way_to_new_ones(live: Start) -> None:
    server = live(max_connections=3, limits=ConnectionLimits(spare_seconds=0))
    first, second, third = (server.connect() for _ in range(3))
    for wire in (second, third, first):  # second is then idle for longest
        wire.send(EMBED)
        assert wire.answer().status == 200
    fourth = server.connect()
    fourth.send(EMBED)
    assert fourth.answer().status == 200
    assert second.is_ended()
    for wire in (third, first, fourth):
        wire.send(EMBED)
        assert wire.answer().status == 200


def test_with_no_idle_connection_a_new_one_is_answered_503(live: Start, lines: Lines) -> None:
    engine = GatedEngine()
    server = live(engine=engine, max_connections=2, limits=ConnectionLimits(spare_seconds=0))
    busy = [server.connect(), server.connect()]
    for wire in busy:
        wire.send(EMBED)
    eventually(lambda: engine.entered == 2)
    refused = server.connect()
    answer = refused.answer()
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"
    assert refused.is_ended()
    engine.open()
    assert [wire.answer().status for wire in busy] == [200, 200]
    last = server.connect()
    last.send(EMBED)
    assert last.answer().status == 200
    logged = [vars(record) for record in lines.named("pinyon.server") if record.message == "refused"]
    assert [(line["status"], line["request_id"]) for line in logged] == [(503, answer.headers["x-request-id"])]


def test_a_connection_that_was_just_made_is_not_closed_for_the_next(live: Start) -> None:
    server = live(max_connections=2, limits=ConnectionLimits(spare_seconds=60))
    made = [server.connect(), server.connect()]
    eventually(lambda: server.connections == 2)
    assert server.connect().answer().status == 503
    for wire in made:
        wire.send(EMBED)
        assert wire.answer().status == 200


def test_resets_leave_nothing_behind(live: Start) -> None:
    server = live(engine=GatedEngine())
    for part in (b"", b"GET / HT", EMBED, request("POST", "/v1/embeddings", b"half", length=8)):
        wire = server.connect()
        wire.send(part)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
    eventually(lambda: server.connections == 0)
    eventually(lambda: not server.server.server_state.tasks)


# --- answers


class Written:
    """A transport that keeps what is written to it, and says what was done in which order."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def is_closing(self) -> bool:
        return False

    def linger(self) -> None:
        self.done.append("linger")


def answering(written: Written, *, started: bool) -> _Answer:
    connection: Any = SimpleNamespace(transport=written, linger=written.linger)
    cycle: Any = SimpleNamespace(response_started=started)
    return _Answer(connection, cycle)


def test_head_and_body_are_one_write_and_later_parts_one_each() -> None:
    written = Written()
    answer = answering(written, started=True)
    for part in (b"head", b"one", b"two"):
        answer.write(part)
    answer.flush()
    assert written.done == [b"headone", b"two"]


def test_a_head_without_a_body_is_written_at_the_end() -> None:
    written = Written()
    answer = answering(written, started=True)
    answer.write(b"head")
    assert written.done == []
    answer.close()
    assert written.done == [b"head", "linger"]


def test_what_comes_before_the_head_is_not_held() -> None:
    written = Written()
    answering(written, started=False).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert written.done == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_head_requests_are_answered(live: Start) -> None:
    server = live()
    wire = server.connect()
    for _ in range(2):
        wire.send(b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer(to_head=True).status == 200
