"""One client's HTTP/2 connection: frames in, answers out, with bounds on what a client can hold open and leave unread.

Knows HTTP/2 as RFC 9113 has it, a server's side of it, and nothing of what a stream asks for: that is a `Call`'s, which
is opened with a stream's headers and fed its body. Nothing is pushed, and priorities are not heeded.

Here every wait has an end, as in `connection`, and is watched by the same sweep.
"""

from __future__ import annotations

import asyncio
import logging
import time

from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from uvicorn.protocols.utils import get_local_addr
from uvicorn.server import ServerState

from pinyon.http.frames import (
    MAX_FRAME,
    Broken,
    ErrorCode,
    FrameReader,
    HeaderBlock,
    Headers,
    data_frame,
    headers_frame,
)
from pinyon.http.logging import where_raised
from pinyon.http.room import Room
from pinyon.http.streams import OpenCall, Stream

logger = logging.getLogger("pinyon.server")
bug_logger = logging.getLogger("pinyon.bug")

STREAMS = 256  # at once on one connection
# Of what a stream, and a connection, sends before it is told to go on. They bound nothing that is held, since all that
# comes is taken or refused at once; so they are large enough for most messages.
STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 64 * 1024 * 1024
RESETS = 200  # streams that a client may take back, beyond one for each that was answered
CONTROLS = 1000  # frames between two sweeps that neither carry some of a request nor take some of an answer
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1


class Http2Connection(asyncio.Protocol):
    """The protocol of one connection, from its first byte on. Beside asyncio's it has the methods that uvicorn's server
    and the sweep call."""

    def __init__(self, state: ServerState, room: Room, open: OpenCall) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.tasks: set[asyncio.Task[None]] = state.tasks
        self.port = 0
        self._state = state
        self._room = room
        self._limits = room.limits
        self._open = open
        self._reader = FrameReader(self._limits.head_bytes)
        self._out: list[bytes | memoryview] = []
        self._streams: dict[int, Stream] = {}
        self._last = 0  # the newest stream
        self._has_settings = False
        self._controls = 0
        self._resets = RESETS
        self._unsaid = 0  # bytes that came, and that the client was not told of
        self._send_window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._send_frame = 16_384
        self._is_paused = False  # the client does not read
        self._is_leaving = False  # no stream that is still to come will be answered
        self._is_over = False
        self._is_reading = False  # what is said now goes out together
        self._sent = 0  # rises when something goes out
        self._made = time.monotonic()
        self._wait: tuple[int, int] | None = None
        self._wait_since = 0.0

    # --- what the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]
        self.port = (get_local_addr(transport) or ("", 0))[1] or 0
        settings = {
            SettingsFrame.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingsFrame.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingsFrame.MAX_FRAME_SIZE: MAX_FRAME,
            SettingsFrame.MAX_HEADER_LIST_SIZE: self._limits.head_bytes,
        }
        self._say(SettingsFrame(settings=settings))
        self._say(WindowUpdateFrame(0, window_increment=CONNECTION_WINDOW - DEFAULT_WINDOW))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._forget()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._is_reading = True
        try:
            for frame in self._reader.read(data):
                self._take(frame)
                if self._is_over:
                    return
        except Broken as broken:
            self._goodbye(broken.code)
        except Exception as error:
            bug_logger.error("unexpected error", extra={"exception": where_raised(error)})
            self.transport.abort()
        finally:
            self._is_reading = False
        self._flush()

    def pause_writing(self) -> None:
        self._is_paused = True
        # What a client can make us say, such as a pong for each ping, is heard no more until it has read some of it.
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_paused = False
        if not self._is_over and not self.transport.is_closing():
            self.transport.resume_reading()
            self._send_rests()
            self._flush()

    # --- frames

    def _take(self, frame: Frame | HeaderBlock) -> None:
        self._controls += 1
        if isinstance(frame, DataFrame):
            self._take_data(frame)
        elif isinstance(frame, HeaderBlock):
            self._take_headers(frame)
        elif isinstance(frame, WindowUpdateFrame):
            self._take_window(frame)
        elif isinstance(frame, SettingsFrame):
            self._take_settings(frame)
        elif isinstance(frame, PingFrame):
            if "ACK" not in frame.flags:
                self._say(PingFrame(opaque_data=frame.opaque_data, flags=("ACK",)))
        elif isinstance(frame, RstStreamFrame):
            self._take_back(frame.stream_id)
        elif isinstance(frame, GoAwayFrame):
            self._is_leaving = True
            if not self._streams:
                self.end()
        elif isinstance(frame, PushPromiseFrame):
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        # PRIORITY is advice, and what is not known is to be ignored.
        if self._controls > CONTROLS:
            raise Broken(ErrorCode.ENHANCE_YOUR_CALM)

    def _take_data(self, frame: DataFrame) -> None:
        if frame.stream_id > self._last:
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        size = frame.flow_controlled_length
        if frame.data:
            self._controls = 0
        self._unsaid += size
        if self._unsaid > CONNECTION_WINDOW:
            raise Broken(ErrorCode.FLOW_CONTROL_ERROR)
        if self._unsaid > CONNECTION_WINDOW // 2:
            self._say(WindowUpdateFrame(0, window_increment=self._unsaid))
            self._unsaid = 0
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            return  # it was answered, or taken back
        if stream.is_whole:
            self._reset(stream, ErrorCode.STREAM_CLOSED)
            return
        stream.unsaid += size
        if stream.unsaid > STREAM_WINDOW:
            raise Broken(ErrorCode.FLOW_CONTROL_ERROR)
        is_last = "END_STREAM" in frame.flags
        if stream.unsaid > STREAM_WINDOW // 2 and not is_last:
            self._say(WindowUpdateFrame(stream.id, window_increment=stream.unsaid))
            stream.unsaid = 0
        stream.touched = time.monotonic()
        if stream.call is not None:
            stream.call.data(frame.data)
        if is_last:
            self._end(stream)

    def _take_headers(self, block: HeaderBlock) -> None:
        id = block.stream_id
        if id <= self._last:
            stream = self._streams.get(id)
            if stream is None:
                return  # of one that was answered, or taken back
            if block.is_last and not stream.is_whole:
                self._end(stream)
            else:
                self._reset(stream, ErrorCode.STREAM_CLOSED)
            return
        if id % 2 == 0:
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        self._last = id
        if self._is_leaving or len(self._streams) >= STREAMS:
            # NOTE: a client may send it again, since nothing was done (RFC 9113, 8.7).
            self._say(RstStreamFrame(id, error_code=ErrorCode.REFUSED_STREAM))
            return
        self._controls = 0
        self._room.idle.pop(self, None)
        stream = self._streams[id] = Stream(self, id, self._stream_window)
        stream.is_whole = block.is_last
        call = self._open(stream, block.headers)
        if call is not None:
            stream.call = call
            if block.is_last:
                call.end()

    def _end(self, stream: Stream) -> None:
        stream.is_whole = True
        if stream.call is not None:
            stream.call.end()

    def _take_window(self, frame: WindowUpdateFrame) -> None:
        if frame.stream_id == 0:
            self._send_window += frame.window_increment
            if self._send_window > LARGEST_WINDOW:
                raise Broken(ErrorCode.FLOW_CONTROL_ERROR)
        elif frame.stream_id > self._last:
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        elif (stream := self._streams.get(frame.stream_id)) is not None:
            stream.send_window += frame.window_increment
            if stream.send_window > LARGEST_WINDOW:
                self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
        self._send_rests()

    def _take_settings(self, frame: SettingsFrame) -> None:
        if not self._has_settings:
            self._has_settings = True
            self._rest()
        if "ACK" in frame.flags:
            return
        window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._stream_window)
        if window > LARGEST_WINDOW:
            raise Broken(ErrorCode.FLOW_CONTROL_ERROR)
        size = frame.settings.get(SettingsFrame.MAX_FRAME_SIZE, self._send_frame)
        if not 1 << 14 <= size < 1 << 24:
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        for stream in self._streams.values():
            stream.send_window += window - self._stream_window
        self._stream_window = window
        self._send_frame = min(size, MAX_FRAME)
        self._say(SettingsFrame(flags=("ACK",)))
        self._send_rests()

    def _take_back(self, id: int) -> None:
        if id > self._last:
            raise Broken(ErrorCode.PROTOCOL_ERROR)
        self._resets -= 1
        if self._resets < 0:
            raise Broken(ErrorCode.ENHANCE_YOUR_CALM)
        if (stream := self._streams.get(id)) is not None:
            self._drop(stream)

    # --- answers

    def answer(self, stream: Stream, headers: Headers, body: bytes, trailers: Headers | None) -> None:
        stream.call = None
        if stream.id not in self._streams:
            return
        self._state.total_requests += 1
        self._resets = min(RESETS, self._resets + 1)
        self._say_headers(stream, headers, is_last=trailers is None)
        if trailers is not None:
            stream.rest, stream.trailers = memoryview(body), trailers
            self._send_rest(stream)
        if not self._is_reading:
            self._flush()

    def _send_rest(self, stream: Stream) -> None:
        """As much of the body as the client takes now, and after its end the trailers."""
        while stream.rest:
            size = min(stream.send_window, self._send_window, self._send_frame, len(stream.rest))
            if size <= 0 or self._is_paused:
                return
            self._out += data_frame(stream.id, stream.rest[:size])
            stream.rest = stream.rest[size:]
            stream.send_window -= size
            self._send_window -= size
            self._sent += 1
            self._controls = 0
            if self._sent % 16 == 0:
                self._flush()  # which may pause it
        self._say_headers(stream, stream.trailers, is_last=True)

    def _send_rests(self) -> None:
        for stream in [stream for stream in self._streams.values() if stream.rest]:
            self._send_rest(stream)

    def _say_headers(self, stream: Stream, headers: Headers, *, is_last: bool) -> None:
        self._out.append(headers_frame(stream.id, headers, is_last=is_last))
        if is_last:
            self._sent += 1
            if not stream.is_whole:
                # It was answered before it was whole: what is left of it need not be sent (RFC 9113, 8.1).
                self._say(RstStreamFrame(stream.id, error_code=ErrorCode.NO_ERROR))
            self._drop(stream)

    def _say(self, frame: Frame) -> None:
        self._out.append(frame.serialize())

    def _flush(self) -> None:
        if self._out and not self._is_over:
            data = b"".join(self._out)
            self._out.clear()
            self.transport.write(data)

    # --- ends

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        self._say(RstStreamFrame(stream.id, error_code=code))
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream.id]
        if stream.call is not None:
            stream.call.cancel()
        if not self._streams:
            self._rest()

    def _rest(self) -> None:
        """No stream is open."""
        if self._is_leaving:
            self.end()
        else:
            self._room.idle[self] = time.monotonic()

    def shutdown(self) -> None:
        """Called once, when the server stops: streams that are open are answered first."""
        self._is_leaving = True
        if self._streams:
            self._say(GoAwayFrame(last_stream_id=self._last))
            self._flush()
        else:
            self.end()

    def end(self) -> None:
        """Closes the connection once what was written to it has gone out."""
        self._goodbye(ErrorCode.NO_ERROR)

    def _goodbye(self, code: ErrorCode) -> None:
        if self._is_over:
            return
        if code is not ErrorCode.NO_ERROR:
            logger.warning("refused", extra={"reason": code.name})
        self._say(GoAwayFrame(last_stream_id=self._last, error_code=code))
        self._flush()
        self._forget()
        self.transport.close()

    def _forget(self) -> None:
        self._is_over = True
        self._room.idle.pop(self, None)
        calls = [stream.call for stream in self._streams.values() if stream.call is not None]
        self._streams.clear()
        for call in calls:
            call.cancel()

    def check_wait(self, now: float) -> None:
        """Ends what has not come in time. `now` is monotonic."""
        self._controls = 0
        unread = self.transport.get_write_buffer_size()
        wait = (unread, self._sent) if unread or any(stream.rest for stream in self._streams.values()) else None
        if wait is None or wait != self._wait:
            self._wait, self._wait_since = wait, now
        elif now - self._wait_since > self._limits.reader_seconds:
            self.transport.abort()
        if self._is_over:
            return
        if not self._has_settings and now - self._made > self._limits.head_seconds:
            self.end()
            return
        for stream in list(self._streams.values()):
            if stream.call is not None and not stream.is_whole and now - stream.touched > self._limits.body_seconds:
                stream.call.stalled()
        self._flush()
