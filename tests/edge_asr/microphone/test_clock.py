"""The time account under everything that clocks and drivers do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.events import GapReason
from edge_asr.microphone.clock import (
    MS,
    SETTLE_NS,
    SUSPICIOUS_NS,
    Block,
    Heard,
    Lost,
    SignalCheck,
    SpeedCheck,
    TimeAccount,
)

RATE = 16000
BLOCK_MS = 50
SAMPLES = np.zeros((RATE * BLOCK_MS // 1000, 1), np.float32)


def block(at_ms: float, suspect: GapReason | None = None) -> Block:
    return Block(SAMPLES, RATE, round(at_ms * MS), suspect)


def steady(account: TimeAccount, from_ms: float, count: int) -> list[Heard]:
    """``count`` blocks, the first of which ends at ``from_ms`` + 50."""
    heard: list[Heard] = []
    for index in range(1, count + 1):
        heard += account.push(block(from_ms + index * BLOCK_MS))
    return heard


def lost(heard: list[Heard]) -> list[Lost]:
    return [item for item in heard if isinstance(item, Lost)]


def heard_ms(heard: list[Heard]) -> int:
    return sum(BLOCK_MS if isinstance(item, Block) else item.duration_ms for item in heard)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Block], list[tuple[int, float]], float, float]:
    """Blocks of a device with jitter, drift and losses.

    Returns the blocks, the losses (index of the block after it, ms), when the last block ended
    by the true clock in ms, and the most that a callback was late.
    """
    ppm = draw(st.integers(-900, 900))
    most_late_ms = draw(st.sampled_from([0, 5, 30, 70]))
    lateness = draw(st.lists(st.floats(0, most_late_ms), min_size=200, max_size=400))
    places = draw(st.sets(st.integers(20, len(lateness) - 20), max_size=4))
    places = {place for place in places if not places & set(range(place - 12, place))}
    losses = [(place, draw(st.floats(100, 5000))) for place in sorted(places)]
    flagged = draw(st.booleans())
    true_ms, last_ms = 0.0, 0.0
    blocks = []
    for index, late_ms in enumerate(lateness):
        missing_ms = dict(losses).get(index, 0.0)
        true_ms += BLOCK_MS * (1 + ppm * 1e-6) + missing_ms
        last_ms = max(last_ms, true_ms + late_ms)  # callbacks come in order
        blocks.append(block(1e6 + last_ms, "overflow" if missing_ms and flagged else None))
    return blocks, losses, true_ms, most_late_ms


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(histories())
def test_wall_time_is_heard_plus_lost(
    history: tuple[list[Block], list[tuple[int, float]], float, float],
) -> None:
    blocks, losses, true_ms, most_late_ms = history
    account = TimeAccount()
    heard = [item for block in blocks for item in account.push(block)]
    heard += account.flush()
    assert [item for item in heard if isinstance(item, Block)] == blocks
    assert account.accounted_ns == heard_ms(heard) * MS
    # The stamps of the blocks are late by up to most_late_ms: that is what one cannot know.
    assert heard_ms(heard) == pytest.approx(true_ms, abs=max(20.0, 1.5 * most_late_ms) + 2)
    gaps = [item.duration_ms for item in lost(heard)]
    assert len(gaps) == len(losses)
    for gap_ms, (_, missing_ms) in zip(gaps, losses, strict=True):
        assert gap_ms == pytest.approx(missing_ms, abs=max(10.0, most_late_ms) + 2)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(histories())
def test_a_loss_is_declared_where_it_was(
    history: tuple[list[Block], list[tuple[int, float]], float, float],
) -> None:
    blocks, losses, _, _ = history
    account = TimeAccount()
    heard = [item for block in blocks for item in account.push(block)] + account.flush()
    after = [
        index - number
        for number, index in enumerate(
            index for index, item in enumerate(heard) if isinstance(item, Lost)
        )
    ]
    assert after == [place for place, _ in losses]


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-1000, 1000])
def test_a_day_on_another_crystal_has_no_gap(ppm: int) -> None:
    account = TimeAccount()
    gaps = []
    second = Block(np.zeros((RATE, 1), np.float32), RATE, 0)
    for count in range(1, 86_401):
        at_ns = round(count * 1e9 * (1 + ppm * 1e-6)) + count * 7919 % 20 * MS
        gaps += lost(account.push(Block(second.samples, RATE, at_ns)))
    assert gaps == []


def test_a_late_burst_is_no_loss() -> None:
    account = TimeAccount()
    heard = steady(account, 0, 20)
    # The callback thread slept 500 ms, and the buffer of the device held it all.
    for index in range(21, 31):
        heard += account.push(block(1500 + index / 100))
    heard += steady(account, 1500, 10)
    assert lost(heard) == []
    assert heard_ms(heard) == 2000


def test_a_held_block_is_held_no_longer_than_it_takes_to_settle() -> None:
    account = TimeAccount()
    steady(account, 0, 20)
    assert account.push(block(1000 + BLOCK_MS + 300)) == []
    heard = steady(account, 1350, SETTLE_NS // MS // BLOCK_MS)
    assert heard[0] == Lost(300, "overflow")
    assert sum(isinstance(item, Block) for item in heard) == 1 + SETTLE_NS // MS // BLOCK_MS


def test_what_an_interruption_cost_has_its_reason() -> None:
    account = TimeAccount()
    steady(account, 0, 10)
    assert account.interrupt("unplugged") == []
    heard = steady(account, 3500, 10)
    assert heard[0] == Lost(3000, "unplugged")
    assert lost(heard[1:]) == []


def test_a_second_loss_while_the_first_is_judged() -> None:
    account = TimeAccount()
    steady(account, 0, 10)
    heard = account.push(block(750, "overflow"))
    heard += account.push(block(950, "overload"))
    heard += steady(account, 950, 10)
    assert [gap.duration_ms for gap in lost(heard)] == pytest.approx([200, 150], abs=2)
    assert heard_ms(heard) == 1450 - 500


def test_the_end_declares_what_the_interruption_cost() -> None:
    account = TimeAccount()
    steady(account, 0, 10)
    account.interrupt("stalled")
    assert account.finish(2500 * MS, "overload") == [Lost(2000, "stalled")]


def test_the_end_declares_what_nobody_read() -> None:
    account = TimeAccount()
    steady(account, 0, 10)
    assert account.finish(2500 * MS, "overload") == [Lost(2000, "overload")]


def test_the_end_of_a_healthy_microphone_declares_nothing() -> None:
    account = TimeAccount()
    steady(account, 0, 10)
    assert account.finish(560 * MS, "overload") == []
    assert TimeAccount().finish(560 * MS, "overload") == []


def test_no_audio_is_ever_kept_at_the_end() -> None:
    account = TimeAccount()
    steady(account, 0, 10)
    late = block(500 + BLOCK_MS + SUSPICIOUS_NS / MS + 20)
    assert account.push(late) == []
    assert account.finish(late.at_ns, "overload") == [Lost(100, "overflow"), late]


def test_speed_of_a_runaway_clock() -> None:
    check = SpeedCheck()
    assert not any(check.push(block(index * BLOCK_MS)) for index in range(1000))
    assert any(check.push(block(50_000 + index)) for index in range(30))


def test_speed_allows_a_burst_after_a_pause() -> None:
    check = SpeedCheck()
    check.push(block(0))
    assert not any(check.push(block(9000 + index)) for index in range(180))


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


def test_accounted_time_only_grows() -> None:
    account = TimeAccount()
    seen = [account.accounted_ns]
    for at_ms in (50, 100, 90, 2000, 2050, 2051, 2300, 2350):
        account.push(block(at_ms))
        seen.append(account.accounted_ns)
    assert all(before <= after for before, after in pairwise(seen))
