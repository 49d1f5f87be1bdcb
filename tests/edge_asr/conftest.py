"""Fixtures of several rooms of edge_asr."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from edge_asr.bench import measure
from tests.tiny import RATE, tones


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark of a few seconds of audio."""
    monkeypatch.setattr(measure, "AUDIO_S", 4.0)


@pytest.fixture
def speech(tmp_path: Path) -> str:
    """A file of two segments, as the command line takes it."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, tones("▁one ▁two s 1500 ▁one"), RATE)
    return str(path)
