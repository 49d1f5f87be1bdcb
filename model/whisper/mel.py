"""Whisper's features, and how ours become them.

Whisper hears log-mel frames of its own (arXiv 2212.04356, section 2.2; its code): a Hann window of
25 ms, 80 triangles on Slaney's mel scale, log10. The runtime computes Kaldi's. One linear map takes
a Kaldi frame nearly to the Whisper frame of the same time, and folds into the first layer.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float64]

BINS, WINDOW, HOP, RATE = 80, 400, 160, 16_000
_BREAK_HZ, _HZ_PER_MEL, _LOG_STEP = 1000.0, 200.0 / 3, np.log(6.4) / 27  # Slaney's scale
_RIDGE = 1e-3


def whisper_mel(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Samples (N,) at 16 kHz to frames (N // 160, 80); frame j is centred on sample 160 j."""
    wave = torch.from_numpy(np.asarray(samples, np.float32))
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(wave, WINDOW, HOP, window=window, return_complex=True)
    power = spectrum[:, :-1].abs().square()
    log = (torch.from_numpy(mel_filters()).float() @ power).clamp(min=1e-10).log10()
    log = torch.maximum(log, log.max() - 8.0)
    return np.asarray(((log + 4.0) / 4.0).T.numpy(), np.float32)


def mel_filters() -> Matrix:
    """Triangles (80, 201) over the bins of the spectrum, each of the same area (Slaney 1998)."""
    hertz = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    corners = _hertz(np.linspace(0, _mel(RATE / 2), BINS + 2))
    width = np.diff(corners)
    slopes = corners[:, None] - hertz
    rising, falling = -slopes[:-2] / width[:-1, None], slopes[2:] / width[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (corners[2:] - corners[:-2]))[:, None])


def feature_map(pairs: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> Matrix:
    """The map (81, 80) from a Kaldi frame and 1 to Whisper's, by ridge regression.

    Args:
        pairs: Kaldi frames (T, 80) and Whisper frames (T', 80) of recordings. Kaldi frame i is
            centred 12.5 ms after the beginning of its window, nearest to Whisper frame i + 1.
    """
    square, cross, count = np.zeros((BINS + 1, BINS + 1)), np.zeros((BINS + 1, BINS)), 0
    for ours, theirs in pairs:
        size = min(len(ours), len(theirs) - 1)
        rows = np.c_[ours[:size], np.ones(size)].astype(np.float64)
        square += rows.T @ rows
        cross += rows.T @ theirs[1 : size + 1]
        count += size
    return np.asarray(np.linalg.solve(square + _RIDGE * count * np.eye(BINS + 1), cross))


def _mel(hertz: float) -> float:
    linear = hertz / _HZ_PER_MEL
    if hertz < _BREAK_HZ:
        return linear
    return float(_BREAK_HZ / _HZ_PER_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _hertz(mel: Matrix) -> Matrix:
    break_mel = _BREAK_HZ / _HZ_PER_MEL
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - break_mel))
    return np.asarray(np.where(mel < break_mel, mel * _HZ_PER_MEL, above))
