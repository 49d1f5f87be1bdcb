"""Tasks: seconds of audio, and rows that an expert layer gets."""

from __future__ import annotations

from benchmark.paper.assembly import audio_s, rows_of
from benchmark.paper.rounds import SECOND, STREAM, SWEEP, WHOLE


def test_tasks_last_as_long_as_they_say() -> None:
    assert [audio_s(task) for task in (STREAM, WHOLE, SECOND)] == [0.64, 20.0, 10.0]
    assert [rows_of(task) for task in (STREAM, WHOLE, SECOND)] == [16, 499, 310]
    assert [rows_of(task) for task in SWEEP] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 499]
