"""Lengths in headers that are not the whole truth."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.errors import AudioError, TruncatedError
from tests.edge_asr.audio.inputs import PLAIN, SIGNAL, WAYS, encoded, heard

FIELDS = {  # container: format of the field with the length, and how far before the samples it is
    "wav": ("<I", 4),
    "wav8": ("<I", 4),
    "wav24": ("<I", 4),
    "wav-float": ("<I", 4),
    "wav-ulaw": ("<I", 4),
    "wavex": ("<I", 4),
    "w64": ("<Q", 8),
    "aiff": (">I", 12),
    "caf": (">q", 12),
}
SIZES = {"wav8": 1, "wav-ulaw": 1, "wav24": 3, "wav-float": 4}


def samples_at(name: str) -> int:
    """Offset of the first sample in a file of ours, which nothing follows the samples of."""
    size = SIZES.get(name, 2)
    if name in ("wav-float",):  # PEAK stands before
        return len(encoded(name)) - size * len(SIGNAL)
    return len(encoded(name)) - size * len(SIGNAL)


def with_length(name: str, length: int) -> bytes:
    data = bytearray(encoded(name))
    if name == "au":
        struct.pack_into(">I", data, 8, length)
    else:
        form, before = FIELDS[name]
        struct.pack_into(form, data, samples_at(name) - before, length)
    return bytes(data)


def expected(name: str) -> np.ndarray:
    return soundfile.read(io.BytesIO(encoded(name)), dtype="float32")[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "length"),
    [
        *[(name, 0) for name in [*FIELDS, "au"]],
        *[(name, 2**32 - 1) for name in [*FIELDS, "au"] if name not in ("w64", "caf")],
        *[("wav", length) for length in (0x7FFFF000, 0x80000000, 0xFFFFFFDB)],
        ("caf", -1),
        ("w64", 2**63),
    ],
)
def test_a_length_that_was_not_known_yet(name: str, length: int, way: str, tmp_path: Path) -> None:
    samples, error = heard(with_length(name, length), way, tmp_path)
    assert error is None
    np.testing.assert_array_equal(samples, expected(name))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*FIELDS, "au"])
def test_a_length_that_wrapped(name: str, way: str, tmp_path: Path) -> None:
    # No multiple of a frame of 24 bits: the frames go on where they were.
    samples, error = heard(with_length(name, 10_000), way, tmp_path)
    assert error is None
    np.testing.assert_array_equal(samples, expected(name))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "follows",
    [
        b"LIST" + struct.pack("<I", 8) + b"INFOabcd",
        b"id3 " + struct.pack("<I", 999_999) + b"cut short",
        b"TAG" + bytes(125),
        b"\0",
        b"\n",
    ],
)
def test_what_follows_and_is_no_sound_is_not_heard(
    follows: bytes, way: str, tmp_path: Path
) -> None:
    samples, error = heard(encoded("wav") + follows, way, tmp_path)
    assert error is None
    np.testing.assert_array_equal(samples, expected("wav"))


@pytest.mark.parametrize("way", WAYS)
def test_no_samples_before_another_chunk_are_none(way: str, tmp_path: Path) -> None:
    header = encoded("wav")[:40]
    samples, error = heard(
        header + bytes(4) + b"LIST" + bytes([8, 0, 0, 0]) + b"INFOabcd", way, tmp_path
    )
    assert len(samples) == 0
    assert type(error) is AudioError


def test_big_endian_wav(tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, SIGNAL, 16000, format="WAV", subtype="PCM_16", endian="BIG")
    data = bytearray(file.getvalue())
    assert data[:4] == b"RIFX"
    struct.pack_into(">I", data, len(data) - 2 * len(SIGNAL) - 4, 0)
    samples, error = heard(bytes(data), "file", tmp_path)
    assert error is None
    np.testing.assert_array_equal(samples, expected("wav"))


@pytest.mark.parametrize("way", WAYS)
def test_samples_that_cannot_be_had_without_a_length_are_said(way: str, tmp_path: Path) -> None:
    data = encoded("wav-adpcm")
    at = data.index(b"data") + 4
    wrapped = data[:at] + struct.pack("<I", 4096) + data[at + 4 :]
    samples, error = heard(wrapped, way, tmp_path)
    assert 0 < len(samples) < len(SIGNAL)
    assert isinstance(error, TruncatedError)
    assert "bytes that follow are not in the header" in str(error)


def test_every_plain_container_is_tried() -> None:
    assert {*FIELDS, "au", "rf64"} == set(PLAIN)
