"""Prefix beam search against sums over all alignments, and against the published algorithm."""

from __future__ import annotations

import copy
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.fusion import Fusion, Scores, States, UnitIds
from edge_asr.search import Hypothesis
from edge_asr.search.prefix import PrefixSearch

BLANK = 0
LogProbs = npt.NDArray[np.float32]
few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def lattice(seed: int, frames: int, vocab_size: int, sharpness: float = 2.0) -> LogProbs:
    """Random log-probabilities (T', V)."""
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, vocab_size))
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return logits.astype(np.float32)


def plain(beam: int, fusion: Fusion | None = None) -> PrefixSearch:
    """The algorithm without our shortcuts."""
    return PrefixSearch(BLANK, beam, math.inf, 1.0, fusion or Fusion())


def collapse(alignment: Sequence[int]) -> tuple[int, ...]:
    return tuple(unit for unit, _ in itertools.groupby(alignment) if unit != BLANK)


def starts(alignment: Sequence[int]) -> tuple[int, ...]:
    """The frames in which the tokens of an alignment begin."""
    return tuple(
        frame
        for frame, unit in enumerate(alignment)
        if unit != BLANK and (frame == 0 or alignment[frame - 1] != unit)
    )


def by_text(hypotheses: Sequence[Hypothesis]) -> dict[tuple[int, ...], Hypothesis]:
    found = {tuple(token.id for token in h.tokens): h for h in hypotheses}
    assert len(found) == len(hypotheses), "a text twice"
    return found


@few
@given(seed=seeds, frames=st.integers(0, 6), vocab_size=st.integers(2, 4))
def test_with_room_for_all_it_is_the_sum_over_all_alignments(
    seed: int, frames: int, vocab_size: int
) -> None:
    log_probs = lattice(seed, frames, vocab_size)
    sums: dict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    best: dict[tuple[int, ...], tuple[float, set[tuple[int, ...]]]] = {}
    for alignment in itertools.product(range(vocab_size), repeat=frames):
        score = float(log_probs[range(frames), alignment].sum(dtype=np.float64))
        text = collapse(alignment)
        sums[text] = float(np.logaddexp(sums[text], score))
        known, places = best.get(text, (-math.inf, set()))
        if score > known + 1e-9:
            best[text] = score, {starts(alignment)}
        elif score > known - 1e-9:
            places.add(starts(alignment))
    search = plain(10_000)
    search.push(log_probs)
    hypotheses = search.cut(frames)
    assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
    found = by_text(hypotheses)
    assert found.keys() == sums.keys()
    for text, hypothesis in found.items():
        assert hypothesis.ctc_score == pytest.approx(sums[text], abs=1e-9)
        assert tuple(token.start for token in hypothesis.tokens) in best[text][1]
    assert search.tokens() == []


@few
@given(seed=seeds, frames=st.integers(1, 30), beam=st.integers(1, 6), vocab_size=st.integers(2, 9))
def test_it_prunes_as_the_published_algorithm_does(
    seed: int, frames: int, beam: int, vocab_size: int
) -> None:
    log_probs = lattice(seed, frames, vocab_size)
    search = plain(beam)
    search.push(log_probs)
    found = by_text(search.cut(frames))
    expected = published(log_probs, beam)
    assert found.keys() == expected.keys()
    for text, score in expected.items():
        assert found[text].score == pytest.approx(score, abs=1e-9)


def published(log_probs: LogProbs, beam: int) -> dict[tuple[int, ...], float]:
    """Frame by frame and text by text, with a table of (in blank, in unit) for each text."""
    texts: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for frame in log_probs.astype(np.float64):
        after: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [-math.inf, -math.inf])

        def add(text: tuple[int, ...], place: int, score: float) -> None:
            after[text][place] = float(np.logaddexp(after[text][place], score))  # noqa: B023

        for unit in np.argsort(-frame, kind="stable")[:beam].tolist():
            for text, (in_blank, in_unit) in texts.items():
                both = float(np.logaddexp(in_blank, in_unit))
                if unit == BLANK:
                    add(text, 0, both + frame[unit])
                elif text[-1:] == (unit,):
                    add(text, 1, in_unit + frame[unit])
                    add((*text, unit), 1, in_blank + frame[unit])
                else:
                    add((*text, unit), 1, both + frame[unit])
        ranked = sorted(after.items(), key=lambda item: -float(np.logaddexp(*item[1])))
        texts = {text: (scores[0], scores[1]) for text, scores in ranked[:beam]}
        texts = {text: scores for text, scores in texts.items() if max(scores) > -math.inf}
    return {text: float(np.logaddexp(*scores)) for text, scores in texts.items()}


@pytest.mark.slow
@few
@given(seed=seeds, cuts=st.lists(st.integers(0, 40), max_size=6), skip=st.sampled_from([0.9, 1.0]))
def test_any_cut_into_steps_gives_the_same(seed: int, cuts: list[int], skip: float) -> None:
    log_probs = lattice(seed, 40, 12, sharpness=4.0)
    whole, parts = PrefixSearch(BLANK, blank_skip=skip), PrefixSearch(BLANK, blank_skip=skip)
    whole.push(log_probs)
    for start, end in itertools.pairwise([0, *sorted(cuts), 40]):
        parts.push(log_probs[start:end])
    assert parts.tokens() == whole.tokens()
    ours, theirs = parts.cut(40), whole.cut(40)
    assert [h.tokens for h in ours] == [h.tokens for h in theirs]
    assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-9)


@few
@given(seed=seeds, frames=st.integers(1, 6), penalty=st.floats(0, 3))
def test_a_penalty_is_taken_from_blank(seed: int, frames: int, penalty: float) -> None:
    log_probs = lattice(seed, frames, 4)
    search = PrefixSearch(BLANK, 10_000, math.inf, 1.0, blank_penalty=penalty)
    search.push(log_probs)
    lowered = log_probs.copy()
    lowered[:, BLANK] -= np.float32(penalty)
    exact = plain(10_000)
    exact.push(lowered)
    found, expected = by_text(search.cut(frames)), by_text(exact.cut(frames))
    assert found.keys() == expected.keys()
    for text, hypothesis in found.items():
        assert hypothesis.score == pytest.approx(expected[text].score, abs=1e-5)


def test_frames_that_are_skipped_know_no_penalty() -> None:
    log_probs = np.log(np.array([[0.98, 0.02], [0.4, 0.6], [0.999, 0.001]], np.float32))
    search = PrefixSearch(BLANK, blank_penalty=1.0)
    search.push(log_probs)
    best = search.cut(3)[0]
    assert [token.id for token in best.tokens] == [1]
    spoken = math.log(0.02 * 0.4 / math.e + 0.98 * 0.6 / math.e + 0.02 * 0.6)
    assert best.score == pytest.approx(spoken + math.log(0.999), abs=1e-4)


def test_sure_blanks_may_be_skipped() -> None:
    log_probs = np.log(np.full((60, 5), 1e-6, np.float32))
    for frame, unit in {10: 2, 11: 2, 30: 2, 31: 3}.items():
        log_probs[frame] = np.log([0.2, 0.02, 0.02, 0.02, 0.02])
        log_probs[frame, unit] = math.log(0.74)
    log_probs[np.isclose(log_probs[:, 1], math.log(1e-6)), 0] = math.log(1 - 4e-6)
    exact, quick = plain(10), PrefixSearch(BLANK)
    exact.push(log_probs)
    quick.push(log_probs)
    assert [token[:3] for token in quick.tokens()] == [(2, 10, 12), (2, 30, 31), (3, 31, 32)]
    assert quick.tokens() == exact.tokens()
    assert quick.cut(60)[0].score == pytest.approx(exact.cut(60)[0].score, abs=1e-3)


@dataclass(frozen=True)
class Counting:
    """Gives what a table says for each unit after each number of units before it, modulo 3."""

    table: npt.NDArray[np.float64]  # (3, V)
    start: int = 0

    def advance(self, states: States, units: UnitIds) -> tuple[Scores, States]:
        return self.table[states, units], (states + 1) % 3

    def finish(self, states: States) -> Scores:
        return self.table[states, 0]

    def slow(self, text: Sequence[int]) -> float:
        inside = sum(float(self.table[place % 3, unit]) for place, unit in enumerate(text))
        return inside + float(self.table[len(text) % 3, 0])


@few
@given(seed=seeds, frames=st.integers(1, 6), forbidden=st.integers(0, 5))
def test_automata_add_to_every_text(seed: int, frames: int, forbidden: int) -> None:
    generator = np.random.default_rng(seed)
    automata = [Counting(generator.standard_normal((3, 4))) for _ in range(2)]
    automata[0].table.flat[generator.permutation(12)[:forbidden]] = -math.inf
    search = plain(10_000, Fusion(tuple(automata)))
    log_probs = lattice(seed, frames, 4)
    without = plain(10_000)
    without.push(log_probs)
    ctc = {text: h.score for text, h in by_text(without.cut(frames)).items()}
    search.push(log_probs)
    changed = copy.deepcopy(search)
    found = by_text(search.cut(frames))
    wanted = {text: score + sum(a.slow(text) for a in automata) for text, score in ctc.items()}
    assert found.keys() == {text for text, score in wanted.items() if score > -math.inf}
    for text, hypothesis in found.items():
        assert hypothesis.ctc_score == pytest.approx(ctc[text], abs=1e-9)
        assert hypothesis.score == pytest.approx(wanted[text], abs=1e-9)
    # Other automata while it runs.
    changed.set_fusion(Fusion((automata[1],)))
    for text, hypothesis in by_text(changed.cut(frames)).items():
        assert hypothesis.score == pytest.approx(ctc[text] + automata[1].slow(text), abs=1e-9)


@few
@given(seed=seeds, cut=st.integers(0, 8))
def test_a_cut_divides_every_text(seed: int, cut: int) -> None:
    log_probs = lattice(seed, 8, 3)
    search = plain(10_000)
    search.push(log_probs)
    best = search.tokens()
    whole = copy.deepcopy(search).cut(8)
    heads = search.cut(cut)
    by_text(heads)
    assert [token for token in best if token.start < cut] in [list(h.tokens) for h in heads]
    assert all(token.start < cut for head in heads for token in head.tokens)
    assert all(token.start >= cut for token in search.tokens())
    # No mass is lost.
    mass = np.logaddexp.reduce([h.score for h in whole])
    assert np.logaddexp.reduce([h.score for h in heads]) == pytest.approx(mass, abs=1e-9)
    # What is behind the cut goes on as a text of its own.
    more = lattice(seed + 1, 3, 3)
    search.push(more)
    rest = search.cut(11)
    by_text(rest)
    assert np.logaddexp.reduce([h.score for h in rest]) <= 8 * math.log(3) + 1e-9


@pytest.mark.parametrize("seed", [15, 35, 86, 111, 171])
def test_what_is_behind_a_cut_keeps_its_tokens_in_order(seed: int) -> None:
    # Texts that became the same had their last units in different alignments.
    search = PrefixSearch(BLANK)
    search.push(lattice(seed, 8, 3))
    search.cut(seed % 8)
    search.push(lattice(seed + 1, 2, 3))
    for hypothesis in search.cut(search.frames):
        assert all(token.id != BLANK for token in hypothesis.tokens)
        for token, following in itertools.pairwise(hypothesis.tokens):
            assert token.end <= following.start


@few
@given(seed=seeds, margin=st.sampled_from([0.5, 3.0, math.inf]))
def test_what_is_agreed_and_kept_never_changes(seed: int, margin: float) -> None:
    search, kept = PrefixSearch(BLANK, beam=5), []
    for step in range(8):
        search.push(lattice(seed + step, 4, 5, sharpness=3.0))
        tokens = [token.id for token in search.tokens()]
        assert tokens[: len(kept)] == kept
        count = search.agreed(margin)
        assert len(kept) <= count <= len(tokens)
        search.keep(count)
        kept = tokens[:count]
        assert [token.id for token in search.tokens()] == tokens
    for hypothesis in search.cut(search.frames):
        assert [token.id for token in hypothesis.tokens][: len(kept)] == kept


def test_a_text_may_outgrow_any_room() -> None:
    units = np.tile([1, 2, 3], 100)
    log_probs = np.log(np.eye(4, dtype=np.float32)[units] * 0.96 + 0.01)
    search = PrefixSearch(BLANK)
    search.push(log_probs)
    tokens = search.tokens()
    assert [(token.id, token.start, token.end) for token in tokens] == [
        (unit, frame, frame + 1) for frame, unit in enumerate(units.tolist())
    ]
    assert [type(value) for value in tokens[0]] == [int, int, int, float]
    search.cut(300)
    assert [text.tokens for text in search.hypotheses.texts] == [()]


def test_frames_without_numbers_end_a_token() -> None:
    sure = np.log(np.array([[0.01, 0.98, 0.01]], np.float32))
    search = PrefixSearch(BLANK)
    search.push(sure)
    search.skip(3)
    search.push(sure)
    assert [(token.id, token.start, token.end) for token in search.tokens()] == [
        (1, 0, 1),
        (1, 4, 5),
    ]
