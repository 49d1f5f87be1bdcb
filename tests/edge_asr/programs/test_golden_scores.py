"""Golden scores accept integers that moved, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edge_asr.backends import DecoderScores, FloatArray, IntArray
from edge_asr.errors import PackageError
from edge_asr.programs.golden_scores import (
    GoldenScores,
    check_scores,
    complaint,
    read_scores,
    run_cases,
)
from tests.tiny import DECODER

CASES, COUNT, UNITS, SIDES, EXPERTS = 16, 2, 3, 2, 4
FRAMES, DIM, VOCAB = 5, 3, 9
FLOOR, CAP = 1e-5, 1.0
SHAPE = (CASES, COUNT, UNITS + 1, SIDES)


def golden() -> GoldenScores:
    """An expert layer for each side; each place visits one expert."""
    rng = np.random.default_rng(0)
    places = np.arange(CASES * COUNT * (UNITS + 1) * SIDES).reshape(*SHAPE, 1)
    return GoldenScores(
        rng.standard_normal((CASES, FRAMES, DIM)).astype(np.float16).astype(np.float32),
        rng.integers(0, VOCAB, (CASES, COUNT, UNITS)),
        -rng.random(SHAPE).astype(np.float32),
        np.full(SHAPE, FLOOR, np.float32),
        CAP,
        places // SIDES % EXPERTS,
        np.arange(SIDES),
    )


def arrays(given: GoldenScores) -> dict[str, Any]:
    return {
        "short_memory": given.memory.astype(np.float16),
        "short_hyps": given.hyps,
        "short_expected_int8": given.expected,
        "short_bound_int8": given.bound,
        "short_cap_int8": np.array(given.cap, np.float32),
        "short_experts_int8": given.experts.astype(np.uint8),
        "short_sides_int8": given.sides.astype(np.uint8),
    }


class Recited:
    """Gives the scores of the cases one after another, in the order of the text."""

    def __init__(self, scores: FloatArray) -> None:
        self.scores = iter(scores)

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        assert hyp_lengths.tolist() == [UNITS] * COUNT and encoder_out.shape == (1, FRAMES, DIM)
        left, backwards = np.moveaxis(next(self.scores), -1, 0)
        right = np.concatenate([backwards[:, :-1][:, ::-1], backwards[:, -1:]], axis=1)
        return DecoderScores(left, right)


def test_scores_are_compared_in_the_order_in_which_each_side_reads() -> None:
    given = golden()
    found = run_cases(Recited(given.expected), given)
    assert np.array_equal(found, given.expected)
    check_scores(Recited(given.expected), given, "x")


def test_integers_that_moved_in_a_few_scores_are_no_complaint() -> None:
    given = golden()
    found = given.expected.copy()
    found[3, 1, 2:, 0] += 0.01
    found[9, 0, :, 1] -= 0.01
    assert complaint(found, given) is None


@pytest.mark.parametrize("wrong", [-2.1, np.nan, -np.inf])
def test_more_than_an_integer_can_do_is_refused(wrong: float) -> None:
    given = golden()
    found = given.expected.copy()
    found[11, 0, 3, 1] = wrong
    assert "allowed 1" in str(complaint(found, given))


@pytest.mark.parametrize("side", [0, 1])
def test_many_scores_of_a_side_that_differ_are_refused(side: int) -> None:
    given = golden()
    found = given.expected.copy()
    found[::2, :, :, side] += 2 * FLOOR
    words = "right to left" if side else "left to right"
    assert complaint(found, given) == f"scores of 4 of 8 hypotheses {words} differ; 25% may"


def test_an_expert_whose_places_differ_is_named() -> None:
    given = golden()
    experts = np.where(given.experts == 2, 0, given.experts)
    experts[5::4, 1, 1, 1] = 2
    given = dataclasses.replace(given, experts=experts)
    found = given.expected.copy()
    visits = (experts[..., 1, :] == 2).any(-1)
    found[..., 1][visits] += 2 * FLOOR
    with pytest.raises(PackageError, match="expert 2 of expert layer 1 of the decoders: 3 of 3"):
        check_scores(Recited(found), given, "x")


def test_what_the_first_cases_show_is_enough() -> None:
    given = golden()
    found = given.expected.copy()
    found[:4, :, :, 0] += 2 * FLOOR
    assert complaint(found, given) is not None


def test_another_number_of_scores_is_refused() -> None:
    given = golden()
    assert "not (2, 4, 2)" in str(complaint(given.expected[:, :, :-1], given))


def test_what_travels_with_a_package_is_read_again() -> None:
    given = golden()
    read = read_scores(arrays(given), "int8", DECODER, DIM, VOCAB, "x")
    for field in dataclasses.fields(GoldenScores):
        assert np.array_equal(getattr(read, field.name), getattr(given, field.name)), field.name


DAMAGE = {
    "hyps": lambda a: a + VOCAB,
    "memory": lambda a: a[:, :, :-1],
    "expected_int8": lambda a: np.where(a > -0.5, np.float32("nan"), a),
    "bound_int8": lambda a: a[:-1],
    "cap_int8": lambda a: a[None],
    "experts_int8": lambda a: a[:, :, :-1],
    "sides_int8": lambda a: a + 2,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    given = arrays(golden())
    given[f"short_{name}"] = DAMAGE[name](given[f"short_{name}"])
    with pytest.raises(PackageError, match="do not fit"):
        read_scores(given, "int8", DECODER, DIM, VOCAB, "x")


@pytest.mark.parametrize("name", DAMAGE)
def test_arrays_that_are_missing_are_named(name: str) -> None:
    given = arrays(golden())
    del given[f"short_{name}"]
    with pytest.raises(PackageError, match=f"holds no 'short_{name}'"):
        read_scores(given, "int8", DECODER, DIM, VOCAB, "x")
