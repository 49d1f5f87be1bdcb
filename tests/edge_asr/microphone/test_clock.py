"""The time account under everything that clocks and drivers do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.events import GapReason
from edge_asr.microphone.clock import (
    LONGEST_HOLD_NS,
    MS,
    SETTLE_NS,
    SUSPICIOUS_NS,
    Block,
    Heard,
    Lost,
    TimeAccount,
)

RATE = 16000
BLOCK_MS = 50
SAMPLES = np.zeros((RATE * BLOCK_MS // 1000, 1), np.float32)


class Ear:
    """Keeps the account of what it hears."""

    def __init__(self) -> None:
        self.account = TimeAccount()

    def push(self, block: Block) -> list[Heard]:
        self.account, heard = self.account.push(block)
        return heard

    def interrupt(self, reason: GapReason) -> list[Heard]:
        self.account, heard = self.account.interrupt(reason)
        return heard

    def finish(self, at_ms: float, unread: GapReason) -> list[Heard]:
        self.account, heard = self.account.finish(round(at_ms * MS), unread)
        return heard

    def steady(self, from_ms: float, count: int) -> list[Heard]:
        """``count`` blocks, the first of which ends at ``from_ms`` + 50."""
        blocks = [block(from_ms + index * BLOCK_MS) for index in range(1, count + 1)]
        return [item for block in blocks for item in self.push(block)]


def block(at_ms: float, overflow: bool = False, dropped_ms: int = 0, waited_ms: int = 0) -> Block:
    dropped = dropped_ms * RATE // 1000
    return Block(SAMPLES, RATE, round(at_ms * MS), overflow, dropped, waited_ms * MS)


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
        blocks.append(block(1e6 + last_ms, bool(missing_ms) and flagged))
    return blocks, losses, true_ms, most_late_ms


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(histories())
def test_wall_time_is_heard_plus_lost(
    history: tuple[list[Block], list[tuple[int, float]], float, float],
) -> None:
    blocks, losses, true_ms, most_late_ms = history
    ear = Ear()
    heard = [item for block in blocks for item in ear.push(block)]
    heard += ear.interrupt("stalled")
    assert [item for item in heard if isinstance(item, Block)] == blocks
    assert ear.account.accounted_ns == heard_ms(heard) * MS
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
    ear = Ear()
    heard = [item for block in blocks for item in ear.push(block)]
    heard += ear.interrupt("stalled")
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
    ear = Ear()
    gaps = []
    second = Block(np.zeros((RATE, 1), np.float32), RATE, 0)
    for count in range(1, 86_401):
        at_ns = round(count * 1e9 * (1 + ppm * 1e-6)) + count * 7919 % 20 * MS
        gaps += lost(ear.push(Block(second.samples, RATE, at_ns)))
    assert gaps == []


def test_a_late_burst_is_no_loss() -> None:
    ear = Ear()
    heard = ear.steady(0, 20)
    # The callback thread slept 500 ms, and the buffer of the device held it all.
    for index in range(21, 31):
        heard += ear.push(block(1500 + index / 100))
    heard += ear.steady(1500, 10)
    assert lost(heard) == []
    assert heard_ms(heard) == 2000


def test_a_held_block_is_held_no_longer_than_it_takes_to_settle() -> None:
    ear = Ear()
    ear.steady(0, 20)
    assert ear.push(block(1000 + BLOCK_MS + 300)) == []
    heard = ear.steady(1350, SETTLE_NS // MS // BLOCK_MS)
    assert heard[0] == Lost(300, "overflow")
    assert sum(isinstance(item, Block) for item in heard) == 1 + SETTLE_NS // MS // BLOCK_MS


@pytest.mark.parametrize("block_ms", [10, 20, 32, 50])
@pytest.mark.parametrize("late_ms", range(60, 200, 5))
def test_one_callback_that_is_late_changes_nothing(block_ms: int, late_ms: int) -> None:
    ear, free_ms, heard = Ear(), 0.0, []
    blocks = []
    for count in range(1, 2000 // block_ms):
        free_ms = max(1000.0 + count * block_ms, free_ms + 0.1)
        free_ms += late_ms * (count == 1000 // block_ms)
        samples = np.full((RATE * block_ms // 1000, 1), count, np.float32)
        blocks.append(Block(samples, RATE, round(free_ms * MS)))
        heard += ear.push(blocks[-1])
    assert heard == blocks


def test_a_block_that_waited_is_not_held() -> None:
    ear = Ear()
    ear.push(block(0, waited_ms=20))  # so much it says of every block
    ear.steady(0, 20)
    late = block(1000 + BLOCK_MS + 190, waited_ms=190)
    assert ear.push(late) == [late]
    assert ear.push(block(1000 + BLOCK_MS + 190 + 300, waited_ms=20)) == []


@pytest.mark.parametrize("lost_ms", [10, 20, 75])
def test_a_loss_too_small_for_suspicion_is_found_in_seconds(lost_ms: int) -> None:
    ear = Ear()
    ear.steady(0, 100)
    assert lost(ear.steady(5000 + lost_ms, 130)) == [Lost(lost_ms, "overflow")]


def test_a_driver_that_counts_samples_hides_no_loss() -> None:
    ear = Ear()
    ear.steady(0, 100)
    # It believes that the blocks after a loss have waited for as long as was lost.
    late = [block(5150 + index * BLOCK_MS, waited_ms=150) for index in range(1, 130)]
    assert lost([item for block in late for item in ear.push(block)]) == [Lost(150, "overflow")]


def test_what_was_not_lost_after_all_is_kept_back_from_the_next_loss() -> None:
    ear = Ear()
    ear.steady(0, 40)
    # The thread is late for seconds, and steadily: it looks like a loss.
    assert lost(ear.steady(2150, 20)) == [Lost(150, "overflow")]
    heard = ear.steady(3000, 40)
    ear.push(block(5450, overflow=True))
    heard += ear.steady(5450, 10)
    assert lost(heard) == [Lost(250, "overflow")]
    assert heard_ms(heard) == 5950 - 3000 - 150


def test_fractions_of_milliseconds_add_up() -> None:
    ear, at_ms, heard = Ear(), 0.0, []
    for _ in range(9):
        heard += ear.steady(at_ms, 10)
        at_ms += 500 + 100.4
        ear.push(block(at_ms + BLOCK_MS, overflow=True))
        heard += ear.steady(at_ms + BLOCK_MS, 10)
        at_ms += 550
    gaps = [gap.duration_ms for gap in lost(heard)]
    assert set(gaps) == {100, 101}
    assert sum(gaps) == round(9 * 100.4)


def test_what_the_capture_process_dropped_is_known_at_once() -> None:
    ear = Ear()
    ear.steady(0, 20)
    ear.push(block(1000 + BLOCK_MS + 150))  # late, and still held
    after = block(1000 + 30_000 + 2 * BLOCK_MS, dropped_ms=30_000)
    assert ear.push(after)[1:] == [Lost(30_000, "overload"), after]
    assert lost(ear.steady(31_100, 100)) == []


def test_what_was_dropped_at_the_start_is_a_loss_too() -> None:
    ear = Ear()
    first = block(3000, dropped_ms=2000)
    assert ear.push(first) == [Lost(2000, "overload"), first]
    assert lost(ear.steady(3000, 100)) == []


def test_a_known_loss_explains_the_blocks_that_were_late_before_it() -> None:
    ear = Ear()
    ear.steady(0, 20)
    # The thread slept 300 ms; the device kept 200 ms of it, and says so.
    heard = [item for _ in range(4) for item in ear.push(block(1350))]
    heard += ear.push(block(1350, overflow=True))
    heard += ear.steady(1350, 10)
    assert heard[4] == Lost(100, "overflow")
    assert len(lost(heard)) == 1


def test_late_blocks_before_an_interruption_are_only_late() -> None:
    ear = Ear()
    ear.steady(0, 20)
    late = block(1000 + BLOCK_MS + 150)
    ear.push(late)
    assert ear.interrupt("stalled") == [late]
    assert lost(ear.steady(4000, 10)) == [Lost(2950, "stalled")]


def test_no_device_makes_a_listener_wait_for_ever() -> None:
    ear = Ear()
    ear.steady(0, 20)
    # Always later than its buffer, and always catching up a little.
    waiting = [ear.push(block(3050 + index * 45)) for index in range(30)]
    assert any(waiting[: LONGEST_HOLD_NS // MS // 45 + 2])


def test_what_an_interruption_cost_has_its_reason() -> None:
    ear = Ear()
    ear.steady(0, 10)
    assert ear.interrupt("unplugged") == []
    heard = ear.steady(3500, 10)
    assert heard[0] == Lost(3000, "unplugged")
    assert lost(heard[1:]) == []


def test_a_second_loss_while_the_first_is_judged() -> None:
    ear = Ear()
    ear.steady(0, 10)
    heard = ear.push(block(750, overflow=True))
    heard += ear.push(block(950, overflow=True))
    heard += ear.steady(950, 10)
    assert [gap.duration_ms for gap in lost(heard)] == pytest.approx([200, 150], abs=2)
    assert heard_ms(heard) == 1450 - 500


def test_the_end_declares_what_the_interruption_cost() -> None:
    ear = Ear()
    ear.steady(0, 10)
    ear.interrupt("stalled")
    assert ear.finish(2500, "overload") == [Lost(2000, "stalled")]


def test_the_end_declares_what_nobody_read() -> None:
    ear = Ear()
    ear.steady(0, 10)
    assert ear.finish(2500, "overload") == [Lost(2000, "overload")]


def test_the_end_of_a_healthy_microphone_declares_nothing() -> None:
    ear = Ear()
    ear.steady(0, 10)
    assert ear.finish(560, "overload") == []
    assert Ear().finish(560, "overload") == []


def test_no_audio_is_ever_kept_at_the_end() -> None:
    ear = Ear()
    ear.steady(0, 10)
    late = block(500 + BLOCK_MS + SUSPICIOUS_NS / MS + 40)
    assert ear.push(late) == []
    # What comes after a late block was not read. It is not lost before it.
    assert ear.finish(late.at_ns / MS, "overload") == [late, Lost(120, "overload")]


def test_accounted_time_only_grows() -> None:
    ear = Ear()
    seen = [ear.account.accounted_ns]
    for at_ms in (50, 100, 90, 2000, 2050, 2051, 2300, 2350):
        ear.push(block(at_ms))
        seen.append(ear.account.accounted_ns)
    assert all(before <= after for before, after in pairwise(seen))
