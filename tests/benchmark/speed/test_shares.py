"""Where time goes: seconds of a clock that the test moves, and a page of a tiny package."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_asr
from benchmark.speed.shares import Account, main, play_round
from edge_asr.bench.play import Clip
from edge_asr.search.prefix import PrefixSearch


def test_a_part_is_without_what_it_calls() -> None:
    now = 0.0
    account = Account(lambda: now)

    def pass_s(seconds: float) -> None:
        nonlocal now
        now += seconds

    inner = account.timed("inner", lambda: pass_s(5))

    def work() -> None:
        pass_s(1)
        inner()
        pass_s(2)

    account.timed("outer", work)()
    pass_s(100)  # in no part
    inner()
    assert account.spent_s == {"outer": 3, "inner": 10}


def test_time_is_accounted_for_where_a_part_raises() -> None:
    now = 0.0
    account = Account(lambda: now)

    def fail() -> None:
        nonlocal now
        now += 4
        raise ValueError

    with pytest.raises(ValueError):
        account.timed("failing", fail)()
    account.timed("other", lambda: None)()
    assert account.spent_s == {"failing": 4, "other": 0}
