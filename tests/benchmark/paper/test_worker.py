"""The worker with our programs: chunks with full state, and what expert layers count."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.paper import worker
from benchmark.paper.variants import Variant
from benchmark.paper.worker import CountedExperts, Player
from benchmark.paper.workload import BINS, LEFT_FRAMES, WHOLE_FEATURES, encoder_frames
from edge_asr.backends import EncoderStep
from edge_asr.backends.state import State
from edge_asr.native.library import Counters
from edge_asr.package.manifest import EncoderSpec, TensorSpec
from tests.tiny import FakeEncoder

SPEC = EncoderSpec(
    subsampling_rate=4,
    right_context=6,
    left_context=LEFT_FRAMES,
    default_chunk=16,
    min_chunk=1,
    max_chunk=512,
    encoder_dim=4,
    vocab_size=11,
    state=(TensorSpec(name="seen", shape=(1,)),),
)


class CountingEncoder(FakeEncoder):
    """Its state counts the frames that it has seen."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.seen: list[tuple[int, int, int]] = []  # frames, offset, seen before

    def step(self, feats: Any, offset: int, state: State) -> EncoderStep:
        step = super().step(feats, offset, state)
        assert feats.shape[2] == BINS
        frames = step.log_probs.shape[1]
        self.seen.append((frames, offset, int(state[0][0])))
        return EncoderStep(step.encoder_out, step.log_probs, (state[0] + frames,))


class FakePackage:
    """Only what the player reads of a package."""

    class manifest:
        encoder = SPEC


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    monkeypatch.setattr(worker, "find_program", lambda *words: "a program")
    monkeypatch.setattr(worker, "load_weights", lambda *words: None)
    return CountingEncoder()


def player(encoder: CountingEncoder) -> Player:
    package: Any = FakePackage()
    return Player(package, encoder, Variant("moe-1b"), threads=1)


@pytest.mark.parametrize("chunk", [1, 16, 100])
def test_times_chunks_with_a_full_state_only(encoder: CountingEncoder, chunk: int) -> None:
    playing = player(encoder)
    for _ in range(2):
        answer = playing.stream({"chunk": chunk, "count": 3})
        assert len(answer["times_s"]) == 3
        assert set(answer) == {"times_s"}, "nothing was counted"
    filling = -(-LEFT_FRAMES // chunk)
    assert len(encoder.seen) == filling + 2 + 3 + 3
    for before, (frames, offset, seen) in enumerate(encoder.seen):
        assert (frames, seen) == (chunk, before * chunk)
        # The offset says how much of the state is valid: all of it once it is full.
        assert offset == seen if before < filling else offset >= LEFT_FRAMES


def test_whole_utterances_begin_afresh(encoder: CountingEncoder) -> None:
    player(encoder).whole({"count": 2})
    assert set(encoder.seen) == {(encoder_frames(WHOLE_FEATURES), 0, 0)}


class FakeWeights:
    """Counters that end when they are read, as those of native weights do."""

    def __init__(self) -> None:
        self.done = Counters(0, 0, 0, 0)

    def counters(self) -> Counters:
        done, self.done = self.done, Counters(0, 0, 0, 0)
        return done


def test_counts_experts_of_all_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder = FakeWeights(), FakeWeights()
    weights = {"encoder": encoder, "decoder": decoder, "same file": encoder, "portable": None}
    monkeypatch.setattr(worker, "load_weights", lambda package, program: weights[program])
    counted = CountedExperts()
    package: Any = FakePackage()
    for name in weights:
        program: Any = name
        counted.watch(package, program)
    assert counted.since_last() == {}
    encoder.done = Counters(calls=10, rows=160, pairs=240, experts=75)
    decoder.done = Counters(calls=10, rows=40, pairs=80, experts=25)
    assert counted.since_last() == {"experts_per_call": 5.0, "experts_per_frame": 1.6}
    assert counted.since_last() == {}
