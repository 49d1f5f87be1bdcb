"""MP3 and FLAC among tags, and before what is neither."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edge_asr.errors import TruncatedError
from tests.edge_asr.audio.inputs import SIGNAL, WAYS, encoded, heard

ID3V2 = b"ID3\x04\0\0" + bytes([0, 0, 39, 8]) + bytes(5000)
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
APE_ITEMS = bytes(range(1, 251)) * 4
APE_SIZES = struct.pack("<III", 2000, len(APE_ITEMS) + 32, 1)
APE = b"APETAGEX" + APE_SIZES + bytes([0, 0, 0, 0xA0]) + bytes(8) + APE_ITEMS
APE += b"APETAGEX" + APE_SIZES + bytes([0, 0, 0, 0x80]) + bytes(8)


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
@pytest.mark.parametrize("name", ["mp3", "flac"])
def test_what_follows_and_is_nothing_known_is_said(name: str, way: str, tmp_path: Path) -> None:
    samples, error = heard(encoded(name) + b"what is this? " * 2000, way, tmp_path)
    assert len(samples) == len(SIGNAL)
    assert isinstance(error, TruncatedError)
