"""A pipe in the place of a microphone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_asr.audio.raw import RawFormat
from edge_asr.errors import AudioError, InputMissingError
from edge_asr.microphone.clock import Block
from edge_asr.microphone.file import AudioFile
from tests.edge_asr.audio.inputs import RATE, encoded

HEADER_BYTES = 44
SECOND_BYTES = 2 * RATE


class Pipe:
    """A pipe with a name, and what was heard of it."""

    def __init__(self, path: Path, raw: RawFormat | None = None) -> None:
        os.mkfifo(path)
        self._keep = os.open(path, os.O_RDWR)  # so that nobody waits for the other end
        self.source = AudioFile(str(path), realtime=False, raw=raw)
        self.heard = 0

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._keep, data[:4000]) :]

    def listen(self, samples: int) -> None:
        """Until so many samples were heard."""
        while self.heard < samples:
            for item in self.source.read(5):
                if isinstance(item, Block):
                    self.heard += len(item.samples)

    def close(self) -> None:
        os.close(self._keep)


@pytest.fixture
def data() -> bytes:
    return encoded("wav")


def test_sound_is_heard_while_it_comes(tmp_path: Path, data: bytes) -> None:
    pipe = Pipe(tmp_path / "pipe")
    assert pipe.source.read(0.01) == []
    assert not pipe.source.ended
    for tenth in range(1, 11):
        part = data[: HEADER_BYTES + tenth * SECOND_BYTES // 10]
        pipe.write(part[HEADER_BYTES + (tenth - 1) * SECOND_BYTES // 10 if tenth > 1 else 0 :])
        pipe.listen(tenth * RATE // 10)
        assert pipe.source.read(0.01) == [], "nothing more was written"
    pipe.close()
    with pytest.raises(AudioError, match=r"reading ended at 1\.00 s"):
        pipe.listen(RATE + 1)


def test_raw_samples_are_heard_while_they_come(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "pipe", RawFormat(8000, 2))
    samples = np.zeros(8000, "<i2")
    for second in range(1, 4):
        pipe.write(samples.tobytes())
        pipe.listen(second * 4000)
    pipe.close()
    while not pipe.source.ended:
        assert pipe.source.read(5) == []
    assert pipe.heard == 12_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flac", "vorbis", "opus", "mp3"])
def test_compressed_sound_is_heard_before_its_end(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE).astype(np.float32)
    data = encoded(name, noise)
    pipe = Pipe(tmp_path / "pipe")
    heard = threading.Event()

    def write() -> None:  # it waits for the reader
        pipe.write(data[: len(data) // 2])
        heard.wait()
        pipe.write(data[len(data) // 2 :])
        pipe.close()

    threading.Thread(target=write, daemon=True).start()
    pipe.listen(len(noise) // 4)
    heard.set()
    pipe.listen(len(noise))


def test_what_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        AudioFile(str(tmp_path / "none"), realtime=False).read(1)
    with pytest.raises(AudioError, match="is a folder"):
        AudioFile(str(tmp_path), realtime=False).read(1)
