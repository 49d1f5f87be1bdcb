"""Greedy CTC search against the definition of CTC."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.search import Token
from edge_asr.search.greedy import GreedySearch, greedy

BLANK = 0
scored = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 90)), max_size=40)
cuts = st.lists(st.integers(0, 40), max_size=8)


def log_probs_of(frames: list[tuple[int, int]]) -> np.ndarray:
    """(T', 4): the best unit of each frame and its score."""
    log_probs = np.full((len(frames), 4), -9.5, np.float32)
    for index, (unit, score) in enumerate(frames):
        log_probs[index, unit] = -score / 10
    return log_probs


def naive(frames: list[tuple[int, int]]) -> list[Token]:
    """Frame by frame."""
    tokens: list[Token] = []
    last = BLANK
    for index, (unit, score) in enumerate(frames):
        log_prob = float(np.float32(-score / 10))
        if unit != BLANK and unit == last:
            token = tokens.pop()
            log_prob = max(log_prob, token.log_prob)
            tokens.append(Token(unit, token.start, index + 1, log_prob))
        elif unit != BLANK:
            tokens.append(Token(unit, index, index + 1, log_prob))
        last = unit
    return tokens


@settings(max_examples=150, deadline=None)
@given(frames=scored, cuts=cuts)
def test_any_cut_gives_the_tokens_of_the_definition(
    frames: list[tuple[int, int]], cuts: list[int]
) -> None:
    log_probs, search = log_probs_of(frames), GreedySearch(BLANK)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(frames)]):
        before = search.tokens()
        search.push(log_probs[start:end])
        # What was there is still there; only the last may have grown.
        for old, now in zip(before, search.tokens(), strict=False):
            assert (old.id, old.start) == (now.id, now.start)
        assert search.tokens()[: max(0, len(before) - 1)] == before[:-1]
    assert search.tokens() == greedy(log_probs, BLANK) == naive(frames)
    assert search.agreed(0.0) == len(search.tokens())
    assert search.frames == len(frames)


@settings(max_examples=50, deadline=None)
@given(frames=scored, cut=st.integers(0, 41))
def test_a_cut_takes_what_began_before_it(frames: list[tuple[int, int]], cut: int) -> None:
    search = GreedySearch(BLANK)
    search.push(log_probs_of(frames))
    tokens = search.tokens()
    (head,) = search.cut(cut)
    assert [*head.tokens, *search.tokens()] == tokens
    assert all(token.start < cut for token in head.tokens)
    assert all(token.start >= cut for token in search.tokens())
    assert head.score == pytest.approx(sum(token.log_prob for token in head.tokens))


@pytest.mark.parametrize("blank", [0, 2])
def test_blank_is_where_the_manifest_says(blank: int) -> None:
    log_probs = np.log(np.eye(3, dtype=np.float32)[[0, 0, 2, 1, 2]] + 1e-9)
    assert blank not in [token.id for token in greedy(log_probs, blank)]
    assert len(greedy(log_probs, blank)) == 3 - (blank == 2)


def test_a_unit_that_was_taken_away_does_not_come_back() -> None:
    log_probs = log_probs_of([(1, 1), (1, 1), (1, 1), (0, 1), (1, 1)])
    search = GreedySearch(BLANK)
    search.push(log_probs[:2])
    search.cut(2)
    search.push(log_probs[2:])
    assert search.tokens() == [Token(1, 4, 5, pytest.approx(-0.1))]


def test_nothing_goes_on_behind_frames_without_numbers() -> None:
    search = GreedySearch(BLANK)
    search.push(log_probs_of([(1, 1)]))
    search.skip(2)
    search.push(log_probs_of([(1, 1)]))
    assert [(token.id, token.start, token.end) for token in search.tokens()] == [
        (1, 0, 1),
        (1, 3, 4),
    ]


def test_everything_is_a_plain_value() -> None:
    for token in greedy(log_probs_of([(1, 3), (2, 4)]), BLANK):
        assert [type(value) for value in token] == [int, int, int, float]


def test_a_penalty_makes_an_unsure_blank_a_unit() -> None:
    log_probs = np.log(
        np.array(
            [[0.6, 0.3, 0.1], [0.995, 0.004, 0.001], [0.7, 0.1, 0.2], [0.1, 0.9, 0.0]], np.float32
        )
        + 1e-9
    )
    before = log_probs.copy()
    search = GreedySearch(BLANK, blank_penalty=1.5, blank_skip=0.99)
    search.push(log_probs)
    assert [(token.id, token.start) for token in search.tokens()] == [(1, 0), (2, 2), (1, 3)]
    # The confidence is that of the model, and so is what others read of it.
    assert [token.log_prob for token in search.tokens()] == pytest.approx(
        np.log([0.3, 0.2, 0.9]), abs=1e-6
    )
    np.testing.assert_array_equal(log_probs, before)
    assert [token.id for token in greedy(log_probs, BLANK)] == [1]
