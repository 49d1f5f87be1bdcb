"""What is measured of a program is held to its bounds, one by one, whatever its role."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from export.parity import Bounds, Parity, ParityError, refuse

BOUNDS = Bounds(max_abs=1.0, mean_abs=0.1, agreement=0.9)
GOOD = Parity(
    backend="onnx",
    precision="int8",
    amounts={"segments": 3, "hypotheses": 30},
    max_abs=1.0,
    mean_abs=0.05,
    allowed_mean_abs=0.05,
    results="choices",
    compared=10,
    equal=9,
    golden_max_abs=3.0,
    golden_mean_abs=0.3,
)


def test_a_program_on_its_bounds_is_good() -> None:
    refuse(GOOD, BOUNDS, "onnx int8 decoder")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"max_abs": 1.01}, "max error 1.01"),
        ({"max_abs": math.nan}, "max error nan"),
        ({"mean_abs": 0.051}, "mean error 0.051"),  # inside BOUNDS, but noise explains less
        ({"mean_abs": math.nan}, "mean error nan"),
        ({"equal": 8}, "share of equal choices 0.8"),
    ],
)
def test_one_outside_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ParityError) as caught:
        refuse(dataclasses.replace(GOOD, **change), BOUNDS, "onnx int8 decoder")
    assert str(caught.value).startswith(f"onnx int8 decoder: {word} is outside the bounds")
    assert "0.05 here" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["golden_max_abs", "golden_mean_abs"])
def test_a_bound_that_is_not_finite_is_refused(name: str) -> None:
    with pytest.raises(ParityError, match=f"{name} is inf"):
        refuse(dataclasses.replace(GOOD, **{name: math.inf}), BOUNDS, "onnx int8")


def test_the_entries_of_parity_json() -> None:
    assert BOUNDS.row("choice") == {"max_abs": 1.0, "mean_abs": 0.1, "choice_agreement": 0.9}
    row = GOOD.row()
    assert (row["segments"], row["hypotheses"]) == (3, 30)
    assert (row["choices"], row["equal_choices"]) == (10, 9)
    assert list(row)[-2:] == ["golden_max_abs", "golden_mean_abs"]


def test_texts_that_say_nothing_prove_little() -> None:
    silent = dataclasses.replace(GOOD, results="texts", amounts={"steps": 3, "different_texts": 1})
    assert str(silent).endswith("which proves little: only 1 of them differ and say something")
    many = dataclasses.replace(silent, amounts={"steps": 3, "different_texts": 9})
    assert str(many).endswith("9 of 10 texts equal") and silent.row()["different_texts"] == 1
