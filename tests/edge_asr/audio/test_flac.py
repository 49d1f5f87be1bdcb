"""FLAC of unknown length, cut and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_asr.errors import TruncatedError
from tests.edge_asr.audio.inputs import RATE, SIGNAL, WAYS, encoded, heard


def unknown_flac() -> bytes:
    data = bytearray(encoded("flac"))
    data[21] &= 0xF0  # the number of samples: the last 36 bits before the MD5
    data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("way", WAYS)
def test_flac_of_unknown_length(way: str, tmp_path: Path) -> None:
    samples, error = heard(unknown_flac(), way, tmp_path)
    assert error is None
    np.testing.assert_array_equal(samples, heard(encoded("flac"), "file", tmp_path)[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [1, 2, 300, 9000])
def test_flac_of_unknown_length_cut_short(cut: int, way: str, tmp_path: Path) -> None:
    samples, error = heard(unknown_flac()[:-cut], way, tmp_path)
    assert 0 < len(samples) < len(SIGNAL)
    assert isinstance(error, TruncatedError)
    assert "the last frame is cut" in str(error)


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
