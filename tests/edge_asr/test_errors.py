"""The tree of errors, and what an error of a setting knows."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from edge_asr import errors
from edge_asr.errors import UsageError, check_number, check_type, settings_of, shown


def test_every_code_of_the_tree_is_one_of_sysexits() -> None:
    kinds = [errors.EdgeAsrError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds} == {64, 65, 66, 69, 70, 73, 74, 78}


def test_an_error_of_a_setting_is_a_message_and_data() -> None:
    error = UsageError.of_setting("beam", 0, "1 to 64")
    assert str(error) == "beam is 0; allowed are 1 to 64"
    assert (error.field, error.value, error.allowed) == ("beam", 0, "1 to 64")
    assert str(error.renamed("--beam")) == "--beam is 0; allowed are 1 to 64"
    own = UsageError("beam 0 is too few", field="beam", value=0, allowed="1 to 64")
    assert str(own.renamed("--beam")) == "--beam 0 is too few"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_an_error_of_no_one_setting_says_so() -> None:
    error = UsageError("--realtime is for --input FILE")
    assert (error.field, error.value, error.allowed) == ("", None, "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("best", "'best'"),
        (0.5, "0.5"),
        (None, "None"),
        ("x" * 5000, None),
        ([[[[[[[[1]]]]]]]] * 99, None),
        ({str(n): n for n in range(99)}, None),
        (10**4000, None),
    ],
)  # fmt: skip
def test_a_message_is_short_whatever_the_value(value: object, shown: str | None) -> None:
    error = UsageError.of_setting("beam", value, "1 to 64")
    assert len(str(error)) < 200
    assert error.value is value
    if shown is not None:
        assert str(error) == f"beam is {shown}; allowed are 1 to 64"


def test_the_group_of_a_setting_is_put_before_it() -> None:
    with pytest.raises(UsageError) as caught, settings_of("endpoint"):
        raise UsageError.of_setting("silence_ms", 1, "80 to 30000 ms")
    assert caught.value.field == "endpoint.silence_ms"
    assert str(caught.value) == "endpoint.silence_ms is 1; allowed are 80 to 30000 ms"
    with pytest.raises(UsageError, match=r"^silence_ms and hold_ms$"), settings_of("endpoint"):
        raise UsageError("silence_ms and hold_ms")


@pytest.mark.parametrize(
    ("value", "types"),
    [(None, int), ("1", int), (True, int), (True, int | None), (1, bool), (1.0, int | None)],
)
def test_a_type_that_is_not_meant(value: object, types: type) -> None:
    with pytest.raises(UsageError) as caught:
        check_type("threads", value, types, "1 to 64")
    assert str(caught.value) == f"threads is {value!r}; allowed are 1 to 64"
    assert caught.value.field == "threads"


@pytest.mark.parametrize(("value", "types"), [(1, int), (None, int | None), (True, bool)])
def test_a_type_that_is_meant(value: object, types: type) -> None:
    check_type("threads", value, types, "1 to 64")


@pytest.mark.parametrize(
    "value", [2.5, 2.0, np.float32(2), "2", None, True, np.True_, [2], math.nan]
)
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        check_number("beam", value, 1, 64, "1 to 64", whole=True)
    assert caught.value.allowed == "whole numbers, 1 to 64"
    assert (caught.value.field, caught.value.value) == ("beam", value)


@pytest.mark.parametrize("value", ["2", None, True, np.True_, 2j, np.zeros(2)])
def test_what_is_no_number(value: object) -> None:
    for allowed, words in (("0 to 9", "numbers, 0 to 9"), ("numbers from 0", "numbers from 0")):
        with pytest.raises(UsageError) as caught:
            check_number("margin", value, 0, 9, allowed)
        assert caught.value.allowed == words


@pytest.mark.parametrize("value", [-1, 10, math.nan, math.inf, np.float32(9.5), np.int8(-1)])
def test_a_number_out_of_its_range(value: float) -> None:
    with pytest.raises(UsageError, match=r"margin is .*; allowed are 0 to 9"):
        check_number("margin", value, 0, 9, "0 to 9")


def test_a_number_that_is_allowed() -> None:
    for value in (0, 9, 2.5, np.float32(2.5), np.int64(3), Fraction(1, 3)):
        check_number("margin", value, 0, 9, "0 to 9")
    check_number("beam", np.int16(64), 1, 64, "1 to 64", whole=True)
    check_number("score_beam", math.inf, 0, math.inf, "0 to inf")
    with pytest.raises(UsageError):  # nothing can be calculated with it
        check_number("score_beam", 10**400, 0, math.inf, "0 to inf")


def test_a_value_is_shown_on_one_short_line() -> None:
    class Tall:
        def __repr__(self) -> str:
            return "[1\n 2]" * 99

    assert "\n" not in shown(Tall()) and len(shown(Tall())) <= 80
    assert len(shown(10**200)) <= 80 and len(shown("x" * 999)) <= 80
