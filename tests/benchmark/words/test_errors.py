"""benchmark.words.errors: counts by hand, and intervals that cover what they should."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.words.errors import UtteranceErrors, aligned, count_errors

WORDS = st.lists(st.sampled_from(["A", "B", "C"]), max_size=5)


def test_counts_of_each_utterance() -> None:
    found = count_errors(["A B C", "D", "E F"], ["A X C Q", "", "E F"])
    assert found.substitutions.tolist() == [1, 0, 0]
    assert found.deletions.tolist() == [0, 1, 0]
    assert found.insertions.tolist() == [1, 0, 0]
    assert found.words.tolist() == [3, 1, 2]
    assert found.wer == pytest.approx(50)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=6))
def test_as_jiwer_counts(spoken: list[tuple[list[str], list[str]]]) -> None:
    truth, said = ([" ".join(pair[side]) for pair in spoken] for side in (0, 1))
    found, expected = count_errors(truth, said), jiwer.process_words(truth, said)
    assert found.wer == pytest.approx(100 * expected.wer)
    for meant, heard in zip(truth, said, strict=True):
        pairs = aligned(meant, heard)
        assert [a for a, _ in pairs if a is not None] == meant.split()
        assert [b for _, b in pairs if b is not None] == heard.split()


def errors(rates: np.ndarray, words: int) -> UtteranceErrors:
    counts = rates.astype(np.int64)
    zero = np.zeros_like(counts)
    return UtteranceErrors(counts, zero, zero, np.full(len(counts), words, np.int64))


def test_the_interval_is_that_of_a_mean() -> None:
    """Many utterances of one word: the normal approximation holds."""
    rng = np.random.default_rng(1)
    one = errors(rng.random(2000) < 0.2, 1)
    low, high = (one.interval().low, one.interval().high)
    half = 1.96 * np.sqrt(one.wer / 100 * (1 - one.wer / 100) / 2000) * 100
    assert (low, high) == pytest.approx((one.wer - half, one.wer + half), abs=0.15)


def test_a_difference_is_paired() -> None:
    """A rate is uncertain by points; ten errors more on the same utterances are not."""
    rng = np.random.default_rng(2)
    base = rng.random(1000) < 0.3
    more = base.copy()
    more[np.flatnonzero(~base)[:10]] = True
    points, interval = errors(more, 1).difference(errors(base, 1))
    assert points == pytest.approx(1.0)
    assert 0.2 < interval.low < 1.0 < interval.high < 1.9
    assert errors(base, 1).interval().high - errors(base, 1).interval().low > 4
    none, nothing = errors(base, 1).difference(errors(base, 1))
    assert (none, nothing.low, nothing.high) == (0, 0, 0)
