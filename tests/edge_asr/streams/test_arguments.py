"""Gaps, timeouts and whole numbers that a stream is given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_asr.errors import UsageError
from edge_asr.streams.arguments import as_integer, as_timeout_s, check_gap


@pytest.mark.parametrize("value", [7, 7.0, np.int16(7), np.float32(7)])
def test_any_kind_of_whole_number_is_an_integer_of_python(value: Any) -> None:
    found = as_integer(value, "gap", "gap in ms")
    assert (found, type(found)) == (7, int)


@pytest.mark.parametrize("value", [True, np.True_, 7.5, "7", None, float("nan"), float("inf")])
def test_nothing_else_is(value: Any) -> None:
    with pytest.raises(UsageError, match=r"gap in ms is .*; allowed are whole numbers") as caught:
        as_integer(value, "gap", "gap in ms")
    assert caught.value.field == "gap"


@pytest.mark.parametrize(
    ("duration_ms", "reason", "field"),
    [(-1, "overflow", "duration_ms"), (1, "boredom", "reason"), (1, ["overflow"], "reason")],
)
def test_a_gap_that_cannot_be_declared(duration_ms: int, reason: Any, field: str) -> None:
    check_gap(0, "overflow")
    with pytest.raises(UsageError, match="allowed are durations from 0 and the") as caught:
        check_gap(duration_ms, reason)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, math.inf), (0, 0.0), (np.float32(0.5), 0.5), (math.inf, math.inf)]
)
def test_timeouts(value: Any, seconds: float) -> None:
    assert as_timeout_s(value) == seconds


@pytest.mark.parametrize("value", [-1, -0.1, float("nan"), True, "1"])
def test_what_is_no_timeout(value: Any) -> None:
    with pytest.raises(UsageError, match="allowed are numbers from 0, and None") as caught:
        as_timeout_s(value)
    assert caught.value.field == "timeout_s"
