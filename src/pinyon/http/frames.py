"""HTTP/2 as bytes: a client's to frames and headers, a server's headers and data to bytes. No transport, no streams.

Frames are hyperframe's and headers hpack's. Headers are sent without the table that both sides could share: it saves
bytes, and costs more time than all else of a small answer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from hpack import Decoder, HPACKError
from hpack.hpack import encode_integer
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, SettingsFrame

Headers = list[tuple[bytes, bytes]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 64 * 1024  # of what a client sends: one is held until it is whole
_HEAD = 9  # bytes of a frame
_DATA, _HEADERS = 0, 1  # types of frames
_END_STREAM, _END_HEADERS = 1, 4  # flags


class ErrorCode(IntEnum):
    """Those that are sent (RFC 9113, 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Broken(Exception):
    """The client broke the protocol, or asks for too much: the connection ends."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


class HeaderBlock(NamedTuple):
    """The headers of a request, or what comes after its body."""

    stream_id: int
    headers: Headers
    is_last: bool


class FrameReader:
    """Reads what one client sends."""

    def __init__(self, max_headers: int) -> None:
        """`max_headers`: bytes of a request's headers, packed and unpacked."""
        self._max_headers = max_headers
        self._decoder = Decoder(max_header_list_size=max_headers)
        self._held = bytearray()  # less than a frame
        self._has_begun = False  # its preface is here
        self.is_greeted = False  # and its settings
        # The newest block that left the table of headers as it was, and what it says: many clients send the same again.
        self._repeated: tuple[bytes, Headers] = b"", []
        self._head: HeadersFrame | None = None  # its block goes on in the next frame
        self._block = b""

    def read(self, data: bytes) -> Iterator[Frame | HeaderBlock]:
        """What is whole, with headers in one piece. Raises Broken."""
        held = self._held
        if held:
            held += data
            whole: bytes | bytearray = held
        else:
            whole = data  # most of what comes begins with a frame: it is read where it is
        at = 0
        if not self._has_begun:
            if not whole.startswith(PREFACE):
                if not PREFACE.startswith(whole):
                    raise Broken(ErrorCode.PROTOCOL_ERROR)
                held[:] = whole
                return
            self._has_begun = True
            at = len(PREFACE)
        while len(whole) - at >= _HEAD:
            size = int.from_bytes(whole[at : at + 3], "big")
            if size > MAX_FRAME:
                raise Broken(ErrorCode.FRAME_SIZE_ERROR)
            end = at + _HEAD + size
            if len(whole) < end:
                break
            frame = _parsed(whole, at, end)
            at = end
            yield from self._take(frame)
        if whole is held:
            del held[:at]
        else:
            held += whole[at:]

    def _take(self, frame: Frame) -> Iterator[Frame | HeaderBlock]:
        if not self.is_greeted:
            if not isinstance(frame, SettingsFrame):
                raise Broken(ErrorCode.PROTOCOL_ERROR)
            self.is_greeted = True
        if isinstance(frame, ContinuationFrame):
            if self._head is None or self._head.stream_id != frame.stream_id:
                raise Broken(ErrorCode.PROTOCOL_ERROR)
            self._block += frame.data
        elif self._head is not None:
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        elif isinstance(frame, HeadersFrame):
            self._head, self._block = frame, frame.data
        else:
            yield frame
            return
        if len(self._block) > self._max_headers:
            raise Broken(ErrorCode.ENHANCE_YOUR_CALM)
        if "END_HEADERS" in frame.flags:
            head, block, self._head, self._block = self._head, self._block, None, b""
            # Whatever becomes of them: those to come depend on them.
            yield HeaderBlock(head.stream_id, self._unpacked(block), "END_STREAM" in head.flags)

    def _unpacked(self, block: bytes) -> Headers:
        if block and block == self._repeated[0]:
            return self._repeated[1]
        table = self._decoder.header_table
        entries = table.dynamic_entries  # the newest first, each an object of its own
        before = table.maxsize, len(entries), entries[0] if entries else None
        try:
            headers = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except HPACKError:
            raise Broken(ErrorCode.COMPRESSION_ERROR) from None
        is_same = before[:2] == (table.maxsize, len(entries)) and (not entries or entries[0] is before[2])
        self._repeated = (block, headers) if is_same else (b"", [])
        return headers


def _parsed(whole: bytes | bytearray, start: int, end: int) -> Frame:
    # Without a copy of a large frame: hyperframe makes one of what it keeps.
    with memoryview(whole) as view, view[start : start + _HEAD] as head, view[start + _HEAD : end] as body:
        try:
            frame, _ = Frame.parse_frame_header(head)
            frame.parse_body(body)
            return frame
        except HyperframeError:
            pass
    raise Broken(ErrorCode.PROTOCOL_ERROR)


def headers_frame(stream_id: int, headers: Headers, *, is_last: bool) -> bytes:
    block = b"".join([_literal(name, value) for name, value in headers])
    return _head(len(block), _HEADERS, _END_HEADERS | (_END_STREAM if is_last else 0), stream_id) + block


def data_frame(stream_id: int, data: memoryview) -> tuple[bytes, memoryview]:
    """In two pieces, of which the second is `data`."""
    return _head(len(data), _DATA, 0, stream_id), data


def _head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    return b"%b%c%c%b" % (size.to_bytes(3, "big"), kind, flags, stream_id.to_bytes(4, "big"))


@functools.lru_cache(maxsize=256)
def _literal(name: bytes, value: bytes) -> bytes:
    """A header that is not to be remembered (RFC 7541, 6.2.2)."""
    return b"".join((b"\0", encode_integer(len(name), 7), name, encode_integer(len(value), 7), value))
