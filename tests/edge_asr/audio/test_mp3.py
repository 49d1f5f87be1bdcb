"""MP3 without the header that says how much of it there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr.audio.mp3 import is_mpeg
from edge_asr.errors import TruncatedError
from tests.edge_asr.audio.inputs import SIGNAL, WAYS, encoded, heard

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
def test_mp3_without_a_length_and_a_tag(way: str, tmp_path: Path) -> None:
    samples, error = heard(without_xing() + b"TAG" + bytes(125), way, tmp_path)
    assert error is None
    assert len(samples) >= len(SIGNAL)
