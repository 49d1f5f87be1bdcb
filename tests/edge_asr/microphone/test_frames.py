"""Frames through a pipe that groups bytes as it likes, and bytes that are no frames."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.microphone.frames import Frame, FrameError, FrameReader, Kind, pack, pack_facts


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    if draw(st.booleans()):
        channels = draw(st.integers(1, 32))
        payload = draw(st.binary(max_size=40)) * channels * 4
        at_ns, sequence, waited_ns = (draw(st.integers(0, 2**64 - 1)) for _ in range(3))
        overflow = draw(st.booleans())
        return Frame(Kind.BLOCK, payload, at_ns, sequence, channels, overflow, waited_ns)
    kind = draw(st.sampled_from([Kind.OPENED, Kind.ENDED, Kind.DEVICES]))
    return Frame(kind, draw(st.binary(max_size=100)))


@settings(max_examples=80, deadline=None)
@given(st.lists(frames(), max_size=6), st.integers(1, 50))
def test_any_grouping_gives_the_same_frames(sent: list[Frame], size: int) -> None:
    data = b"".join(map(pack, sent))
    reader = FrameReader()
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    assert [frame for part in parts for frame in reader.push(part)] == sent


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_a_frame_error_or_waits(data: bytes) -> None:
    reader = FrameReader()
    try:
        for frame in reader.push(data):
            assert frame.kind in Kind
    except FrameError as error:
        assert "\n" not in str(error)


def header(kind: int, flags: int, channels: int, size: int) -> bytes:
    return struct.pack("<BBHIQQQ", kind, flags, channels, size, 0, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        header(9, 0, 0, 0),
        header(0, 0, 0, 0),
        header(Kind.BLOCK, 2, 1, 4),
        header(Kind.BLOCK, 0, 0, 4),
        header(Kind.BLOCK, 0, 2, 12),
        header(Kind.ENDED, 0, 0, 2**31),
    ],
)
def test_broken_headers_are_refused_before_their_payload(data: bytes) -> None:
    with pytest.raises(FrameError):
        list(FrameReader().push(data))


def test_facts_pass() -> None:
    (frame,) = FrameReader().push(pack_facts(Kind.OPENED, name="é\n", rate=16000))
    assert frame.facts == {"name": "é\n", "rate": 16000}
