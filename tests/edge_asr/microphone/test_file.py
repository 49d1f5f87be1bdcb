"""A file in the place of a microphone."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.errors import AudioError, InputMissingError
from edge_asr.microphone.capture import Notice
from edge_asr.microphone.clock import Block
from edge_asr.microphone.file import AudioFile


def write(path: Path, duration_s: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(duration_s * rate), channels))
    soundfile.write(path, samples, rate, "FLOAT")
    return samples.astype(np.float32)


def read_all(source: AudioFile) -> tuple[list[Block], list[Notice]]:
    blocks, notices = [], []
    while not source.ended:
        for item in source.read(0.01):
            if isinstance(item, Block):
                blocks.append(item)
            elif isinstance(item, Notice):
                notices.append(item)
    assert source.close() == []
    return blocks, notices


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2)])
def test_all_of_the_file_in_order(tmp_path: Path, rate: int, channels: int) -> None:
    samples = write(tmp_path / "a.wav", 0.73, rate, channels)
    blocks, notices = read_all(AudioFile(str(tmp_path / "a.wav"), realtime=False))
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), samples)
    assert {block.rate for block in blocks} == {rate}
    (notice,) = notices
    assert notice.kind == "listening"
    assert f"a.wav', {rate} Hz, {channels} channel" in notice.message


def test_real_time_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.42)
    source = AudioFile(str(tmp_path / "a.wav"), realtime=True)
    began = time.monotonic()
    blocks, notices = read_all(source)
    assert time.monotonic() - began >= 0.42
    assert len(blocks) == 9
    assert len(notices) == 1
    stamps = [block.at_ns for block in blocks[:-1]]
    assert [after - before for before, after in pairwise(stamps)] == [50_000_000] * 7


def test_a_slow_listener_sees_the_lag(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.42)
    source = AudioFile(str(tmp_path / "a.wav"), realtime=True)
    source.read(1)
    time.sleep(0.2)
    source.read(1)
    assert source.lag_ms >= 140


def test_a_wait_is_no_longer_than_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.42)
    source = AudioFile(str(tmp_path / "a.wav"), realtime=True)
    assert source.read(0.001) == []
    assert not source.ended
    assert any(isinstance(item, Block) for item in source.read(1))


def test_what_is_wrong_with_the_file_is_raised_by_read(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        AudioFile(str(tmp_path / "no.wav"), realtime=False).read(1)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioError):
        AudioFile(str(tmp_path / "text.wav"), realtime=False).read(1)
