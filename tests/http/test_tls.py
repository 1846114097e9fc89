"""TLS on the port where plain text is spoken too, with certificates of `pinyon tls`."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from pinyon.cli import main
from pinyon.http import tls
from pinyon.http.room import ConnectionLimits
from tests.http.calling import Calling, Http2Wire, calling
from tests.http.conftest import Lines
from tests.http.serving import DEADLINE, EMBED, Wire, eventually

Start = Callable[..., Calling]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    done = CliRunner().invoke(main, ["tls", "--data-dir", str(made), "--name", "other.test"])
    assert done.exit_code == 0, done.output
    return made / "tls"


@pytest.fixture
def serve(tmp_path: Path, folder: Path) -> Iterator[Start]:
    context = tls.context(str(folder / "server.pem"), str(folder / "server.key"))
    with contextlib.ExitStack() as stack:
        yield lambda **more: stack.enter_context(calling(tmp_path, tls=context, **more))


def trusting(folder: Path, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def connect(server: Calling, context: ssl.SSLContext, name: str = "localhost") -> Wire:
    wire = server.live.connect()
    wire.socket = context.wrap_socket(wire.socket, server_hostname=name)
    return wire


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "other.test"])
def test_rest_and_calls_inside_tls_and_outside(serve: Start, folder: Path, name: str) -> None:
    server = serve()
    inside = connect(server, trusting(folder), name)
    calls = Http2Wire(connect(server, trusting(folder, "h2"), name), {})
    plain, plain_calls = server.live.connect(), server.client()
    for _ in range(2):
        for wire in (inside, plain):
            wire.send(EMBED)
            assert wire.answer().status == 200
        for client in (calls, plain_calls):
            assert client.call(message=b"x" * 200_000).message == b"x" * 200_000


def test_who_gets_http2(serve: Start, folder: Path) -> None:
    """Who knows nothing else: here it is for gRPC alone, and REST's clients often offer both."""
    server = serve()
    for offered, chosen in ((("h2",), "h2"), (("h2", "http/1.1"), "http/1.1"), (("http/1.1",), "http/1.1"), ((), None)):
        wire = connect(server, trusting(folder, *offered))
        assert isinstance(wire.socket, ssl.SSLSocket)
        assert wire.socket.selected_alpn_protocol() == chosen
    with httpx.Client(verify=trusting(folder), http2=True) as client:
        answer = client.get(f"https://localhost:{server.live.port}/health")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")


def test_grpcs_own_client(serve: Start, folder: Path) -> None:
    import grpc

    server = serve()
    trust = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{server.live.port}", trust) as channel:
        assert channel.unary_unary("/Toy/Echo")(b"x" * 1_000_000) == b"x" * 1_000_000


def test_a_client_that_does_not_trust_the_certificate_disturbs_nobody(serve: Start, folder: Path, lines: Lines) -> None:
    server = serve()
    good = connect(server, trusting(folder))
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server, ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server, trusting(folder), "elsewhere.test")
    good.send(EMBED)
    assert good.answer().status == 200
    eventually(lambda: server.live.connections == 1)
    assert not [record for record in lines.records if record.levelname == "ERROR"]


def hello(folder: Path) -> bytes:
    """The first message of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(folder).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_handshakes_that_are_garbage_slow_or_given_up(serve: Start, folder: Path, lines: Lines) -> None:
    server = serve(limits=ConnectionLimits(head_seconds=0.4))
    good = connect(server, trusting(folder))
    rng = random.Random(1)
    first = hello(folder)
    for data in (
        b"\x16",
        b"\x16\x03\x01",
        first[:50],
        first,
        b"\x16" + rng.randbytes(2000),
        first + rng.randbytes(500),
    ):
        wire = server.live.connect()
        wire.send_all_it_takes(data)
        with contextlib.suppress(ConnectionResetError):
            while wire.socket.recv(65536):
                pass
        gone = server.live.connect()
        gone.send(data)
        gone.close()
    good.send(EMBED)
    assert good.answer().status == 200
    eventually(lambda: server.live.connections == 1)
    assert not [record for record in lines.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_handshake_that_comes_in_pieces(serve: Start, folder: Path, step: int) -> None:
    server = serve()
    wire = server.live.connect()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(folder).wrap_bio(incoming, outgoing, server_hostname="localhost")

    def exchange() -> None:
        data = outgoing.read()
        for start in range(0, len(data), step):
            wire.send(data[start : start + step])

    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            exchange()
            incoming.write(wire.socket.recv(65536))
    # The request goes out together with the handshake's last message.
    client.write(EMBED)
    exchange()
    answer = b""
    while b"\r\n\r\n" not in answer:
        try:
            answer += client.read(65536)
        except ssl.SSLWantReadError:
            incoming.write(wire.socket.recv(65536))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_tls_is_garbage_where_there_is_no_certificate(tmp_path: Path, folder: Path) -> None:
    with calling(tmp_path) as server:
        wire = server.live.connect()
        wire.send(hello(folder))
        assert wire.answer().status == 400


def test_a_second_handshake_inside_the_first_is_garbage(serve: Start, folder: Path) -> None:
    wire = connect(serve(), trusting(folder))
    wire.send(hello(folder))
    assert wire.answer().status == 400


def test_stopping_ends_a_handshake(serve: Start, folder: Path) -> None:
    server = serve()
    wire = server.live.connect()
    wire.send(hello(folder)[:20])
    eventually(lambda: server.live.connections == 1)
    server.live.server.should_exit = True
    wire.socket.settimeout(DEADLINE)
    with contextlib.suppress(ConnectionResetError):
        assert wire.socket.recv(100) == b""
    eventually(lambda: server.live.connections == 0)


def test_the_handshake_counts_as_a_connection(serve: Start, folder: Path) -> None:
    server = serve(max_connections=1)
    wire = server.live.connect()
    wire.send(hello(folder))
    wire.socket.recv(100)
    with socket.create_connection(("127.0.0.1", server.live.port), DEADLINE) as other:
        assert other.recv(100).startswith(b"HTTP/1.1 503")
