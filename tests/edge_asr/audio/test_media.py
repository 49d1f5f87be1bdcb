"""Sound of M4A, MP4, WebM and MKV, made and read with PyAV."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr.audio.media import media_format, needs_seeking
from edge_asr.errors import AudioError, TruncatedError
from tests.edge_asr.audio.inputs import WAYS, heard

RATE = 48000
KINDS = {"mp4": "aac", "webm": "libopus", "matroska": "aac"}


def made(kind: str, seconds: float = 3.0) -> bytes:
    """A recording of a tone, as browsers and telephones make them."""
    av: Any = pytest.importorskip("av", reason="PyAV is not installed (pip install av)")
    time = np.arange(round(RATE * seconds)) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(KINDS[kind], rate=RATE, layout="mono")
        for start in range(0, len(tone), 960):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 960], "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_whole(kind: str, way: str, tmp_path: Path) -> None:
    samples, error = heard(made(kind), way, tmp_path)
    assert error is None
    assert len(samples) / RATE == pytest.approx(3.0, abs=0.1)
    middle = samples[RATE : 2 * RATE]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["webm", "matroska"])
def test_cut_short(kind: str, way: str, tmp_path: Path) -> None:
    data = made(kind)
    samples, error = heard(data[: len(data) // 2], way, tmp_path)
    assert 0.3 < len(samples) / RATE / 3.0 < 0.7
    assert isinstance(error, TruncatedError)


@pytest.mark.parametrize("way", WAYS)
def test_an_mp4_whose_end_is_missing_is_said_to_be_unreadable(way: str, tmp_path: Path) -> None:
    data = made("mp4")
    samples, error = heard(data[: len(data) // 2], way, tmp_path)
    assert len(samples) == 0
    assert type(error) is AudioError


HEADS = {
    "M4A or MP4": b"\0\0\0\x20ftypM4A " + bytes(64),
    "WebM or MKV": b"\x1aE\xdf\xa3" + bytes(64),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HEADS)
def test_without_pyav_the_error_says_what_helps(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    _, error = heard(HEADS[name], way, tmp_path)
    assert type(error) is AudioError
    assert f"is {name}, which needs PyAV: pip install av, or ffmpeg -i" in str(error)
    assert "\n" not in str(error)


def test_what_needs_the_whole_file() -> None:
    assert [needs_seeking(str(media_format(head))) for head in HEADS.values()] == [True, False]
    assert media_format(b"RIFF....WAVE") is None
