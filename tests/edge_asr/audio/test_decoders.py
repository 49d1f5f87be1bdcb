"""MP3 and FLAC among tags, and without what an encoder usually writes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edge_asr.audio.decoders import is_mpeg
from edge_asr.errors import TruncatedError
from tests.edge_asr.audio.inputs import RATE, SIGNAL, WAYS, encoded, heard

ID3V2 = b"ID3\x04\0\0" + bytes([0, 0, 39, 8]) + bytes(5000)
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
APE_ITEMS = bytes(range(1, 251)) * 4
APE_SIZES = struct.pack("<III", 2000, len(APE_ITEMS) + 32, 1)
APE = b"APETAGEX" + APE_SIZES + bytes([0, 0, 0, 0xA0]) + bytes(8) + APE_ITEMS
APE += b"APETAGEX" + APE_SIZES + bytes([0, 0, 0, 0x80]) + bytes(8)
FIRST_FRAME_SEARCHED = 100  # bytes after the name Xing, which is inside of the first frame


def without_xing() -> bytes:
    """Frames of changing bit rates, and nothing that says how many."""
    data = encoded("mp3")
    start = data.index(b"Xing") + FIRST_FRAME_SEARCHED
    at = next(
        index
        for index in range(start, len(data))
        if is_mpeg(data[index:]) and data[index + 2] & 0x0C == data[2] & 0x0C
    )
    return data[at:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("times", [1, 2])
def test_mp3_without_a_length(way: str, times: int, tmp_path: Path) -> None:
    samples, error = heard(without_xing() * times, way, tmp_path)
    assert error is None
    assert len(samples) >= times * len(SIGNAL)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [1, 100, 1500])
def test_mp3_without_a_length_cut_short(way: str, cut: int, tmp_path: Path) -> None:
    samples, error = heard(without_xing()[:-cut], way, tmp_path)
    assert len(samples) > 0.3 * len(SIGNAL)
    assert isinstance(error, TruncatedError)
    assert "cut" in str(error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("before", "after"),
    [(ID3V2, b""), (b"", ID3V1), (ID3V2, APE), (b"", APE + ID3V1), (b"", bytes(700))],
)
@pytest.mark.parametrize("name", ["mp3", "flac"])
def test_tags_are_no_audio(
    name: str, before: bytes, after: bytes, way: str, tmp_path: Path
) -> None:
    samples, error = heard(before + encoded(name) + after, way, tmp_path)
    assert error is None
    np.testing.assert_allclose(samples, heard(encoded(name), "file", tmp_path)[0], atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_mp3_without_a_length_and_a_tag(way: str, tmp_path: Path) -> None:
    samples, error = heard(without_xing() + ID3V1, way, tmp_path)
    assert error is None
    assert len(samples) >= len(SIGNAL)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mp3", "flac"])
def test_what_follows_and_is_nothing_known_is_said(name: str, way: str, tmp_path: Path) -> None:
    samples, error = heard(encoded(name) + b"what is this? " * 2000, way, tmp_path)
    assert len(samples) == len(SIGNAL)
    assert isinstance(error, TruncatedError)


@pytest.mark.parametrize("way", WAYS)
def test_damage_in_the_middle_keeps_what_came_before(way: str, tmp_path: Path) -> None:
    data = bytearray(encoded("flac"))
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    samples, error = heard(bytes(data), way, tmp_path)
    assert RATE // 2 < len(samples) < len(SIGNAL)
    np.testing.assert_array_equal(
        samples, heard(encoded("flac"), "file", tmp_path)[0][: len(samples)]
    )
    assert isinstance(error, TruncatedError)
