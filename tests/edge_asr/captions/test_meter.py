"""What the live view shows of level, clipping and load."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asr.captions.meter import Meter


def push(meter: Meter, amplitude: float, duration_s: float = 0.05, work_s: float = 0.0) -> None:
    samples = np.full((round(16000 * duration_s), 1), amplitude, np.float32)
    samples[::2] *= -1
    meter.push(samples, duration_s, work_s)


def test_the_meter_rises_at_once_and_falls_slowly() -> None:
    meter = Meter()
    push(meter, 0.1)
    assert meter.level_db == pytest.approx(-20, abs=0.1)
    push(meter, 0.0)
    assert -25 < meter.level_db < -20
    for _ in range(100):
        push(meter, 0.0)
    assert meter.level_db == -90
    push(meter, 0.0, 0.0)


def test_one_clipped_block_is_seen_for_a_second() -> None:
    meter = Meter()
    assert not meter.clipping
    push(meter, 1.0)
    push(meter, 0.1, 0.9)
    assert meter.clipping
    push(meter, 0.1, 0.2)
    assert not meter.clipping


def test_the_load_is_work_per_audio() -> None:
    meter = Meter()
    for _ in range(400):
        push(meter, 0.1, work_s=0.025)
    assert meter.rtf == pytest.approx(0.5, abs=0.01)
