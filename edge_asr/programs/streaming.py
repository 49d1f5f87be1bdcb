"""An encoder over consecutive steps, as a stream runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edge_asr.audio.features import (
    FbankState,
    Frames,
    Samples,
    flush_samples,
    push_samples,
)
from edge_asr.audio.windows import Step, Windows
from edge_asr.backends import Encoder, EncoderStep, FloatArray
from edge_asr.backends.state import State, zero_state
from edge_asr.errors import PackageError
from edge_asr.package.manifest import EncoderSpec, FeatureSpec


def whole_features(samples: Samples, spec: FeatureSpec) -> Frames:
    """Feature frames (T, F) of a whole recording (N,), flush included."""
    fbank = FbankState()
    return np.concatenate([push_samples(samples, fbank, spec), flush_samples(fbank, spec)])


def cut(frames: Frames, spec: EncoderSpec, chunk: int | None = None) -> list[Step]:
    """Steps of a whole recording's features (T, F), flush included; ``chunk`` is in encoder
    frames, None is the default of the program."""
    windows = Windows(spec, spec.default_chunk if chunk is None else chunk)
    return windows.push(frames) + windows.flush()


def stream(
    encoder: Encoder, steps: Sequence[Step], spec: EncoderSpec, where: str = "encoder"
) -> Iterator[tuple[State, EncoderStep]]:
    """The state before each of ``steps``, from a fresh one on, and what the encoder gives.

    Of a result (1, T', V) the first ``keep`` frames of its step count, and are what the next
    step's offset counts.

    Raises:
        PackageError: the program's output or state has other shapes than the manifest says.
    """
    state, offset = zero_state(spec), 0
    for step in steps:
        result = encoder.step(step.feats, offset, state)
        _check_shapes(result, spec.output_frames(step.feats.shape[1]), spec, where)
        yield state, result
        state, offset = result.state, offset + step.keep


def stream_log_probs(
    encoder: Encoder, steps: Sequence[Step], spec: EncoderSpec, where: str = "encoder"
) -> FloatArray:
    """Log-probabilities (T', V) of consecutive steps from a fresh state.

    Raises:
        PackageError: see ``stream``.
    """
    rows = [np.zeros((0, spec.vocab_size), np.float32)]
    for step, (_, result) in zip(steps, stream(encoder, steps, spec, where), strict=True):
        rows.append(result.log_probs[0, : step.keep])
    return np.concatenate(rows)


def _check_shapes(result: EncoderStep, frames: int, spec: EncoderSpec, where: str) -> None:
    wanted = [(1, frames, spec.vocab_size), *(tensor.shape for tensor in spec.state)]
    shapes = [array.shape for array in (result.log_probs, *result.state)]
    if shapes != wanted:
        raise PackageError(
            f"{where}: expected log_probs and states of shapes {wanted}, found {shapes}; "
            "export the package again"
        )
