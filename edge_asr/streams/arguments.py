"""What the methods of a stream are called with, checked."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any, get_args

import numpy as np

from edge_asr.errors import UsageError, shown
from edge_asr.events import GapReason


def check_gap(duration_ms: int, reason: object) -> None:
    """Raise UsageError for a gap that cannot be declared."""
    reasons = ", ".join(get_args(GapReason))
    message = (
        f"gap of {duration_ms} ms for {shown(reason)}; allowed are durations from 0 and the "
        f"reasons {reasons}"
    )
    if duration_ms < 0:
        raise UsageError(
            message, field="duration_ms", value=duration_ms, allowed="durations from 0"
        )
    if not isinstance(reason, str) or reason not in get_args(GapReason):
        raise UsageError(message, field="reason", value=reason, allowed=reasons)


def as_timeout_s(value: Any) -> float:
    """A timeout in seconds; infinite where it is None.

    Raises:
        UsageError: it is no number from 0.
    """
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
        raise UsageError.of_setting("timeout_s", value, "numbers from 0, and None")
    return float(value)


def as_integer(value: Any, field: str, what: str) -> int:
    """A Python integer, which never overflows, of any kind of whole number; ``what`` names the
    setting in a message.

    Raises:
        UsageError: it is no whole number.
    """
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError("a number to Python, but nobody means it")
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return int(value)
        return operator.index(value)
    except TypeError as error:
        allowed = "whole numbers"
        message = f"{what} is {shown(value)}; allowed are {allowed}"
        raise UsageError(message, field=field, value=value, allowed=allowed) from error
