"""Steps one after another: which state and offset each begins with."""

from __future__ import annotations

import numpy as np

from edge_asr.audio.windows import Step
from edge_asr.backends import EncoderStep
from edge_asr.backends.state import State
from edge_asr.programs.streaming import cut, stream, stream_log_probs, whole_features
from tests.tiny import ENCODER, MANIFEST, FakeEncoder, Samples, tones


class Counting:
    """Its state is how many steps there were; each result has four frames."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, int, float]] = []  # of each: first feature, offset, state

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        """See ``edge_asr.backends.Encoder``."""
        self.calls.append((float(feats[0, 0, 0]), offset, float(state[0].max())))
        log_probs = np.zeros((1, 4, ENCODER.vocab_size), np.float32)
        return EncoderStep(log_probs, log_probs, (state[0] + 1,))


def test_each_step_goes_on_where_the_last_one_ended() -> None:
    encoder = Counting()
    steps = [Step(np.full((1, 19, 16), n, np.float32), keep) for n, keep in enumerate((4, 3, 1))]
    found = list(stream(encoder, steps, ENCODER))
    assert encoder.calls == [(0.0, 0, 0.0), (1.0, 4, 1.0), (2.0, 7, 2.0)]
    assert [float(before[0].max()) for before, _ in found] == [0.0, 1.0, 2.0]
    assert [float(result.state[0].max()) for _, result in found] == [1.0, 2.0, 3.0]


def test_a_step_runs_only_when_it_is_asked_for() -> None:
    encoder = Counting()
    steps = [Step(np.zeros((1, 19, 16), np.float32), 4)] * 3
    next(stream(encoder, steps, ENCODER))
    assert len(encoder.calls) == 1


def test_log_probs_are_streamed_and_flushed() -> None:
    steps = cut(whole_features(tones("▁one ▁two s"), MANIFEST.features), ENCODER)
    encoder = FakeEncoder(ENCODER)
    log_probs = stream_log_probs(encoder, steps, ENCODER)
    assert len(log_probs) == len(encoder.own)
    assert encoder.offsets == [16 * index for index in range(len(encoder.offsets))]
    short = stream_log_probs(FakeEncoder(ENCODER), steps[:1], ENCODER)
    np.testing.assert_array_equal(short, log_probs[:16])
