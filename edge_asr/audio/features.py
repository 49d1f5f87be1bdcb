"""Kaldi log-mel filterbank, for training, whole files and live streams alike.

The settings are WeNet's (its ``compute_fbank``): samples in the int16 range, povey window,
pre-emphasis 0.97, DC removed, snip_edges, low 20 Hz, high Nyquist, dither 0. Global CMVN is
not applied here: it is inside the encoder program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_asr.audio.filterbank import Frames, log_mel
from edge_asr.package.manifest import FeatureSpec

__all__ = ["FbankState", "Frames", "Samples", "fbank", "flush_samples", "push_samples"]

Samples = npt.NDArray[np.float32]


def fbank(samples: Samples, spec: FeatureSpec) -> Frames:
    """Features of a whole signal.

    Args:
        samples: (N,) float32 in [-1, 1) at ``spec.sample_rate``.

    Returns:
        (T, F) float32 with ``T = max(0, 1 + (N - window) // shift)``.

    Raises:
        ConfigError: more bins than the spectrum of a window has room for.
    """
    return push_samples(samples, FbankState(), spec)


@dataclass
class FbankState:
    """The samples that the next frame still needs, and the frames made since the start."""

    pending: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    frames: int = 0


def push_samples(samples: Samples, state: FbankState, spec: FeatureSpec) -> Frames:
    """All frames (T, F) that ``samples`` completes; what remains is kept in ``state``.

    Frames depend only on the samples inside their window, so every blocking of the same
    samples gives the same frames.
    """
    window, shift = spec.window_samples, spec.shift_samples
    signal = np.concatenate([state.pending, samples]) if len(state.pending) else samples
    count = max(0, 1 + (len(signal) - window) // shift)
    state.pending = signal[count * shift :].copy()
    state.frames += count
    return log_mel(signal, spec)


def flush_samples(state: FbankState, spec: FeatureSpec) -> Frames:
    """The last frame (1, F), or none (0, F): samples that no frame has seen, then zeros.

    ``state`` is as at the start afterwards.
    """
    seen = max(0, spec.window_samples - spec.shift_samples) if state.frames else 0
    if len(state.pending) > seen:
        missing = spec.window_samples - len(state.pending)
        frames = push_samples(np.zeros(missing, np.float32), state, spec)
    else:
        frames = np.zeros((0, spec.num_mel_bins), np.float32)
    state.pending, state.frames = np.zeros(0, np.float32), 0
    return frames
