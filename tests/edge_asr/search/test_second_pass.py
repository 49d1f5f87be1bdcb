"""The sum by which the second pass chooses, against the formula written out slowly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.backends import DecoderScores
from edge_asr.errors import BackendError
from edge_asr.package.manifest import DecoderSpec
from edge_asr.search import Hypothesis, Token
from edge_asr.search.second_pass import SecondPass, first_pass
from tests.tiny import DECODER, FakeDecoder, Samples

MAX_UNITS, MAX_HYPS, MAX_FRAMES = DECODER.max_units, DECODER.max_hyps, DECODER.max_frames
FRAMES = np.ones((1, 5, 2), np.float32)
texts = st.lists(st.integers(3, 6), max_size=MAX_UNITS).map(tuple)
scores = st.floats(-50, 0)
lists = st.lists(
    st.tuples(texts, scores, scores), min_size=1, max_size=MAX_HYPS, unique_by=lambda one: one[0]
)


def hypothesis_of(text: Sequence[int], ctc: float = 0.0, fusion: float = 0.0) -> Hypothesis:
    tokens = tuple(Token(unit, at, at + 1, -9.0) for at, unit in enumerate(text))
    return Hypothesis(tokens, ctc, fusion)


def ids(hypothesis: Hypothesis) -> tuple[int, ...]:
    return tuple(token.id for token in hypothesis.tokens)


class Table:
    """Gives the scores that it is made with, whatever it reads."""

    def __init__(self, left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> None:
        self.scores = DecoderScores(np.array(left, np.float32), np.array(right, np.float32))

    def score(self, hyps: object, hyp_lengths: object, encoder_out: object) -> DecoderScores:
        return self.scores


@settings(max_examples=60, deadline=None)
@given(
    found=lists,
    seed=st.integers(0, 999),
    reverse=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    ctc_weight=st.one_of(st.just(0.0), st.floats(0, 5)),
)
def test_it_is_the_sum_of_all_that_read_the_text(
    found: list[tuple[tuple[int, ...], float, float]],
    seed: int,
    reverse: float,
    ctc_weight: float,
) -> None:
    hypotheses = [hypothesis_of(*one) for one in found]
    ranked = SecondPass(FakeDecoder(seed), DECODER, ctc_weight, reverse).rank(hypotheses, FRAMES)
    assert {ids(one.hypothesis) for one in ranked} == {text for text, _, _ in found}
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    by_text = {text: (ctc, fusion) for text, ctc, fusion in found}
    for one in ranked:
        text = ids(one.hypothesis)
        # One text alone, padded by nothing.
        alone = FakeDecoder(seed).score(
            np.array([text or (0,)]), np.array([len(text)]), np.ones((1, 5, 2), np.float32)
        )
        left = [float(value) for value in alone.left[0]][: len(text) + 1]
        right = [float(value) for value in alone.right[0]][: len(text) + 1]
        attention = (1 - reverse) * math.fsum(left) + reverse * math.fsum(right)
        ctc, fusion = by_text[text]
        expected = attention + ctc_weight * ctc + (1 + ctc_weight) * fusion
        assert one.score == pytest.approx(expected, abs=1e-9)
        assert (one.hypothesis.ctc_score, one.hypothesis.fusion_score) == (ctc, fusion)
        assert one.hypothesis in hypotheses, "tokens are those of the first pass"


def test_the_order_of_the_first_pass_breaks_a_tie() -> None:
    hypotheses = [hypothesis_of((unit,), -2.0) for unit in (5, 3, 6, 4)]
    even = [[-1.0, -1.0]] * 4
    ranked = SecondPass(Table(even, even), DECODER, 0.5, 0.3).rank(hypotheses, FRAMES)
    assert [one.hypothesis.tokens[0].id for one in ranked] == [5, 3, 6, 4]


def test_what_fusion_gave_weighs_as_much_as_in_the_first_pass() -> None:
    # The decoders find one text a nat better, and so does CTC: the bonus must outweigh both.
    for ctc_weight in (0.0, 0.5, 3.0):
        for bonus, winner in ((0.75, (3,)), (1.25, (4,))):
            hypotheses = [hypothesis_of((3,), -4.0), hypothesis_of((4,), -5.0, bonus)]
            decoder = Table([[0, 0], [-1, 0]], [[0, 0], [-1, 0]])
            first = max(hypotheses, key=lambda one: one.score)
            ranked = SecondPass(decoder, DECODER, ctc_weight, 0.5).rank(hypotheses, FRAMES)
            assert ids(ranked[0].hypothesis) == ids(first) == winner


def test_no_more_is_read_than_the_decoders_take() -> None:
    many = [hypothesis_of((3,) * count) for count in range(MAX_HYPS + 3)]
    long = hypothesis_of((4,) * (MAX_UNITS + 1))
    decoder = FakeDecoder()
    ranked = SecondPass(decoder, DECODER, 0.5, 0.3).rank([many[0], long, *many[1:]], FRAMES)
    assert decoder.read[0][0] == [ids(one) for one in many[:MAX_HYPS]]
    assert len(ranked) == MAX_HYPS


@pytest.mark.parametrize(
    ("hypotheses", "frames"),
    [
        # Without the best, those that say less would always win.
        ([hypothesis_of((3,) * (MAX_UNITS + 1), -1.0), hypothesis_of((3,), -9.0)], 5),
        ([hypothesis_of((3,) * (MAX_UNITS + 1), -1.0, 0.5)], 5),
        ([hypothesis_of((3,), -1.0), hypothesis_of((4,), -2.0)], 0),
        ([hypothesis_of((3,), -1.0), hypothesis_of((4,), -2.0)], MAX_FRAMES + 1),
    ],
)
def test_what_cannot_be_read_stays_as_the_first_pass_has_it(
    hypotheses: list[Hypothesis], frames: int
) -> None:
    decoder = FakeDecoder()
    encoder_out = np.ones((1, frames, 2), np.float32)
    ranked = SecondPass(decoder, DECODER, 0.5, 0.3).rank(hypotheses, encoder_out)
    assert ranked == first_pass(hypotheses)
    assert [one.score for one in ranked] == [one.score for one in hypotheses]
    assert decoder.read == []


@pytest.mark.parametrize("units", [0, 1, MAX_UNITS])
@pytest.mark.parametrize("frames", [1, MAX_FRAMES])
def test_the_bounds_themselves_are_read(units: int, frames: int) -> None:
    decoder = FakeDecoder()
    encoder_out = np.ones((1, frames, 2), np.float32)
    SecondPass(decoder, DECODER, 0.5, 0.3).rank([hypothesis_of((3,) * units)], encoder_out)
    assert [(text, len(read)) for (text,), read in decoder.read] == [((3,) * units, frames)]


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["left", "right"])
def test_decoders_without_numbers_change_nothing(poison: float, side: str) -> None:
    hypotheses = [hypothesis_of((3,), -1.0), hypothesis_of((4,), -2.0)]
    good, bad = [[-9.0, 0.0], [0.0, 0.0]], [[-9.0, 0.0], [0.0, poison]]
    decoder = Table(*((bad, good) if side == "left" else (good, bad)))
    ranked = SecondPass(decoder, DECODER, 0.5, 0.3).rank(hypotheses, FRAMES)
    assert ranked == first_pass(hypotheses)


def test_a_decoder_of_one_direction_is_enough() -> None:
    spec: DecoderSpec = msgspec.structs.replace(DECODER, bidirectional=False, reverse_weight=0.0)
    hypotheses = [hypothesis_of((3,), -1.0), hypothesis_of((4,), -2.0)]
    decoder = Table([[-5.0, -1.0], [-1.0, -1.0]], np.zeros((2, 2)).tolist())
    first, second = SecondPass(decoder, spec, 1.0, 0.0).rank(hypotheses, FRAMES)
    assert (ids(first.hypothesis), first.score) == ((4,), -4.0)
    assert (ids(second.hypothesis), second.score) == ((3,), -7.0)


def test_a_backend_that_fails_says_so() -> None:
    decoder = FakeDecoder()
    decoder.faults = 1
    second_pass = SecondPass(decoder, DECODER, 0.5, 0.3)
    with pytest.raises(BackendError, match="asleep"):
        second_pass.rank([hypothesis_of((3,))], FRAMES)
    assert len(second_pass.rank([hypothesis_of((3,))], FRAMES)) == 1


def test_no_texts_are_ranked_too() -> None:
    assert SecondPass(FakeDecoder(), DECODER, 0.5, 0.3).rank([], FRAMES) == []


def test_texts_stay_as_they_were() -> None:
    hypotheses = (hypothesis_of((3, 4), -1.0), hypothesis_of((), -2.0))
    before = [(h.tokens, h.ctc_score) for h in hypotheses]
    encoder_out: Samples = FRAMES.copy()
    SecondPass(FakeDecoder(), DECODER, 0.5, 0.3).rank(hypotheses, encoder_out)
    assert [(h.tokens, h.ctc_score) for h in hypotheses] == before
    np.testing.assert_array_equal(encoder_out, FRAMES)
