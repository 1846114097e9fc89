"""One line a record, in both forms, whatever the values are."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pinyon.http.logging import JsonFormatter, TextFormatter, configure, where_raised


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("secret")


def record(message: object = "request", *args: object, exc: BaseException | None = None, **extra: object) -> Any:
    info = (type(exc), exc, exc.__traceback__) if exc is not None else None
    made = logging.getLogger("pinyon.test").makeRecord(
        "pinyon.test", logging.WARNING, __file__, 1, message, args, info, extra=extra
    )
    return made


def as_json(line: str) -> dict[str, Any]:
    assert len(line.splitlines()) == 1
    loaded: dict[str, Any] = json.loads(line)
    return loaded


def test_json_fields() -> None:
    line = as_json(JsonFormatter().format(record(status=200, model="m", nothing=None, share=0.5)))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning", "logger": "pinyon.test", "message": "request",
        "status": 200, "model": "m", "nothing": None, "share": 0.5,
    }  # fmt: skip


def test_text_fields() -> None:
    line = TextFormatter().format(record(status=200, model="m", nothing=None, reason="two words", flag=True))
    assert line.partition(" warning ")[2] == 'request status=200 model=m reason="two words" flag=True'


@pytest.mark.parametrize(
    "odd", ["a\nb", "a\r\n2026-01-01 info forged=1", "\x1b[31mred", "a\u2028b\u2029c\x85d", "\udcff", "\0", 'a"b', ""]
)
def test_values_do_not_break_lines(odd: str) -> None:
    for made in (record(value=odd), record(odd), record("%s", odd)):
        text = TextFormatter().format(made)
        assert len(text.splitlines()) == 1
        assert text.isprintable()
        text.encode()
        line = JsonFormatter().format(made)
        assert odd in (as_json(line).get("value"), as_json(line)["message"])
        line.encode()
    assert TextFormatter().format(record(value=odd)).count(" forged=") <= 1
    assert " value=" in TextFormatter().format(record(value=odd))


@pytest.mark.parametrize(
    "odd", [2**80, float("nan"), float("inf"), {1: 2}, {"a": "\udcff"}, object(), Unshowable(), b"\xff", [Unshowable()]]
)
def test_values_of_any_kind(odd: object) -> None:
    for other in ("", "\udcff"):
        made = record(value=odd, other=other)
        assert "value" in as_json(JsonFormatter().format(made))
        assert "value=" in TextFormatter().format(made)


def test_arguments_that_do_not_fit() -> None:
    made = record("two %s %s", "secret")
    for form in (TextFormatter(), JsonFormatter()):
        assert "two %s %s" in form.format(made)
        assert "secret" not in form.format(made)


def raised() -> BaseException:
    def inner() -> None:
        raise KeyError("secret one")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("secret\ntwo") from error
    except ValueError as error:
        return error
    raise AssertionError


def test_an_exception_is_told_by_its_places_alone() -> None:
    for form in (TextFormatter(), JsonFormatter()):
        line = form.format(record("a bug", exc=raised()))
        assert len(line.splitlines()) == 1
        assert "secret" not in line
        assert "ValueError at" in line
        assert "KeyError at" in line
    told = where_raised(raised())
    assert told.index("ValueError") < told.index(" in raised; after KeyError") < told.index(" in inner < ")


def test_exceptions_that_go_round_or_down_without_end() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert where_raised(first) == "ValueError at nowhere; after KeyError at nowhere"

    def down(steps: int) -> None:
        if steps:
            down(steps - 1)
        raise ValueError("secret")

    with pytest.raises(ValueError, match="secret") as caught:
        down(200)
    assert len(where_raised(caught.value)) < 20_000


@pytest.fixture
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpx2", "huggingface_hub")
    levels = {name: logging.getLogger(name).level for name in names}
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


@pytest.mark.usefixtures("own_logging")
def test_configure(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    logging.getLogger("pinyon.access").info("request", extra={"status": 200})
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=raised())

    def die() -> None:
        raise ValueError("secret")

    thread = threading.Thread(target=die, name="doomed")
    thread.start()
    thread.join()
    captured = capsys.readouterr()
    assert captured.out == ""
    access, error, dead = map(as_json, captured.err.splitlines())
    assert (access["logger"], access["status"]) == ("pinyon.access", 200)
    assert error["exception"].startswith("ValueError at ")
    assert (dead["thread_name"], dead["level"]) == ("doomed", "critical")
    assert "secret" not in captured.err
    configure("text")
    logging.getLogger("pinyon.access").info("request", extra={"status": 200})
    assert capsys.readouterr().err.endswith("info    request status=200\n")
    assert sys.stderr is not None
