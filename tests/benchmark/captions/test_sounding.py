"""benchmark.captions.sounding: where a recording is loud."""

from __future__ import annotations

import numpy as np

from benchmark.captions.sounding import sounding_ms
from edge_asr.bench.play import Clip
from tests.tiny import RATE, tones


def test_sound() -> None:
    quiet = np.random.default_rng(0).normal(0, 1e-4, (RATE, 1)).astype(np.float32)
    loud = quiet.copy()
    loud[4000:8000, 0] += tones("s", pause_ms=0)[:3200].repeat(2)[:4000]
    assert sounding_ms(Clip(quiet, RATE)) is None
    start_ms, end_ms = sounding_ms(Clip(loud, RATE)) or (0, 0)
    assert abs(start_ms - 250) <= 20 and abs(end_ms - 500) <= 20
    assert sounding_ms(Clip(quiet[:10], RATE)) is None
