"""benchmark.search.decoding_speed: what counts as work."""

from __future__ import annotations

import pytest

from benchmark.search.decoding_speed import Played, Speed, play_round
from edge_asr.bench.play import Clip
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer
from tests.tiny import RATE, tones


def test_work_is_what_pushes_and_flushes_take(recognizer: Recognizer) -> None:
    """A clock that counts its readings: each call takes one second."""
    readings = iter(range(1000))
    clip, speed = Clip(tones("▁one")[: RATE // 5, None], RATE), Speed()
    clock = lambda: float(next(readings))  # noqa: E731
    play_round(recognizer, Played(640, Decoding()), [clip, clip], speed, clock)
    assert speed.rtfs == [pytest.approx((4 + 1) / 0.2)]
    assert (speed.pushes_ms, speed.flushes_ms) == ([1000], [1000, 1000])
