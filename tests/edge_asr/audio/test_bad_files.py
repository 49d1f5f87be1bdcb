"""Files that are read in blocks, and what is no audio."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.audio.read import read_blocks
from edge_asr.errors import AudioError, InputMissingError, TruncatedError
from tests.tiny import Samples, tones


def noise(count: int, channels: int = 1, level: float = 0.2) -> Samples:
    values = np.random.default_rng(count + channels).standard_normal((count, channels))
    return (values * level).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ALAW", 0.02),
        ("a.wav", "PCM_U8", 2**-7),
        ("a.flac", "PCM_16", 2**-15),
        ("a.ogg", "VORBIS", 0.2),
    ],
)
def test_files_are_read_in_blocks(
    tmp_path: Path, name: str, subtype: str, tolerance: float
) -> None:
    samples = tones("▁one s").repeat(2).reshape(-1, 2) * 0.9
    soundfile.write(tmp_path / name, samples, 22050, subtype)
    blocks = list(read_blocks(tmp_path / name, 0.1))
    assert {rate for _, rate in blocks} == {22050}
    assert all(len(block) == 2205 for block, _ in blocks[:-1])
    found = np.concatenate([block for block, _ in blocks])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, samples, rtol=0, atol=tolerance)


def wav(rate: int = 16000, channels: int = 1, data: bytes = bytes(3200), claims: int = -1) -> bytes:
    """A WAV file of int16, with any header."""
    size = len(data) if claims < 0 else claims
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 % 2**32, channels * 2, 16)
    header = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", len(header) + size) + header + data


def float_wav(value: float) -> bytes:
    samples = np.full(1600, 0.1, "<f4")
    samples[-1] = value
    form = struct.pack("<HHIIHH", 3, 1, 16000, 64000, 4, 32)
    data = samples.tobytes()
    body = (
        b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


BAD_FILES = {
    "empty": b"",
    "text": b"hello " * 100,
    "header only": wav()[:20],
    "no samples": wav(data=b""),
    "rate 1": wav(rate=1),
    "rate 0": wav(rate=0),
    "rate 2**31": wav(rate=2**31),
    "33 channels": wav(channels=33, data=bytes(66 * 100)),
    "no channels": wav(channels=0),
    "NaN": float_wav(float("nan")),
    "infinity": float_wav(float("inf")),
    "unscaled": float_wav(20000.0),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_an_audio_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "line\nbreak.wav"
    path.write_bytes(BAD_FILES[kind])
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AudioError) as caught:
        list(read_blocks(path, 10.0))
    assert_one_line(caught.value, path)
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize("block_s", [0.05, 0.3, 10.0])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_comes_before_the_first_bad_value_is_heard(
    tmp_path: Path, value: float, block_s: float
) -> None:
    samples = noise(16_000, 2)
    samples[12_345, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, "FLOAT")
    blocks = []
    with pytest.raises(
        TruncatedError, match=r"reading ended at 0\.77 s: samples hold NaN"
    ) as caught:
        for block, _ in read_blocks(tmp_path / "a.wav", block_s):
            blocks.append(block)
    np.testing.assert_array_equal(np.concatenate(blocks), samples[:12_345])
    assert_one_line(caught.value, tmp_path / "a.wav")


def assert_one_line(error: Exception, path: Path) -> None:
    assert repr(str(path)) in str(error)
    assert "\n" not in str(error)
    assert str(error).isprintable()


def test_a_truncated_flac_is_an_audio_error_or_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, noise(40_000), 16000)
    whole = path.read_bytes()
    for size in (10, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        blocks = []
        try:
            blocks += list(read_blocks(path, 0.1))
        except AudioError as error:
            assert_one_line(error, path)
        assert sum(len(block) for block, _ in blocks) < 40_000


def make_directory(path: Path) -> None:
    path.mkdir()


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (make_directory, AudioError),
        (make_loop, InputMissingError),
        (lambda path: None, InputMissingError),
    ],
)
def test_what_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], expected: type[Exception]
) -> None:
    path = tmp_path / "speech.wav"
    make(path)
    with pytest.raises(expected) as caught:
        list(read_blocks(path, 1.0))
    assert_one_line(caught.value, path)


@pytest.mark.parametrize("name", ["nul\0.wav", "x" * 5000, "", "surrogate\udcff.wav"])
def test_an_impossible_name_is_a_missing_file(name: str) -> None:
    with pytest.raises(InputMissingError) as caught:
        list(read_blocks(name, 1.0))
    assert str(caught.value).isprintable()
