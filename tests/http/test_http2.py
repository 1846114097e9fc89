"""HTTP/2 on the port of HTTP/1.1: what is spoken, what a client can do to a connection, and that it disturbs nobody."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from pinyon.http.first_bytes import Speaks, spoken
from pinyon.http.frames import MAX_FRAME, PREFACE, ErrorCode
from pinyon.http.http2 import CONTROLS, RESETS, STREAM_WINDOW, STREAMS
from pinyon.http.room import ConnectionLimits
from tests.http.calling import Calling, Http2Wire, calling, framed
from tests.http.conftest import Lines
from tests.http.serving import EMBED, Wire, eventually, request

Start = Callable[..., Calling]
HELLO = PREFACE + SettingsFrame().serialize()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        yield lambda **more: stack.enter_context(calling(tmp_path, **more))


def test_what_the_first_bytes_say() -> None:
    for first in (b"\x16", b"\x16\x03\x01\x02"):
        assert spoken(first) is Speaks.TLS
    for first in (PREFACE, PREFACE[:4], b"PRI x"):
        assert spoken(first) is Speaks.HTTP2
    for first in (b"P", b"PR", b"PRI"):
        assert spoken(first) is None
    for first in (b"GET / HTTP/1.1", b"PO", b"PROPFIND /", b"PRIx", b"\0", b"pri * "):
        assert spoken(first) is Speaks.HTTP1


def test_both_are_spoken_on_one_port_by_clients_side_by_side(serve: Start) -> None:
    server = serve()
    old, new = server.live.connect(), server.client()
    for turn in range(3):
        old.send(EMBED)
        assert new.call(message=b"%d" % turn).message == b"%d" % turn
        assert old.answer().status == 200


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_first_bytes_that_come_one_by_one(serve: Start, step: int) -> None:
    server = serve()
    client = server.live.connect()
    for start in range(0, len(HELLO), step):
        client.send(HELLO[start : start + step])
    assert client.socket.recv(9)[3] == SettingsFrame.type
    wire = server.live.connect()
    post = request("POST", "/v1/embeddings", b'{"model": "all-minilm-l6-v2", "input": "a"}')
    for start in range(0, len(post), step):
        wire.send(post[start : start + step])
    assert wire.answer().status == 200


def test_a_call(serve: Start, lines: Lines) -> None:
    client = serve().client()
    outcome = client.call("/Toy/Echo", b"x" * 100)
    assert (outcome.message, outcome.status, outcome.reset) == (b"x" * 100, 0, None)
    assert outcome.headers[":status"] == "200"
    assert outcome.headers["content-type"] == "application/grpc"
    assert outcome.headers["x-size"] == "100"
    assert "grpc-encoding" not in outcome.headers
    [line] = [vars(record) for record in lines.access]
    assert outcome.headers["x-request-id"] == outcome.headers["x-toy-id"] == line["request_id"]
    assert (line["dialect"], line["verb"], line["status"], line["transport"]) == ("toy", "echo", 200, "grpc")


def test_many_calls_at_once_on_one_connection(serve: Start) -> None:
    server = serve()
    client = server.client()
    waiting = [client.start("/Toy/Gate", b"%d" % n) for n in range(50)]
    assert client.call().status == 0
    eventually(lambda: server.gate.entered == 50)
    server.gate.open()
    assert [client.outcome(id).message for id in waiting] == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize("size", [0, 1, 16_000, 70_000, STREAM_WINDOW - 100])
@pytest.mark.parametrize("window", [1, 65_535, 1 << 20])
def test_messages_of_all_sizes_within_the_windows(serve: Start, size: int, window: int) -> None:
    if window == 1 and size > 1:
        size = 300
    client = serve().client(window=window)
    outcome = client.call(message=b"y" * size)
    assert (outcome.message, outcome.status) == (b"y" * size, 0)


def test_a_message_past_the_window_goes_on_when_there_is_room(serve: Start) -> None:
    client = serve(max_message=3 * STREAM_WINDOW, held=4 * STREAM_WINDOW).client()
    for _ in range(2):
        assert len(client.call(message=b"z" * (2 * STREAM_WINDOW)).message) == 2 * STREAM_WINDOW


def test_what_is_not_grpc_is_told_so(serve: Start) -> None:
    client = serve().client()
    for instead in (
        {":method": "GET"},
        {"content-type": "application/json"},
        {"content-type": "application/grpc+json"},
    ):
        id = client.begin("/health", **instead)
        client.send(id, b"")
        outcome = client.outcome(id)
        assert outcome.headers[":status"] == "415"
        assert b"gRPC" in outcome.body
    assert client.call().status == 0


# --- windows, and clients that do not read


def test_a_window_that_is_made_smaller_below_zero(serve: Start) -> None:
    server = serve()
    client = server.client(window=1000)
    id = client.start("/Toy/Large", b"5000")
    while len(client.outcomes[id].body) < 1000:
        data = client.wire.socket.recv(65536)
        for event in client.h2.receive_data(data):
            client._take(event)
    from h2.settings import SettingCodes

    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    client.flush()
    assert len(client.outcome(id).message) == 5000


def test_a_client_that_reads_nothing_of_a_large_answer_is_cut_off(serve: Start) -> None:
    server = serve(limits=ConnectionLimits(reader_seconds=0.3))
    good = server.client()
    wire = server.live.connect()
    client = Http2Wire(wire, {"window": 2**31 - 1})
    client.h2.increment_flow_control_window(2**31 - 1 - 65535)
    client.flush()
    client.start("/Toy/Large", b"30000000")
    stuck = server.client(window=0)
    stuck.start("/Toy/Large", b"3000")
    eventually(lambda: server.live.connections == 3)
    eventually(lambda: server.live.connections == 1)
    assert good.call().status == 0


# --- broken protocol


def bare(server: Calling, *frames: bytes) -> Http2Wire:
    """A client that has sent what h2 would not."""
    client = server.client()
    client.wire.send(b"".join(frames))
    return client


def head(id: int = 1, flags: tuple[str, ...] = ("END_HEADERS",), data: bytes = b"\x83\x86\x84\x00\x01a\x01b") -> bytes:
    return HeadersFrame(id, data, flags=flags).serialize()


BROKEN = {
    "data before headers": (ErrorCode.PROTOCOL_ERROR, DataFrame(1, b"x").serialize()),
    "an even stream": (ErrorCode.PROTOCOL_ERROR, head(2)),
    "a push": (ErrorCode.PROTOCOL_ERROR, PushPromiseFrame(1, 2, b"\x83", flags=("END_HEADERS",)).serialize()),
    "a continuation of nothing": (ErrorCode.PROTOCOL_ERROR, ContinuationFrame(1, b"\x83").serialize()),
    "a ping among headers": (ErrorCode.PROTOCOL_ERROR, head(flags=()) + PingFrame(opaque_data=b"12345678").serialize()),
    "another stream among headers": (ErrorCode.PROTOCOL_ERROR, head(flags=()) + ContinuationFrame(3, b"").serialize()),
    "headers that are not packed": (ErrorCode.COMPRESSION_ERROR, head(data=b"\xff\xff\xff\xff\xff\xff")),
    "headers without end": (
        ErrorCode.ENHANCE_YOUR_CALM,
        head(flags=())
        + b"".join(ContinuationFrame(1, b"\0\x01a\x7f\x00" + b"b" * 127).serialize() for _ in range(600)),
    ),
    "headers that grow": (
        ErrorCode.COMPRESSION_ERROR,
        head(data=b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 20_000),
    ),
    "a frame that is too long": (ErrorCode.FRAME_SIZE_ERROR, (MAX_FRAME + 1).to_bytes(3, "big") + b"\0\0\0\0\0\x01"),
    "a ping of 7 bytes": (ErrorCode.PROTOCOL_ERROR, b"\0\0\x07\x06\0\0\0\0\0" + b"1234567"),
    "padding longer than its frame": (ErrorCode.PROTOCOL_ERROR, b"\0\0\x02\0\x08\0\0\0\x01\x05x"),
    "a window of a stream that is not open": (ErrorCode.PROTOCOL_ERROR, WindowUpdateFrame(7, 5).serialize()),
    "a window that is too large": (
        ErrorCode.FLOW_CONTROL_ERROR,
        WindowUpdateFrame(0, 2**31 - 1).serialize(),
    ),
    "an initial window that is too large": (
        ErrorCode.FLOW_CONTROL_ERROR,
        SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2**31}).serialize(),
    ),
    "a frame size that is too small": (
        ErrorCode.PROTOCOL_ERROR,
        SettingsFrame(settings={SettingsFrame.MAX_FRAME_SIZE: 100}).serialize(),
    ),
    "a reset of a stream that is not open": (ErrorCode.PROTOCOL_ERROR, RstStreamFrame(9).serialize()),
    "pings without end": (
        ErrorCode.ENHANCE_YOUR_CALM,
        PingFrame(opaque_data=b"12345678").serialize() * (CONTROLS * 3),
    ),
    "settings without end": (ErrorCode.ENHANCE_YOUR_CALM, SettingsFrame().serialize() * (CONTROLS * 3)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_protocol_ends_its_connection_alone(serve: Start, name: str) -> None:
    code, frames = BROKEN[name]
    server = serve()
    good = server.client()
    assert bare(server, frames).until_farewell() == code
    eventually(lambda: server.live.connections == 1)
    assert good.call().status == 0


def test_streams_that_are_taken_back_at_once(serve: Start) -> None:
    """The "rapid reset" of CVE-2023-44487: work is begun and given up, again and again."""
    server = serve()
    good = server.client()
    client = server.client()
    with contextlib.suppress(ConnectionError):
        for _ in range(RESETS + 20):
            client.h2.reset_stream(client.begin("/Toy/Gate"))
    assert client.until_farewell() == ErrorCode.ENHANCE_YOUR_CALM
    assert good.call().status == 0


def test_more_streams_than_are_taken(serve: Start) -> None:
    server = serve()
    client = server.client()
    client.h2.remote_settings.max_concurrent_streams = 10_000  # which it was not told
    waiting = [client.start("/Toy/Gate", b"") for _ in range(STREAMS)]
    refused = client.outcome(client.start("/Toy/Gate", b""))
    assert refused.reset == ErrorCode.REFUSED_STREAM
    eventually(lambda: server.gate.entered == STREAMS)
    server.gate.open()
    assert {client.outcome(id).status for id in waiting} == {0}


def test_data_past_the_window(serve: Start) -> None:
    server = serve(max_message=1 << 26, held=1 << 27)
    client = server.client()
    id = client.begin()
    client.read()
    # Told nothing of the server's window, and sending on: more than half of it is taken, and then given room again.
    part = DataFrame(id, b"\0" * 60_000).serialize()
    with contextlib.suppress(ConnectionError):
        client.wire.send(DataFrame(id, framed(b"x" * (1 << 25))[:5]).serialize() + part * 100)
    assert client.outcomes[id].reset is None


@pytest.mark.parametrize("seed", range(8))
def test_garbage(serve: Start, seed: int) -> None:
    """Of every kind: before the preface, in place of settings, and behind a good beginning."""
    rng = random.Random(seed)
    server = serve(limits=ConnectionLimits(head_seconds=0.5, body_seconds=0.5, idle_seconds=0.5))
    for beginning in (b"", PREFACE[: rng.randrange(1, 24)], PREFACE, HELLO, HELLO + head()):
        wire = server.live.connect()
        wire.send_all_it_takes(beginning + rng.randbytes(rng.randrange(1, 3000)))
    good = server.client()
    assert good.call().status == 0
    eventually(lambda: server.live.connections <= 1)


# --- slow, half-open and departing


def until_end(wire: Wire) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := wire.socket.recv(65536):
            data += part
    return data


@pytest.mark.parametrize("first", [b"P", b"PRI", PREFACE[:10], PREFACE, HELLO[:-2]])
def test_slow_first_bytes(serve: Start, first: bytes) -> None:
    server = serve(limits=ConnectionLimits(head_seconds=0.3))
    wire = server.live.connect()
    wire.send(first)
    # Not known yet, it is answered as HTTP/1.1 is.
    assert (b"408" if len(first) < 4 else GoAwayFrame().serialize()) in until_end(wire)
    wire.close()
    eventually(lambda: server.live.connections == 0)


def test_first_bytes_that_trickle_have_one_deadline(serve: Start) -> None:
    server = serve(limits=ConnectionLimits(head_seconds=0.4))
    wire = server.live.connect()
    wire.send(PREFACE[:4])
    wire.socket.settimeout(0.01)
    trickle = iter(PREFACE[4:] + b"\0\xff\0\4\0\0\0\0\0" + b"\0" * 60_000)

    def is_over() -> bool:
        wire.send_all_it_takes(bytes([next(trickle)]))
        try:
            return wire.socket.recv(65536) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    eventually(is_over)


def test_an_idle_connection_and_half_a_frame_are_closed(serve: Start) -> None:
    server = serve(limits=ConnectionLimits(idle_seconds=0.3))
    client = server.client()
    assert client.call().status == 0
    half = server.client()
    half.wire.send(head()[:7])
    assert client.until_farewell() == half.until_farewell() == ErrorCode.NO_ERROR
    eventually(lambda: server.live.connections == 0)


def test_a_slow_message_is_answered(serve: Start) -> None:
    server = serve(limits=ConnectionLimits(body_seconds=0.3))
    client = server.client()
    id = client.begin()
    client.send(id, framed(b"hello")[:7], end=False)
    outcome = client.outcome(id)
    assert (outcome.status, outcome.headers["grpc-message"]) == (4, "Request Timeout")
    assert server.budget.free == 1 << 24
    assert client.call().status == 0


def test_a_client_that_goes_away_cancels_its_calls(serve: Start, lines: Lines) -> None:
    server = serve()
    client = server.client()
    for _ in range(3):
        client.start("/Toy/Gate")
    eventually(lambda: server.gate.entered == 3)
    client.wire.close()
    eventually(lambda: server.gate.cancelled == 3)
    eventually(lambda: [vars(record)["status"] for record in lines.access] == [499] * 3)
    assert server.budget.free == 1 << 24


def test_a_client_that_says_farewell_is_answered_first(serve: Start) -> None:
    server = serve()
    client = server.client()
    id = client.start("/Toy/Gate", b"late")
    eventually(lambda: server.gate.entered == 1)
    client.wire.send(GoAwayFrame().serialize())
    server.gate.open()
    assert client.outcome(id).message == b"late"
    assert client.until_farewell() == ErrorCode.NO_ERROR


def test_a_full_server_spares_the_connection_that_is_idle_for_longest(serve: Start) -> None:
    server = serve(max_connections=2, limits=ConnectionLimits(spare_seconds=0.0))
    first, second = server.client(), server.client()
    assert first.call().status == second.call().status == 0
    second.start("/Toy/Gate")
    eventually(lambda: server.gate.entered == 1)
    third = server.client()
    assert first.until_farewell() == ErrorCode.NO_ERROR
    assert third.call().status == 0
    third.start("/Toy/Gate")
    eventually(lambda: server.gate.entered == 2)
    wire = server.live.connect()
    assert wire.answer().status == 503
    server.gate.open()


def test_stopping_finishes_the_calls_in_flight_and_takes_no_new_ones(serve: Start) -> None:
    server = serve()
    client = server.client()
    idle = server.client()
    assert idle.call().status == 0
    id = client.start("/Toy/Gate", b"last")
    eventually(lambda: server.gate.entered == 1)
    server.live.server.should_exit = True
    assert idle.until_farewell() == ErrorCode.NO_ERROR
    late = HeadersFrame(99, b"\x83\x86\x84", flags=("END_HEADERS",)).serialize()
    client.wire.send(late)
    server.gate.open()
    data = until_end(client.wire)
    assert RstStreamFrame(99, ErrorCode.REFUSED_STREAM).serialize() in data
    assert framed(b"last") in data
    assert id == 1
