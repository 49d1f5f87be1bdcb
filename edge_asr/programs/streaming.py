"""An encoder over consecutive steps, as a stream runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_asr.audio.windows import Step
from edge_asr.backends import Encoder, EncoderStep
from edge_asr.backends.state import State, zero_state
from edge_asr.package.manifest import EncoderSpec


def stream(
    encoder: Encoder, steps: Sequence[Step], spec: EncoderSpec
) -> Iterator[tuple[State, EncoderStep]]:
    """The state before each of ``steps``, from a fresh one on, and what the encoder gives.

    Of a result (1, T', V) the first ``keep`` frames of its step count, and are what the next
    step's offset counts.
    """
    state, offset = zero_state(spec), 0
    for step in steps:
        result = encoder.step(step.feats, offset, state)
        yield state, result
        state, offset = result.state, offset + step.keep
