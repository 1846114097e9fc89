"""Log lines, as text for people or as JSON for machines. A user's text never gets here: only counts and names do.

Every record is one line, whatever its values hold. Of an exception the line says its type and where it was raised, and
not its message, which may quote what a client sent.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_MAX_FRAMES = 40

logger = logging.getLogger("pinyon.bug")


def where_raised(error: BaseException) -> str:
    """An exception's type and the lines it came through, innermost first, and so for its causes. No message, no
    values."""
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames: list[str] = []
        trace = current.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}")
            trace = trace.tb_next
        told.append(f"{type(current).__qualname__} at {' < '.join(frames[-1 : -1 - _MAX_FRAMES : -1]) or 'nowhere'}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "; after ".join(told)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`, and `exception`."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"] = where_raised(record.exc_info[1])
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit: logging would print them all
        return str(record.msg)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        try:
            text = orjson.dumps(line, default=str).decode()
        except Exception:  # a lone surrogate, a number past 64 bits, an object that cannot be shown
            return json.dumps({name: _plain(value) for name, value in line.items()})
        # Characters such as U+2028 may stand in JSON, and end a line for some who read it.
        return text if text.isprintable() else json.dumps(orjson.loads(text))


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _shown(value)


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


class TextFormatter(logging.Formatter):
    """`time level message key=value ...`; a value with spaces or odd characters is quoted as in JSON."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).isoformat(sep=" ", timespec="milliseconds")
        fields = "".join(f" {name}={_word(value)}" for name, value in _fields(record).items() if value is not None)
        message = _message(record)
        if not message.isprintable():
            message = json.dumps(message)[1:-1]
        return f"{time} {record.levelname.lower():<7} {message}{fields}"


def _word(value: object) -> str:
    if isinstance(value, int | float):
        return str(value)
    text = _shown(value)
    return text if text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


def configure(log_format: Literal["text", "json"], level: int = logging.INFO) -> None:
    """Sends every logger of the process to stderr in one form, and what ends a thread with them."""
    # What no line of ours shows, and takes a third of the time of one: where it was logged, and by which thread.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
    # What uvicorn says of a start or stop is said by `pinyon serve` itself, in its own words.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Their INFO lines name each file that a pull asks for.
    for name in ("httpx", "httpx2", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    threading.excepthook = _log_dead_thread


def _log_dead_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else None
    where = where_raised(args.exc_value) if args.exc_value is not None else args.exc_type.__qualname__
    logger.critical("a thread ended by an error", extra={"thread_name": name, "exception": where})
