"""benchmark.loudness: levels of known signals."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.loudness import levels_db
from edge_asr.bench.play import Clip


def test_levels_are_of_the_first_channel_and_smoothed() -> None:
    samples = np.full((8 * 160 + 159, 2), 0.5, np.float32)
    samples[: 4 * 160, 0], samples[4 * 160 :, 0] = 1.0, 0.1
    # 0 and -20 dB, and between them means of three frames.
    expected = [0, 0, 0, -20 / 3, -40 / 3, -20, -20, -20]
    assert levels_db(Clip(samples, 16000)) == pytest.approx(expected, abs=1e-5)


def test_silence_has_a_floor_and_less_than_a_frame_no_level() -> None:
    silence = np.zeros((480, 1), np.float32)
    assert levels_db(Clip(silence, 16000)) == pytest.approx([-90.0] * 3)
    assert levels_db(Clip(silence[:159], 16000)).shape == (0,)
