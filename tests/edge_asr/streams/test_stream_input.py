"""What a stream refuses, and that nothing of it was taken in."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from edge_asr.errors import AudioError, UsageError
from edge_asr.streams.recognizer import Recognizer
from tests.tiny import RATE, play, tones

SPEECH = tones("▁one s 400 ▁two")

BAD = {
    "NaN": (np.array([0.1, np.nan], np.float32), RATE, AudioError),
    "infinity": (np.array([0.1, -np.inf], np.float32), RATE, AudioError),
    "too large for float32": (np.array([1e300]), RATE, AudioError),
    "unscaled": (np.array([1.0, 20000.0], np.float32), RATE, AudioError),
    "int32": (np.array([1, 2], np.int32), RATE, UsageError),
    "complex": (np.array([1j]), RATE, UsageError),
    "text": ("hello", RATE, UsageError),
    "scalar": (0.5, RATE, UsageError),
    "three axes": (np.zeros((2, 2, 2), np.float32), RATE, UsageError),
    "no channel": (np.zeros((2, 0), np.float32), RATE, UsageError),
    "channels first": (np.zeros((2, 1600), np.float32), RATE, UsageError),
    "ragged": ([[0.1], [0.1, 0.2]], RATE, UsageError),
    "rate 1": (np.zeros(2, np.float32), 1, AudioError),
    "rate -16000": (np.zeros(2, np.float32), -16000, AudioError),
    "rate 2**40": (np.zeros(2, np.float32), 2**40, AudioError),
    "fractional rate": (np.zeros(2, np.float32), 44100.5, UsageError),
    "rate NaN": (np.zeros(2, np.float32), float("nan"), UsageError),
    "rate as text": (np.zeros(2, np.float32), "16000", UsageError),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_audio_is_refused_and_not_taken_in(recognizer: Recognizer, case: str) -> None:
    samples, rate, expected = BAD[case]
    middle = len(SPEECH) // 2
    stream = recognizer.stream()
    events = stream.push(SPEECH[:middle])
    with pytest.raises(expected) as caught:
        stream.push(samples, rate)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, UsageError) and rate != RATE:
        assert (caught.value.field, caught.value.allowed) == ("sample_rate", "whole numbers")
    events += stream.push(SPEECH[middle:]) + stream.flush()
    assert events == play(recognizer.stream(), SPEECH, RATE)


@pytest.mark.parametrize(
    ("duration_ms", "reason", "field"),
    [
        (-1, "overflow", "duration_ms"),
        (1, "boredom", "reason"),
        (1.5, "overflow", "duration_ms"),
        (float("nan"), "overflow", "duration_ms"),
    ],
)
def test_bad_gaps_are_refused_and_not_taken_in(
    recognizer: Recognizer, duration_ms: int, reason: str, field: str
) -> None:
    stream = recognizer.stream()
    events = stream.push(SPEECH)
    with pytest.raises(UsageError) as caught:
        stream.declare_gap(duration_ms, reason)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.allowed in str(caught.value)
    assert events + stream.flush() == play(recognizer.stream(), SPEECH, RATE)


def test_much_audio_in_one_push_takes_memory_for_its_features_only(recognizer: Recognizer) -> None:
    stream = recognizer.stream()
    samples = np.zeros(RATE * 300, np.float32)
    tracemalloc.start()
    stream.feed(samples)
    stream.next_step()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # What is taken in and put together, and half as much for features: no Python number a sample.
    assert peak_bytes < 3.2 * samples.nbytes


def test_a_closed_stream_refuses_everything(recognizer: Recognizer) -> None:
    with recognizer.stream() as stream:
        stream.push(SPEECH)
    position_ms = stream.position_ms
    calls: list[Callable[[], object]] = [
        lambda: stream.push(SPEECH),
        stream.flush,
        lambda: stream.declare_gap(1, "overflow"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="closed"):
            call()
    assert stream.position_ms == position_ms
    stream.close()  # twice is fine
