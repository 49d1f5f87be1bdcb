"""Kneser-Ney estimates against the formulas of Chen and Goodman in plain dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.fusion import ngram_estimate
from edge_asr.fusion.arpa import Ngrams
from edge_asr.fusion.ngram_contexts import NO_CONTEXT, NgramContexts
from edge_asr.fusion.ngram_estimate import estimate

Ngram = tuple[str, ...]
TEXTS = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=9), min_size=1)


def long_text(seed: int = 3) -> list[list[str]]:
    """Sentences in which some words are frequent, so that discounts can be estimated."""
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(60)]
    chances = 1 / np.arange(1, 61)
    chances /= chances.sum()
    return [list(rng.choice(words, rng.integers(1, 9), p=chances)) for _ in range(150)]


class Textbook:
    """p(word | history), slowly."""

    def __init__(self, sentences: list[list[str]], order: int, minima: Sequence[int]) -> None:
        self.minima = minima
        self.seen: list[Counter[Ngram]] = [Counter() for _ in range(order + 1)]
        for sentence in sentences:
            words = ("<s>", *sentence, "</s>")
            for length in range(1, order + 1):
                for begin in range(len(words) - length + 1):
                    self.seen[length][words[begin : begin + length]] += 1
        self.vocabulary = {word for (word,) in self.seen[1]} | {"<unk>"}
        self.counts: list[dict[Ngram, int]] = [{} for _ in range(order + 1)]
        for length in range(1, order + 1):
            for ngram, times in self.seen[length].items():
                if ngram == ("<s>",):
                    continue  # nothing to predict
                if length < order and ngram[0] != "<s>":
                    times = sum(1 for longer in self.seen[length + 1] if longer[1:] == ngram)
                self.counts[length][ngram] = times
        self.discounts = [self._discounts(counts) for counts in self.counts]
        self.followers: dict[Ngram, list[Ngram]] = defaultdict(list)
        for counts in self.counts[1:]:
            for ngram in counts:
                self.followers[ngram[:-1]].append(ngram)

    @staticmethod
    def _discounts(counts: dict[Ngram, int]) -> list[float]:
        n = [sum(1 for count in counts.values() if count == i) for i in range(5)]
        if min(n[1:]) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            found = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
            if min(found) > 0:
                return [0.0, *found]
        return [0.0, 0.5, 1.0, 1.5]

    def kept(self, ngram: Ngram) -> bool:
        return self.seen[len(ngram)][ngram] >= self.minima[len(ngram) - 1]

    def probability(self, history: Ngram, word: str) -> float:
        followers = self.followers.get(history, [])
        shorter = (
            self.probability(history[1:], word) if history else 1 / len(self.vocabulary - {"<s>"})
        )
        if not followers:
            return shorter
        counts = self.counts[len(history) + 1]
        total = sum(counts[ngram] for ngram in followers)
        discounts = self.discounts[len(history) + 1]

        def given_away(ngram: Ngram) -> float:
            return discounts[min(counts[ngram], 3)] if self.kept(ngram) else counts[ngram]

        ngram = (*history, word)
        own = counts[ngram] - given_away(ngram) if ngram in counts else 0.0
        return (own + sum(map(given_away, followers)) * shorter) / total


def contexts_of(ngrams: Ngrams) -> list[Ngram]:
    rows = [row for order in ngrams.orders[:-1] for row in order.words.tolist()]
    texts = [tuple(ngrams.words[word] for word in row) for row in rows]
    return [(), *(text for text in texts if text[-1] != "</s>")]


def probabilities(ngrams: Ngrams, history: Ngram) -> dict[str, float]:
    """Of all words that can follow, by the automaton that reads such models."""
    contexts = NgramContexts.build(ngrams, "here")
    context = np.array([NO_CONTEXT])
    for word in history:
        _, context = contexts.follow(context, np.array([ngrams.words.index(word)]))
    ids = np.arange(len(ngrams.words))
    scores, _ = contexts.follow(np.repeat(context, len(ids)), ids)
    return {
        word: math.exp(score)
        for word, score in zip(ngrams.words, scores.tolist(), strict=True)
        if word != "<s>"
    }


def check(sentences: list[list[str]], order: int, min_counts: Sequence[int]) -> None:
    ngrams = estimate(sentences, order, min_counts)
    minima = [*min_counts] or [1]
    minima += minima[-1:] * 5
    textbook = Textbook(sentences, order, minima)
    assert set(ngrams.words) == textbook.vocabulary | {"<s>", "</s>"}
    for history in contexts_of(ngrams)[:150]:
        found = probabilities(ngrams, history)
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        for word, probability in found.items():
            expected = textbook.probability(history, word)
            assert probability == pytest.approx(expected, rel=1e-4), (history, word)


@given(TEXTS, st.integers(1, 5), st.sampled_from([(), (1, 2), (1, 1, 2), (1, 2, 3)]))
@settings(max_examples=40, deadline=None)
def test_small_texts_are_as_in_the_book(
    sentences: list[list[str]], order: int, min_counts: tuple[int, ...]
) -> None:
    check(sentences, order, min_counts[:order])


@pytest.mark.slow
@pytest.mark.parametrize("min_counts", [(), (1, 1, 2)])
def test_a_text_that_tells_its_discounts_is_as_in_the_book(min_counts: tuple[int, ...]) -> None:
    text = long_text()
    textbook = Textbook(text, 3, (1, 1, 1))
    assert all(found != [0.0, 0.5, 1.0, 1.5] for found in textbook.discounts[2:])
    check(text, 3, min_counts)


def test_minimum_counts_leave_out_what_is_seen_less() -> None:
    text = long_text()
    everything, pruned = estimate(text, 3), estimate(text, 3, (1, 2, 3))
    seen = Textbook(text, 3, (1, 1, 1)).seen
    for length, minimum in ((1, 1), (2, 2), (3, 3)):
        listed = {
            tuple(pruned.words[word] for word in row)
            for row in pruned.orders[length - 1].words.tolist()
        }
        marks = {("<unk>",)} if length == 1 else set()
        assert listed == {key for key, times in seen[length].items() if times >= minimum} | marks
        assert len(everything.orders[length - 1].words) == len(seen[length] | dict.fromkeys(marks))


def test_unknown_words_of_the_text_count() -> None:
    often = estimate([["a", "<unk>"], ["b", "<unk>"], ["c", "x" * 65]], 2)
    assert "x" * 65 not in often.words
    assert probabilities(often, ("a",))["<unk>"] > probabilities(often, ("a",))["b"]
    never = estimate([["a"], ["b"]], 2)
    assert 0 < probabilities(never, ())["<unk>"] < probabilities(never, ())["a"]


@pytest.mark.parametrize(
    ("sentences", "order", "min_counts", "reason"),
    [
        ([["a"]], 0, (), "order is 0; allowed are 1 to 5"),
        ([["a"]], 6, (), "order is 6; allowed are 1 to 5"),
        ([["a"]], 2.5, (), "order is 2.5; allowed are whole numbers, 1 to 5"),
        ([["a"]], 2, (1, 1.5), "min_counts is 1.5; allowed are whole numbers"),
        ([], 3, (), "the text has no words"),
        ([[], []], 3, (), "the text has no words"),
        ([["a", "<s>"]], 3, (), "<s> is in the text"),
        ([["a", "</s>"]], 3, (), "</s> is in the text"),
        ([["a"]], 3, (2, 2), "minimum counts are 2,2; expected"),
        ([["a"]], 3, (1, 3, 2), "minimum counts are 1,3,2; expected"),
        ([["a"]], 2, (1, 1, 1), "minimum counts are 1,1,1; expected are at most 2"),
        ([["a"]], 2, (0,), "minimum counts are 0; expected"),
    ],
)
def test_wrong_use(
    sentences: list[list[str]], order: Any, min_counts: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises(UsageError) as caught:
        estimate(sentences, order, min_counts)
    assert reason in str(caught.value)


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_estimate, "MAX_NGRAMS", 20)
    with pytest.raises(UsageError, match="raise the minimum counts"):
        estimate(long_text(), 2)
    monkeypatch.setattr(ngram_estimate, "MAX_TEXT_WORDS", 20)
    with pytest.raises(UsageError, match="more than 20 words"):
        estimate(long_text(), 2)
