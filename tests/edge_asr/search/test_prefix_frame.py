"""One frame of prefix search, worked out by hand: two units and blank, columns as ids."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_asr.fusion import Fusion
from edge_asr.search.prefix_beam import IN_BLANK, IN_UNIT, Beam
from edge_asr.search.prefix_frame import (
    Candidates,
    Frame,
    Growth,
    grow,
    merge_into_existing,
    stay,
    survivors,
)

BLANK, A, B = 0.5, 0.3, 0.2
ALL = np.arange(3)


def frame(beam: Beam, number: int = 0, blank_column: int = 0) -> Frame:
    log_probs = np.log([BLANK, A, B])
    blank = log_probs[0] if blank_column == 0 else -np.inf
    return Frame(number, ALL, log_probs, blank_column, blank, beam.last)


def candidates(beam: Beam, number: int) -> Candidates:
    in_blank, in_unit = stay(beam, frame(beam, number))
    grown = grow(beam, frame(beam, number))
    merge_into_existing(beam, frame(beam, number), in_unit, grown)
    in_unit = in_unit.followed_by(grown)
    automata = np.zeros(len(in_unit.score)), np.zeros((0, len(in_unit.score)), np.int64)
    return Candidates(in_blank, in_unit, *automata)


def after_one_frame() -> Beam:
    """The texts "", "a" and "b"."""
    beam = Beam.empty(Fusion())
    return survivors(beam, frame(beam), candidates(beam, 0), np.array([0, 2, 3]))


def test_the_first_unit_of_a_text() -> None:
    beam = after_one_frame()
    assert [[token.id for token in beam.tokens(row)] for row in range(3)] == [[], [1], [2]]
    np.testing.assert_allclose(np.exp(beam.scores), [[BLANK, 0, 0], [0, A, B]])
    assert beam.tokens(1)[0][:3] == (1, 0, 1)
    assert (beam.parents[1:] == beam.keys[0]).all()


def test_a_text_stays_in_blank_or_in_its_last_unit() -> None:
    beam = after_one_frame()
    in_blank, in_unit = stay(beam, frame(beam, 1))
    np.testing.assert_allclose(np.exp(in_blank.score), np.array([BLANK, A, B]) * BLANK)
    np.testing.assert_allclose(np.exp(in_unit.score), [0, A * A, B * B])
    np.testing.assert_allclose(np.exp(in_unit.viterbi), [0, A * A, B * B])
    assert in_unit.path.tolist() == [0 + IN_UNIT, 2 + IN_UNIT, 4 + IN_UNIT]
    assert in_blank.path.tolist() == [0 + IN_BLANK, 2 + IN_UNIT, 4 + IN_UNIT]


def test_a_text_grows_by_every_unit_but_blank() -> None:
    beam = after_one_frame()
    grown = grow(beam, frame(beam, 1))
    # "aa" and "bb" need a blank between, which was not heard.
    expected = [[0, BLANK * A, BLANK * B], [0, 0, A * B], [0, B * A, 0]]
    np.testing.assert_allclose(np.exp(grown.score), expected)
    assert grown.path[1, 1] == 2 + IN_BLANK
    assert grown.path[1, 2] == 2 + IN_UNIT


def test_what_grows_into_a_text_of_the_beam_is_added_to_it() -> None:
    beam = after_one_frame()
    _, in_unit = stay(beam, frame(beam, 1))
    grown = grow(beam, frame(beam, 1))
    merge_into_existing(beam, frame(beam, 1), in_unit, grown)
    np.testing.assert_allclose(np.exp(in_unit.score), [0, A * A + BLANK * A, B * B + BLANK * B])
    np.testing.assert_allclose(np.exp(in_unit.viterbi), [0, BLANK * A, BLANK * B])
    assert in_unit.path.tolist() == [IN_UNIT, IN_BLANK, IN_BLANK]
    assert (grown.score[0] == -np.inf).all()
    np.testing.assert_allclose(np.exp(grown.score[1:, 1:]), [[0, A * B], [B * A, 0]])


def test_a_unit_that_is_not_heard_stays_in_blank_only() -> None:
    beam = after_one_frame()
    heard = Frame(
        1, np.array([0, 2]), np.log([BLANK, B]), 0, math.log(BLANK), np.array([-1, -1, 1])
    )
    _, in_unit = stay(beam, heard)
    np.testing.assert_allclose(np.exp(in_unit.score), [0, 0, B * B])
    without_blank = frame(beam, 1, blank_column=-1)
    assert (stay(beam, without_blank)[0].score == -np.inf).all()


def test_the_last_token_begins_later_or_sounds_on() -> None:
    beam = after_one_frame()
    every = candidates(beam, 1)
    # "a" begins after blank, as that is likelier than a twice; "ab" is new.
    chosen = np.array([1, 3 + 3 + 2])
    after = survivors(beam, frame(beam, 1), every, chosen)
    assert [token[:3] for token in after.tokens(0)] == [(1, 1, 2)]
    assert [token[:3] for token in after.tokens(1)] == [(1, 0, 1), (2, 1, 2)]
    assert after.lengths.tolist() == [1, 2]
    alone = beam.rows(np.array([1]))
    after = survivors(alone, frame(alone, 1), candidates(alone, 1), np.array([0]))
    assert after.paths["end"][0, IN_UNIT, 0] == 2
    assert after.paths["end"][0, IN_BLANK, 0] == 1


def test_totals_sum_both_ends_of_an_alignment() -> None:
    beam = after_one_frame()
    every = candidates(beam, 1)
    totals = np.exp(every.totals())
    np.testing.assert_allclose(totals[1], A * BLANK + A * A + BLANK * A)
    assert totals.sum() == pytest.approx(1.0)


def test_growths_are_joined_row_by_row() -> None:
    flat = Growth(np.zeros(1), np.zeros(1), np.zeros(1, np.int64))
    square = Growth(np.eye(2), np.eye(2), np.arange(4).reshape(2, 2))
    assert flat.followed_by(square).path.tolist() == [0, 0, 1, 2, 3]
    assert flat.followed_by(square).score.tolist() == [0, 1, 0, 0, 1]
