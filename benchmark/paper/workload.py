"""What every worker is given: the same features, chunks and hypotheses, from the same seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BINS = 80
FEATURE_MEAN, FEATURE_DEVIATION = 10.0, 3.0  # of log-mel energies in the int16 range

CHUNK_FRAMES = 16
LEFT_FRAMES = 64  # encoder frames: four chunks
FRAME_S = 0.04  # of one encoder frame
_DIFFERENT_CHUNKS = 8

WHOLE_S, SECOND_S = 20.0, 10.0  # of audio
# As many feature frames as give whole encoder frames.
WHOLE_FEATURES, SECOND_FEATURES = 1999, 999
HYPOTHESES, HYPOTHESIS_UNITS = 10, 30
FIRST_UNIT = 3  # after blank, unknown, and the beginning and end of sentence
SOS = 2
REVERSE_WEIGHT = 0.3  # not 0, or the right-to-left decoder would not run

# Chunks of which none may be slower than a WeNet user's: from one frame to a whole utterance.
SWEEP_FRAMES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 499)

Features = npt.NDArray[np.float32]


def features(frames: int, seed: int = 0) -> Features:
    """Features (1, T, F) of nobody: noise, so that neighbouring frames differ as much as can be.

    Real speech lets routers choose alike for neighbours; noise is the hard case.
    """
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((1, frames, BINS), np.float32)
    return (FEATURE_MEAN + FEATURE_DEVIATION * noise).astype(np.float32)


def chunks(chunk_frames: int) -> Iterator[Features]:
    """Features (1, T, F) of one chunk after another, for ever; none like the one before."""
    size = input_frames(chunk_frames)
    return itertools.cycle([features(size, seed) for seed in range(_DIFFERENT_CHUNKS)])


def input_frames(chunk_frames: int) -> int:
    """Feature frames that a chunk of encoder frames reads, with convolutional subsampling by 4."""
    return (chunk_frames - 1) * 4 + 7


def encoder_frames(feature_frames: int) -> int:
    """Encoder frames of a whole utterance."""
    return (feature_frames - 7) // 4 + 1


def hypotheses(vocab_size: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Hypotheses (N, U) of units that may be said, each as long as the others."""
    generator = np.random.default_rng(seed)
    size = (HYPOTHESES, HYPOTHESIS_UNITS)
    return generator.integers(FIRST_UNIT, vocab_size, size, dtype=np.int64)
