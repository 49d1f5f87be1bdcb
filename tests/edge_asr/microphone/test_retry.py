"""When the microphone is tried again, in a time of our own."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_asr.microphone.retry import (
    LONGEST_PAUSE_S,
    LOOSE_PAUSE_S,
    PAUSE_PER_OUTAGE,
    SHORTEST_PAUSE_S,
    Retry,
    _surroundings,
)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield clock


def attempts(retry: Retry, clock: Clock, for_s: float, cost_s: float = 0.0) -> list[float]:
    """The times, since now, of attempts that all fail."""
    began, times = clock.now, []
    while clock.now < began + for_s:
        if retry.wait(0.1):
            times.append(clock.now - began)
            clock.now += cost_s
            retry.failed()
    return times


def test_the_first_attempt_is_at_once(clock: Clock) -> None:
    assert Retry().wait(0.1)


def test_never_sleeps_longer_than_it_may(clock: Clock) -> None:
    retry = Retry()
    attempts(retry, clock, 100)
    before = clock.now
    retry.wait(0.1)
    assert clock.now - before <= 0.1 + 1e-9


def test_an_outage_ends_soon_after_it_could(clock: Clock) -> None:
    times = attempts(Retry(), clock, 600)
    for before, after in itertools.pairwise(times):
        assert after - before <= max(SHORTEST_PAUSE_S, PAUSE_PER_OUTAGE * before) + 0.101
        assert after - before <= LONGEST_PAUSE_S + 0.101


def test_waiting_for_ten_minutes_is_cheap(clock: Clock) -> None:
    assert len(attempts(Retry(), clock, 600, cost_s=0.08)) <= 110


def test_after_a_success_it_is_quick_again(clock: Clock) -> None:
    retry = Retry()
    attempts(retry, clock, 100)
    retry.succeeded()
    retry.failed()
    assert attempts(retry, clock, 1)[0] <= SHORTEST_PAUSE_S + 1e-6


def test_a_loose_cable_is_followed(clock: Clock) -> None:
    retry = Retry()
    attempts(retry, clock, 600)
    retry.failed(heard=True)
    times = attempts(retry, clock, 3)
    assert times[0] <= LOOSE_PAUSE_S + 1e-6
    # Gone again: that is a new silence, whatever was before.
    assert max(after - before for before, after in itertools.pairwise(times)) <= 0.5
    retry.failed(heard=True)
    assert (
        attempts(retry, clock, 1)[0] > SHORTEST_PAUSE_S
    )  # but no device is restarted all the time


@pytest.mark.parametrize("appears", ["run", "run/pulse", ".asoundrc"])
def test_something_new_is_tried_at_once(clock: Clock, tmp_path: Path, appears: str) -> None:
    (tmp_path / appears).parent.mkdir(exist_ok=True)
    retry = Retry()
    attempts(retry, clock, 200)
    assert not retry.wait(0.0)
    path = tmp_path / appears
    path.touch() if appears == ".asoundrc" else path.mkdir()
    assert retry.wait(0.0)
    retry.failed()  # the device is not quite ready
    assert attempts(retry, clock, 1)[0] <= SHORTEST_PAUSE_S + 1e-6


def test_surroundings_of_a_bare_machine(clock: Clock) -> None:
    assert _surroundings() == _surroundings()


def test_what_goes_while_it_is_looked_at(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: True)  # and then it is gone
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert _surroundings()[1:] == (0, 0, 0)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert Retry().wait(0)
