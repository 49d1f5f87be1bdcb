"""Kaldi log-mel filterbank, for training, whole files and live streams alike.

The settings are WeNet's (its ``compute_fbank``): samples in the int16 range, povey window,
pre-emphasis 0.97, DC removed, snip_edges, low 20 Hz, high Nyquist, dither 0. Global CMVN is
not applied here: it is inside the encoder program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from edge_asr.manifest import FeatureSpec

Samples = npt.NDArray[np.float32]
Frames = npt.NDArray[np.float32]


def _options(spec: FeatureSpec) -> knf.FbankOptions:
    options = knf.FbankOptions()
    frame = options.frame_opts
    frame.samp_freq = spec.sample_rate
    frame.frame_length_ms = spec.frame_length_ms
    frame.frame_shift_ms = spec.frame_shift_ms
    frame.window_type = spec.window
    frame.preemph_coeff = spec.preemphasis
    frame.dither = 0.0
    frame.snip_edges = True
    frame.remove_dc_offset = True
    options.mel_opts.num_bins = spec.num_mel_bins
    options.mel_opts.low_freq = spec.low_freq_hz
    options.mel_opts.high_freq = spec.high_freq_hz
    options.energy_floor = 0.0
    options.use_energy = False
    return options


def fbank(samples: Samples, spec: FeatureSpec) -> Frames:
    """Features of a whole signal.

    Args:
        samples: (N,) float32 in [-1, 1) at ``spec.sample_rate``.

    Returns:
        (T, F) float32 with ``T = max(0, 1 + (N - window) // shift)``.
    """
    state = FbankState()
    return push_samples(samples, state, spec)


@dataclass
class FbankState:
    """The samples that the next frame still needs."""

    pending: Samples = field(default_factory=lambda: np.zeros(0, np.float32))


def push_samples(samples: Samples, state: FbankState, spec: FeatureSpec) -> Frames:
    """All frames (T, F) that ``samples`` completes; what remains is kept in ``state``.

    Frames depend only on the samples inside their window, so every blocking of the same
    samples gives the same frames.
    """
    window = round(spec.sample_rate * spec.frame_length_ms / 1000)
    shift = round(spec.sample_rate * spec.frame_shift_ms / 1000)
    signal = np.concatenate([state.pending, samples])
    count = max(0, 1 + (len(signal) - window) // shift)
    state.pending = signal[count * shift :]
    if count == 0:
        return np.zeros((0, spec.num_mel_bins), np.float32)
    computer = knf.OnlineFbank(_options(spec))
    used = signal[: (count - 1) * shift + window]
    computer.accept_waveform(spec.sample_rate, (used * 32768.0).tolist())
    frames = [computer.get_frame(index) for index in range(count)]
    return np.stack(frames).astype(np.float32)
