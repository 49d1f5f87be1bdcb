"""Changes without effect are told from bugs that were missed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.proof.effect import DecoderEffect, EncoderEffect, judged, unheard
from edge_asr.backends import DecoderScores, EncoderStep, FloatArray, IntArray
from edge_asr.backends.state import State
from edge_asr.package.manifest import EncoderSpec, TensorSpec
from tests.tiny import MANIFEST

SPEC = EncoderSpec(
    subsampling_rate=4, right_context=6, left_context=8, default_chunk=4, min_chunk=1, max_chunk=8,
    encoder_dim=6, vocab_size=5, state=(TensorSpec(name="sum", shape=(2, 1, 3)),),
)  # fmt: skip


class Summing:
    """Says the mean of each frame, times a factor, from the second frame that it sees on wrong by
    ``amount`` in every ``period``-th step."""

    def __init__(self, amount: float = 0.0, period: int = 1) -> None:
        self.amount, self.period, self.calls = amount, period, 0

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        self.calls += 1
        factor = np.float32(1 + self.amount * (self.calls % self.period == 0))
        frames = feats[0, :: SPEC.subsampling_rate][: SPEC.output_frames(feats.shape[1])]
        means = frames.mean(1)[None, :, None] * factor
        return EncoderStep(
            np.repeat(means, 6, 2), np.repeat(means, 5, 2), tuple(s + means.mean() for s in state)
        )


@pytest.fixture(scope="module")
def effect() -> EncoderEffect:
    frames = 10 + np.random.default_rng(0).standard_normal((200, 80)).astype(np.float32)
    return EncoderEffect(Summing(), Summing(1e-6), frames, SPEC, 30)


def test_the_right_program_has_no_effect(effect: EncoderEffect) -> None:
    assert effect.of(Summing()).name == "none"


def test_less_than_another_right_program_is_rounding(effect: EncoderEffect) -> None:
    assert effect.of(Summing(5e-7)).name == "rounding"


@pytest.mark.parametrize("wrong", [Summing(1e-3), Summing(0.5, period=20), Summing(np.nan)])
def test_a_bug_is_missed_even_if_it_is_rare(effect: EncoderEffect, wrong: Summing) -> None:
    assert effect.of(wrong).name == "missed"


def test_quantiles_are_of_what_changed() -> None:
    others = np.full(100, 1e-6, np.float32)
    rare = np.zeros(100, np.float32)
    rare[3] = 1e-2
    assert judged(rare, others).name == "missed"
    rare[3] = 1e-7
    assert judged(rare, others).name == "rounding"


class Scoring:
    """Scores a unit by its number, ``amount`` wrong."""

    def __init__(self, amount: float = 0.0) -> None:
        self.amount = amount

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        scores = np.pad(-hyps.astype(np.float32), ((0, 0), (0, 1))) * np.float32(1 + self.amount)
        return DecoderScores(scores, scores)


def test_decoders_are_judged_by_their_scores() -> None:
    memory = np.zeros((1, 120, 4), np.float32)
    effect = DecoderEffect(Scoring(), Scoring(1e-6), memory, 9, 30)
    found = [effect.of(Scoring(amount)).name for amount in (0.0, 5e-7, 0.1)]
    assert found == ["none", "rounding", "missed"]


def test_unheard_speech_is_the_same_for_the_same_seed_only() -> None:
    clips = [np.sin(np.arange(16000, dtype=np.float32) / 9) / 3]
    one, again, other = (unheard(clips, MANIFEST.features, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)
