"""What happens around a call: key, deadline, bounds on its message, errors, and what is logged and counted of it."""

from __future__ import annotations

import contextlib
import gzip
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinyon.http.grpc import MAX_REASON, PREFIX
from tests.http.calling import Calling, calling, framed
from tests.http.conftest import Lines
from tests.http.serving import eventually

Start = Callable[..., Calling]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        yield lambda **more: stack.enter_context(calling(tmp_path, **more))


def test_a_wrong_key_is_refused_before_the_message_is_sent(serve: Start) -> None:
    server = serve(keys=("right",))
    client = server.client()
    for headers in ((), (("api-key", "wrong"),)):
        id = client.begin("/Toy/Echo", *headers)
        client.send(id, framed(b"x" * 1000)[:500], end=False)
        outcome = client.outcome(id)
        assert (outcome.status, outcome.headers["grpc-message"][:16]) == (9, "Unauthenticated:")
        assert outcome.headers["x-toy-id"]
    assert client.call("/Toy/Echo", b"x", ("api-key", "right")).status == 0


def test_an_unknown_method(serve: Start) -> None:
    client = serve().client()
    assert client.call("/Toy/Nothing").headers["grpc-message"] == "Unsupported: There is no method '/Toy/Nothing'"
    assert client.call("*").status == client.call("/").status == 9


@pytest.mark.parametrize("timeout", ["1", "S", "1 S", "-1S", "123456789S", "1.5S", "1h", ""])
def test_a_deadline_that_is_none(serve: Start, timeout: str) -> None:
    outcome = serve().client().call("/Toy/Echo", b"x", ("grpc-timeout", timeout))
    assert outcome.headers["grpc-message"].startswith("InvalidRequest: must be digits")


@pytest.mark.parametrize("timeout", ["99999999H", "1M", "20S", "20000m", "20000000u", "99999999n"])
def test_a_deadline_that_is_kept(serve: Start, timeout: str) -> None:
    assert serve().client().call("/Toy/Echo", b"x", ("grpc-timeout", timeout)).status == 0


@pytest.mark.parametrize("timeout", ["200m", "0S", "1n"])
def test_a_deadline_cancels_the_work(serve: Start, lines: Lines, timeout: str) -> None:
    server = serve()
    client = server.client()
    outcome = client.call("/Toy/Gate", b"x", ("grpc-timeout", timeout))
    assert (outcome.status, outcome.headers["grpc-message"]) == (4, "Deadline exceeded")
    eventually(lambda: server.gate.cancelled == server.gate.entered)
    assert server.gate.entered == (timeout == "200m")
    assert server.budget.free == 1 << 24
    assert [vars(record)["status"] for record in lines.access] == [504]
    assert client.call().status == 0


def test_a_deadline_counts_from_the_headers(serve: Start) -> None:
    client = serve().client()
    id = client.begin("/Toy/Echo", ("grpc-timeout", "100m"))
    assert client.outcome(id).status == 4


def test_a_client_that_takes_a_call_back_cancels_the_work(serve: Start, lines: Lines) -> None:
    server = serve()
    client = server.client()
    id = client.start("/Toy/Gate")
    eventually(lambda: server.gate.entered == 1)
    client.h2.reset_stream(id, 8)
    client.flush()
    eventually(lambda: server.gate.cancelled == 1)
    eventually(lambda: [vars(record)["status"] for record in lines.access] == [499])
    assert client.call().status == 0


# --- messages


def test_a_message_of_the_largest_size_and_a_byte_more(serve: Start) -> None:
    server = serve(max_message=100_000, held=100_000 + PREFIX)
    client = server.client()
    assert len(client.call("/Toy/Echo", b"x" * 100_000).message) == 100_000
    id = client.begin()
    client.send(id, framed(b"x" * 100_001)[:PREFIX], end=False)
    assert client.outcome(id).headers["grpc-message"].startswith("PayloadTooLarge")
    assert server.budget.free == 100_000 + PREFIX


def test_messages_that_are_too_many_bytes_together(serve: Start) -> None:
    server = serve(max_message=10_000, held=15_000)
    client = server.client()
    held = client.start("/Toy/Gate", b"x" * 8_000)
    eventually(lambda: server.gate.entered == 1)
    refused = client.call("/Toy/Echo", b"x" * 8_000)
    assert refused.headers["grpc-message"].startswith("Overloaded")
    server.gate.open()
    assert client.outcome(held).status == 0
    assert client.call("/Toy/Echo", b"x" * 8_000).status == 0
    assert server.budget.free == 15_000


@pytest.mark.parametrize("data", [b"", b"\0\0", framed(b"hello")[:-1], framed(b"hello") + b"\0", framed(b"") * 2])
def test_what_is_not_one_message(serve: Start, data: bytes) -> None:
    client = serve().client()
    id = client.begin()
    client.send(id, data)
    assert client.outcome(id).status == 9
    assert client.call().status == 0


def test_a_message_in_pieces_of_one_byte(serve: Start) -> None:
    client = serve().client()
    id = client.begin()
    data = framed(b"hello")
    for position in range(len(data)):
        client.send(id, data[position : position + 1], end=position == len(data) - 1)
    assert client.outcome(id).message == b"hello"


def test_a_compressed_message(serve: Start) -> None:
    client = serve().client()
    packed = gzip.compress(b"hello")
    for headers in ((), (("grpc-encoding", "gzip"),)):
        id = client.begin("/Toy/Echo", *headers)
        client.send(id, b"\1" + framed(packed)[1:])
        outcome = client.outcome(id)
        assert "must not be compressed" in outcome.headers["grpc-message"]
        assert outcome.headers["grpc-accept-encoding"] == "identity"
    offered = (("grpc-encoding", "identity"), ("grpc-accept-encoding", "identity, gzip"))
    assert client.call("/Toy/Echo", b"x" * 1000, *offered).message == b"x" * 1000


# --- errors


def test_an_errors_text_comes_whole(serve: Start) -> None:
    outcome = serve().client().call("/Toy/Wrong")
    text = outcome.headers["grpc-message"]
    assert text.isascii() and "\n" not in text
    assert urllib.parse.unquote(text) == 'InvalidRequest: 100% "wrong":\nä'
    assert outcome.headers["x-more"] == "1"


def test_an_errors_text_is_not_longer_than_headers_may_be(serve: Start) -> None:
    outcome = serve().client().call("/" + "ä" * 9000)
    assert len(urllib.parse.unquote(outcome.headers["grpc-message"])) <= MAX_REASON


def test_a_bug_tells_nothing_of_itself(serve: Start, lines: Lines) -> None:
    outcome = serve().client().call("/Toy/Bug", b"my text")
    assert outcome.headers["grpc-message"] == "PinyonError: Internal server error"
    [line] = [vars(record) for record in lines.named("pinyon.bug")]
    assert "ValueError" in line["exception"] and line["request_id"] == outcome.headers["x-request-id"]
    assert "my text" not in str(line) and "secret" not in line["exception"]


def test_what_is_counted(serve: Start) -> None:
    server = serve()
    client = server.client()
    client.call()
    client.call("/Toy/Wrong")
    numbers = server.live.metrics.render().decode()
    assert 'pinyon_requests_total{dialect="toy",status="200",verb="echo"} 1.0' in numbers
    assert 'pinyon_requests_total{dialect="toy",status="418",verb="wrong"} 1.0' in numbers
    assert "pinyon_requests_in_flight 0.0" in numbers


# --- another client


def test_grpcs_own_client(serve: Start) -> None:
    """With its deadline, its metadata, and its reading of an error."""
    import grpc

    server = serve(keys=("right",))
    with grpc.insecure_channel(f"127.0.0.1:{server.live.port}") as channel:
        key: Any = (("api-key", "right"),)
        echo = channel.unary_unary("/Toy/Echo")
        for size in (0, 10, 3_000_000):
            assert echo(b"x" * size, metadata=key) == b"x" * size
        _, call = echo.with_call(b"abc", metadata=key)
        assert ("x-size", "3") in call.initial_metadata()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/Toy/Gate")(b"", metadata=key, timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: server.gate.cancelled == 1)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/Toy/Wrong")(b"", metadata=key)
        assert caught.value.details() == 'InvalidRequest: 100% "wrong":\nä'
        with pytest.raises(grpc.RpcError) as caught:
            echo(b"x" * 5_000_000)
        assert caught.value.details().startswith("Unauthenticated")
        futures = [channel.unary_unary("/Toy/Echo").future(b"%d" % n, metadata=key) for n in range(300)]
        assert [future.result() for future in futures] == [b"%d" % n for n in range(300)]
