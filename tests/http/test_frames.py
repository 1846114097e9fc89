"""Frames and headers as bytes, against hpack and h2 as the other side."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from pinyon.http.frames import PREFACE, FrameReader, HeaderBlock, Headers, headers_frame

names = st.text("abcdefgh-", min_size=1, max_size=200).map(str.encode)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300).map(str.encode)
headers = st.lists(st.tuples(names, texts), max_size=8)
HELLO = PREFACE + SettingsFrame().serialize()


@given(headers)
def test_headers_are_read_by_another(given: Headers) -> None:
    raw = headers_frame(7, given, is_last=True)
    frame, size = Frame.parse_frame_header(memoryview(raw[:9]))
    frame.parse_body(memoryview(raw[9:]))
    assert isinstance(frame, HeadersFrame)
    assert (size, frame.stream_id, set(frame.flags)) == (len(raw) - 9, 7, {"END_HEADERS", "END_STREAM"})
    assert list(Decoder().decode(frame.data, raw=True)) == given


@settings(deadline=None)
@given(
    requests=st.lists(st.tuples(headers, st.binary(max_size=300), st.booleans()), max_size=8),
    step=st.integers(1, 200),
    again=st.booleans(),
)
def test_requests_of_another_are_read_whole_in_whatever_pieces_they_come(
    requests: list[tuple[Headers, bytes, bool]], step: int, again: bool
) -> None:
    """Headers with the table that both sides share and without, some of them twice."""
    encoder = Encoder()
    sent, wanted = HELLO, []
    for number, (said, body, is_huffman) in enumerate(requests * (2 if again else 1)):
        id = 2 * number + 1
        if number % 3 == 2:  # as headers that are not remembered
            block = headers_frame(id, said, is_last=False)[9:]
        else:
            block = encoder.encode(said, huffman=is_huffman)
        sent += HeadersFrame(id, block, flags=("END_HEADERS",)).serialize() + DataFrame(id, body).serialize()
        wanted += [(id, said), (id, body)]
    reader = FrameReader(1 << 16)
    found: list[tuple[int, Headers | bytes]] = []
    for start in range(0, len(sent), step):
        for frame in reader.read(sent[start : start + step]):
            if isinstance(frame, HeaderBlock):
                found.append((frame.stream_id, frame.headers))
            elif isinstance(frame, DataFrame):
                found.append((frame.stream_id, frame.data))
    assert found == wanted


def test_the_same_bytes_mean_what_the_table_says_then() -> None:
    """A block that is repeated, after the table has changed, says something else."""
    encoder = Encoder()
    reader = FrameReader(1 << 16)
    list(reader.read(HELLO))

    def read(block: bytes) -> Headers:
        [found] = reader.read(HeadersFrame(1, block, flags=("END_HEADERS",)).serialize())
        assert isinstance(found, HeaderBlock)
        return found.headers

    assert read(encoder.encode([(b"x", b"first")])) == [(b"x", b"first")]
    newest = b"\xbe"  # the newest entry of the table
    assert read(newest) == read(newest) == [(b"x", b"first")]
    assert read(encoder.encode([(b"x", b"second")])) == [(b"x", b"second")]
    assert read(newest) == [(b"x", b"second")]
    assert read(b"\x3e\x40\x01y\x01z") == [(b"y", b"z")]  # in a smaller table
