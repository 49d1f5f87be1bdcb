"""A signal that raises, as Ctrl-C does, in any function of the runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from edge_asr.events import Event
from tests.edge_asr.streams.test_steps import play
from tests.edge_asr.streams.timeline import Faults, Interrupted, Timelines, timelines

# Where Python looks for signals on its way through a stream: at the beginning of functions.
PLACES = ("/edge_asr/streams/", "/edge_asr/search/", "/edge_asr/audio/")
SEED = 123  # a stream with segments, a gap and several rates


class Signal:
    """Arrives with the call that has this number, of those of the runtime."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def during(self, call: Callable[[], list[Event]]) -> list[Event]:
        sys.settrace(self._trace)
        try:
            return call()
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if "/tests/" not in file and any(place in file for place in PLACES):
            self.calls += 1
            if self.calls == self.at:
                raise Interrupted


def interrupted(made: Timelines, at: int) -> int:
    """Check a stream that a signal interrupts; how many calls there were."""
    draw, signal = np.random.default_rng(SEED), Signal(at)
    line = made.open(Faults(), 5)
    line.around = signal.during
    try:
        play(line, draw, 7)
    except BaseException as error:
        error.add_note(f"after a signal in call {at}")
        raise
    return signal.calls


def check_signals(every: int) -> None:
    with timelines() as made:
        calls = interrupted(made, 0)
        assert calls > 500
        for at in range(1, calls + 1, every):
            interrupted(made, at)


def test_a_signal_costs_a_step_at_most() -> None:
    check_signals(every=9)


@pytest.mark.slow
def test_a_signal_in_any_function_costs_a_step_at_most() -> None:
    check_signals(every=1)
