"""Backing off in arrays against the definition of a backoff model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.fusion.arpa import Ngrams, Order
from edge_asr.fusion.ngram_contexts import NO_CONTEXT, NgramContexts

WORDS = 3
Table = dict[tuple[int, ...], tuple[float, float]]  # n-gram -> log-probability, backoff


def ngrams_of(table: Table, order: int) -> Ngrams:
    orders = []
    for length in range(1, order + 1):
        rows = sorted(ngram for ngram in table if len(ngram) == length)
        orders.append(
            Order(
                np.array(rows, np.int32).reshape(len(rows), length),
                np.array([table[row][0] for row in rows]),
                np.array([table[row][1] if length < order else 0.0 for row in rows]),
            )
        )
    return Ngrams(tuple("abc"), tuple(orders))


def log_prob(table: Table, history: tuple[int, ...], word: int) -> float:
    if (*history, word) in table:
        return table[*history, word][0]
    return table.get(history, (0.0, 0.0))[1] + log_prob(table, history[1:], word)


@st.composite
def models(draw: st.DrawFn) -> tuple[int, Table]:
    """An order, and any n-grams: also ones whose beginnings or ends are not listed."""
    order = draw(st.integers(1, 4))
    longer = st.lists(st.integers(0, WORDS - 1), min_size=2, max_size=max(order, 2)).map(tuple)
    listed = draw(st.sets(longer, max_size=25)) if order > 1 else set()
    values = st.tuples(st.floats(-20, 0), st.floats(-5, 2))
    return order, {key: draw(values) for key in [(0,), (1,), (2,), *sorted(listed)]}


@given(models(), st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_follow_is_the_definition(model: tuple[int, Table], words: list[int]) -> None:
    order, table = model
    contexts = NgramContexts.build(ngrams_of(table, order), "here")
    context = np.array([NO_CONTEXT])
    for place, word in enumerate(words):
        history = tuple(words[max(0, place - order + 1) : place])
        (score,), context = contexts.follow(context, np.array([word]))
        # Held as float32.
        assert score == pytest.approx(log_prob(table, history, word), abs=1e-4)


def test_an_ngram_twice_is_refused() -> None:
    table: Table = {(0,): (-1, 0), (1,): (-1, 0), (2,): (-1, 0), (0, 2): (-1, 0)}
    ngrams = ngrams_of(table, 2)
    pairs = ngrams.orders[1]
    twice = Order(np.repeat(pairs.words, 2, 0), np.zeros(2), np.zeros(2))
    with pytest.raises(UsageError, match=r"^here: 'a c' is listed twice"):
        NgramContexts.build(Ngrams(ngrams.words, (ngrams.orders[0], twice)), "here")
