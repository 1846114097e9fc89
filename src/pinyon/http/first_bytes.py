"""Which protocol a connection speaks, by the first bytes that its client sends."""

from __future__ import annotations

from enum import Enum, auto

_HANDSHAKE = 0x16  # the type of a TLS record (RFC 8446, 5.1)
_PREFACE = b"PRI "  # how HTTP/2 begins where the client knows that it is spoken (RFC 9113, 3.4); no method of HTTP/1.1


class Speaks(Enum):
    HTTP1 = auto()  # or nothing that is known: its parser says so
    HTTP2 = auto()
    TLS = auto()


def spoken(first: bytes) -> Speaks | None:
    """None: more bytes must come before it is clear. `first` is not empty."""
    if first[0] == _HANDSHAKE:
        return Speaks.TLS
    if first.startswith(_PREFACE):
        return Speaks.HTTP2
    return None if _PREFACE.startswith(first) else Speaks.HTTP1
