"""What ``Recognizer.transcribe`` takes, and what it refuses."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from edge_asr.backends import DecoderScores
from edge_asr.errors import TruncatedError, UsageError
from edge_asr.search.decoding import Decoding, SecondPassMode
from edge_asr.streams.recognizer import Recognizer, Transcript
from tests.tiny import DECODER, RATE, FakeDecoder, tones

SPEECH = tones("▁one ▁two s 1500 ▁one")
ROOMY = msgspec.structs.replace(DECODER, max_frames=1024)


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


@pytest.mark.parametrize("second_pass", [None, "background", "inline"])
def test_a_whole_recording_is_read_by_the_decoders_whatever_the_load(
    recognizer: Recognizer, second_pass: SecondPassMode | None
) -> None:
    reader, threads = FakeDecoder(spread=0.0), set[str]()

    class Decoder:
        def score(self, *arguments: Any) -> DecoderScores:
            threads.add(threading.current_thread().name)
            return reader.score(*arguments)

    package = replace(
        recognizer.package,
        manifest=msgspec.structs.replace(recognizer.package.manifest, decoder=ROOMY),
    )
    able = replace(recognizer, package=package, decoder=Decoder())
    speech = tones("▁one 1500 " * 12)
    decoding = Decoding(second_pass=second_pass)
    transcript = able.transcribe(speech, "whole", sample_rate=RATE, decoding=decoding)
    assert [(s.text, s.second_pass) for s in transcript.segments] == [("one", True)] * 12
    assert threads == {threading.current_thread().name}
    off = able.transcribe(speech, sample_rate=RATE, decoding=Decoding(second_pass="off"))
    assert [(s.text, s.second_pass) for s in off.segments] == [("one", False)] * 12
