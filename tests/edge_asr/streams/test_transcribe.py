"""What ``Recognizer.transcribe`` takes, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.errors import TruncatedError, UsageError
from edge_asr.streams.recognizer import Recognizer, Transcript
from tests.tiny import RATE, tones

SPEECH = tones("▁one ▁two s 1500 ▁one")


def as_file(samples: np.ndarray = SPEECH) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def test_paths_file_objects_and_samples_are_the_same(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(as_file())
    expected = recognizer.transcribe(path)
    assert expected.text == "one twos one"
    with path.open("rb") as file:
        assert recognizer.transcribe(file) == expected
    assert recognizer.transcribe(io.BytesIO(as_file())) == expected
    assert recognizer.transcribe(SPEECH, sample_rate=RATE) == expected
    assert recognizer.transcribe(SPEECH[:, None], sample_rate=float(RATE)) == expected


@pytest.mark.parametrize("rate", [float(RATE), np.float32(RATE), np.float64(RATE), np.int32(RATE)])
def test_whole_numbers_are_rates(recognizer: Recognizer, rate: float) -> None:
    with recognizer.stream() as stream:
        events = stream.push(SPEECH, rate) + stream.flush()
    with recognizer.stream() as stream:
        assert events == stream.push(SPEECH, RATE) + stream.flush()


@pytest.mark.parametrize(
    ("audio", "rate", "reason"),
    [
        (SPEECH, None, "sample_rate=16000"),
        (SPEECH, 16000.5, "allowed are whole numbers"),
        (SPEECH, "16000", "allowed are whole numbers"),
        ("speech.wav", RATE, "leave it out"),
        (io.BytesIO(as_file()), RATE, "leave it out"),
        (as_file(), None, "type bytes"),
        ([0.1, 0.2], None, "type list"),
        (16000, None, "type int"),
        (None, None, "type NoneType"),
        (io.StringIO("speech"), None, "binary mode"),
    ],
)
def test_other_types_are_refused(
    recognizer: Recognizer, audio: object, rate: object, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        recognizer.transcribe(audio, sample_rate=rate)  # type: ignore[arg-type]


def test_what_is_there_of_a_cut_file_is_kept(recognizer: Recognizer) -> None:
    data = as_file()
    end = len(data) - 4 * len(tones("1000 ▁one"))
    with pytest.raises(TruncatedError, match="are promised") as caught:
        recognizer.transcribe(io.BytesIO(data[:end]))
    assert isinstance(caught.value.partial, Transcript)
    assert caught.value.partial.text == "one twos"
