"""What a microphone delivers: too much, nothing but silence, a burst after a delay."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asr.microphone.clock import MS, Block
from edge_asr.microphone.health import SignalCheck, SpeedCheck

RATE = 16000
BLOCK_MS = 50
SAMPLES = np.zeros((RATE * BLOCK_MS // 1000, 1), np.float32)


def block(at_ms: float) -> Block:
    return Block(SAMPLES, RATE, round(at_ms * MS))


def test_speed_of_a_runaway_clock() -> None:
    check = SpeedCheck()
    assert not any(check.push(block(index * BLOCK_MS)) for index in range(1000))
    assert any(check.push(block(50_000 + index)) for index in range(30))


def test_speed_allows_a_burst_after_a_pause() -> None:
    check = SpeedCheck()
    check.push(block(0))
    assert not any(check.push(block(9000 + index)) for index in range(180))


@pytest.mark.parametrize("late_at", [190, 201, 250])
def test_speed_allows_a_burst_after_a_late_block(late_at: int) -> None:
    check = SpeedCheck()
    found = [check.push(block(index * BLOCK_MS)) for index in range(late_at)]
    until_ms = late_at * BLOCK_MS + 3000
    found += [check.push(block(until_ms + index)) for index in range(60)]
    assert not any(found)


def test_losses_of_days_do_not_hide_a_runaway_clock() -> None:
    check = SpeedCheck()
    assert not any(check.push(block(index * 1.05 * BLOCK_MS)) for index in range(10_000))
    assert any(check.push(block(10_000 * 1.05 * BLOCK_MS + index)) for index in range(30))


def test_digital_silence_is_told_once_and_so_is_its_end() -> None:
    check = SignalCheck()
    quiet = [check.push(block(index)) for index in range(60)]
    assert quiet.index("silent") == 2000 // BLOCK_MS - 1
    assert quiet.count("silent") == 1
    noise = Block(np.array([[0.0], [1e-5]], np.float32), RATE, 0)
    assert [check.push(noise), check.push(noise)] == ["signal", None]


def test_a_stuck_value_and_a_dead_channel() -> None:
    stuck, half_dead = SignalCheck(), SignalCheck()
    for index in range(60):
        ramp = np.linspace(-1, 1, len(SAMPLES))
        stuck.push(Block(SAMPLES + 0.25, RATE, index))
        half_dead.push(Block(np.stack([0 * ramp, ramp], 1), RATE, index))
    assert stuck.is_silent
    assert not half_dead.is_silent
