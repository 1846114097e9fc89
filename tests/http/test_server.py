"""Addresses, and what the server asks of the system."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket

import pytest

from pinyon.http import server
from pinyon.http.server import is_loopback, listen, url_of
from tests.http.conftest import Lines


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", "localhost.example.org", "", "[::]"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_listen_and_url() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port)


def test_listen_on_ipv6() -> None:
    try:
        listener = listen("[::1]", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_listen_elsewhere_leaves_no_socket_open() -> None:
    with pytest.raises(OSError, match=r".+"):
        listen("192.0.2.1", 0)  # TEST-NET-1: no machine has it
    with pytest.raises(socket.gaierror):
        listen("no such host", 0)


def test_the_number_of_open_files(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits))
    for limits in ((1024, 5000), (5000, 5000), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, limits=limits: limits)
        server._allow_files(4000)
    assert asked == [(4000, 5000)]
    assert not lines.named("pinyon.server")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 2000))
    server._allow_files(4000)
    assert asked[1:] == [(2000, 2000)]
    assert vars(lines.named("pinyon.server")[0])["allowed"] == 2000


def test_a_stray_error_is_logged_without_what_it_was_given(lines: Lines) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(server._log_stray_error)
        done = loop.create_future()

        def fail(text: str) -> None:
            loop.call_soon(done.set_result, None)
            raise ValueError(text)

        loop.call_soon(fail, "secret")
        await done

    asyncio.run(main())
    made = lines.named("pinyon.server")[0]
    assert made.levelno == logging.ERROR
    assert made.getMessage() == "an error outside any request"
