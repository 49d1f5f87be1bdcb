"""One frame of prefix search, worked out by hand: two units and blank."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_asr.fusion import Fusion
from edge_asr.search.prefix_beam import Beam, Text
from edge_asr.search.prefix_frame import (
    Frame,
    grow,
    grown_text,
    next_beam,
    rows_of_parents,
    select,
    stay,
)

BLANK, A, B = 0.5, 0.3, 0.2


def frame(number: int, blank: float = BLANK) -> Frame:
    log_probs = [math.log(A), math.log(B)]
    return Frame(number, [1, 2], log_probs, {1: 0, 2: 1}, math.log(blank) if blank else -math.inf)


def after_one_frame() -> Beam:
    """The texts "", "a" and "b"."""
    beam = next_beam(Beam.empty(Fusion()), frame(0), Fusion(), 10, math.inf)
    assert beam is not None
    return beam


def after_staying(beam: Beam, heard: Frame) -> list[Text]:
    parents = rows_of_parents(beam.texts)
    return [
        stay(text, None if row is None else beam.texts[row], heard)
        for text, row in zip(beam.texts, parents, strict=True)
    ]


def alone(beam: Beam, heard: Frame) -> list[Text]:
    """Without what grows into them."""
    return [stay(text, None, heard) for text in beam.texts]


def places(text: Text) -> list[tuple[int, int, int]]:
    return [token[:3] for token in text.tokens]


def test_the_first_unit_of_a_text() -> None:
    texts = after_one_frame().texts
    assert [text.ids for text in texts] == [(), (1,), (2,)]
    assert [text.last for text in texts] == [-1, 1, 2]
    np.testing.assert_allclose(np.exp([text.in_blank for text in texts]), [BLANK, 0, 0])
    np.testing.assert_allclose(np.exp([text.in_unit for text in texts]), [0, A, B])
    assert places(texts[1]) == [(1, 0, 1)]
    assert [text.parent for text in texts[1:]] == [texts[0].key] * 2


def test_a_text_stays_in_blank_or_in_its_last_unit() -> None:
    texts = alone(after_one_frame(), frame(1))
    in_blank = np.array([BLANK, A, B]) * BLANK
    np.testing.assert_allclose(np.exp([text.in_blank for text in texts]), in_blank)
    np.testing.assert_allclose(np.exp([text.in_unit for text in texts]), [0, A * A, B * B])
    np.testing.assert_allclose(np.exp([text.best_in_unit for text in texts]), [0, A * A, B * B])
    assert [token[:3] for token in texts[1].unit_tokens] == [(1, 0, 2)]
    assert [token[:3] for token in texts[1].blank_tokens] == [(1, 0, 1)]


def test_a_text_grows_by_every_unit() -> None:
    texts = after_one_frame().texts
    # "aa" and "bb" need a blank between, which was not heard.
    expected = [BLANK * A, BLANK * B, 0, A * B, B * A, 0]
    np.testing.assert_allclose(np.exp(grow(texts, [None] * 3, frame(1))), expected)
    again = grow(alone(after_one_frame(), frame(1)), [None] * 3, frame(2))
    np.testing.assert_allclose(np.exp(again[[2, 5]]), [A * BLANK * A, B * BLANK * B])
    found = grown_text(texts, frame(1), 3, None)
    assert (found.ids, found.parent) == ((1, 2), texts[1].key)
    assert places(found) == [(1, 0, 1), (2, 1, 2)]


def test_what_grows_into_a_text_of_the_beam_is_added_to_it() -> None:
    beam = after_one_frame()
    texts = after_staying(beam, frame(1))
    in_unit = [0, A * A + BLANK * A, B * B + BLANK * B]
    np.testing.assert_allclose(np.exp([text.in_unit for text in texts]), in_unit)
    best = [text.best_in_unit for text in texts]
    np.testing.assert_allclose(np.exp(best), [0, BLANK * A, BLANK * B])
    # "a" begins after blank, as that is likelier than a twice.
    assert [token[:3] for token in texts[1].unit_tokens] == [(1, 1, 2)]
    grown = np.exp(grow(beam.texts, rows_of_parents(beam.texts), frame(1)))
    np.testing.assert_allclose(grown, [0, 0, 0, A * B, B * A, 0])


def test_a_unit_that_is_not_heard_stays_in_blank_only() -> None:
    beam = after_one_frame()
    only_b = Frame(1, [2], [math.log(B)], {2: 0}, math.log(BLANK))
    in_unit = [text.in_unit for text in alone(beam, only_b)]
    np.testing.assert_allclose(np.exp(in_unit), [0, 0, B * B])
    without_blank = alone(beam, frame(1, blank=0))
    assert all(text.in_blank == -np.inf for text in without_blank)


def test_totals_sum_both_ends_of_an_alignment() -> None:
    beam = after_one_frame()
    texts = after_staying(beam, frame(1))
    assert math.exp(texts[1].total) == pytest.approx(A * BLANK + A * A + BLANK * A)
    grown = grow(beam.texts, rows_of_parents(beam.texts), frame(1))
    mass = sum(math.exp(text.total) for text in texts) + float(np.exp(grown).sum())
    assert mass == pytest.approx(1.0)


def test_the_best_stay_and_of_equals_the_first() -> None:
    totals = np.array([-2.0, -1.0, -math.inf, -1.0, -2.0, -9.0])
    assert select(totals, 3, 5.0) == [1, 3, 0]
    assert select(totals, 10, 5.0) == [1, 3, 0, 4]
    assert select(totals, 10, math.inf) == [1, 3, 0, 4, 5]


def test_where_nothing_is_possible_there_is_no_beam() -> None:
    silent = Frame(1, [1], [-math.inf], {1: 0}, -math.inf)
    assert next_beam(after_one_frame(), silent, Fusion(), 10, 20.0) is None
