"""Kaldi's log-mel filterbank of whole frames, all at once in numpy.

Every frame is computed by itself and in one way, so its features are the same, bit for bit,
whatever frames are computed with it. A product of matrices would not promise that, and would start
threads.
"""

from __future__ import annotations

import functools
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec

Frames = npt.NDArray[np.float32]

_FULL_SCALE = np.float32(32768.0)
_LEAST_ENERGY = np.finfo(np.float32).eps
_BLOCK_FRAMES = 32  # computed at once: a few arrays of 64 KB, which caches hold


class Filterbank(NamedTuple):
    """Constants of a ``FeatureSpec``. Band m lies between edges m and m + 2, its peak on m + 1;
    span s is what of the spectrum lies between edges s and s + 1."""

    fft_samples: int
    window: Frames  # (W,)
    slopes: Frames  # (2, B) of a bin of the spectrum in the band that rises, and that falls there
    spans: npt.NDArray[np.int64]  # (M + 1,) first bin of each
    empty: npt.NDArray[np.int64]  # numbers of spans without a bin


def log_mel(signal: Frames, spec: FeatureSpec) -> Frames:
    """Features (T, F) of all frames that are complete in ``signal`` (N,) in [-1, 1).

    Raises:
        ConfigError: more bins than the spectrum of a window has room for.
    """
    bank = filterbank(spec)
    if len(signal) < spec.window_samples:
        return np.zeros((0, spec.num_mel_bins), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(signal, spec.window_samples)
    windows = windows[:: spec.shift_samples]
    room = _scratch(spec, threading.get_ident())
    blocks = [
        _log_mel(windows[start : start + _BLOCK_FRAMES], spec, bank, room)
        for start in range(0, len(windows), _BLOCK_FRAMES)
    ]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


@functools.lru_cache(maxsize=8)
def filterbank(spec: FeatureSpec) -> Filterbank:
    """The constants; in float32 as Kaldi computes them, since rounding moves the slopes.

    Raises:
        ConfigError: see ``log_mel``.
    """
    size = spec.window_samples
    fft_samples = 1 << (size - 1).bit_length()
    nyquist = spec.sample_rate / 2
    high_hz = spec.high_freq_hz if spec.high_freq_hz > 0 else nyquist + spec.high_freq_hz
    low, high = _mel(np.array([spec.low_freq_hz, high_hz], np.float32))
    step = (high - low) / np.float32(spec.num_mel_bins + 1)
    edges = low + np.arange(spec.num_mel_bins + 2, dtype=np.float32) * step
    hz = np.arange(fft_samples // 2 + 1, dtype=np.float32) * np.float32(
        spec.sample_rate / fft_samples
    )
    places = _mel(hz)
    first = np.searchsorted(places, edges, side="right")
    span = np.searchsorted(edges, places) - 1  # of each bin
    is_heard = (span >= 0) & (span <= spec.num_mel_bins)
    is_heard[-1] = False  # Kaldi leaves out Nyquist
    span = np.clip(span, 0, spec.num_mel_bins)
    width = edges[span + 1] - edges[span]
    slopes = np.stack([(places - edges[span]) / width, (edges[span + 1] - places) / width])
    slopes *= is_heard
    if narrow := np.flatnonzero(first[2:] == first[:-2]).tolist():
        raise ConfigError(
            f"features: num_mel_bins is {spec.num_mel_bins}, so no frequency of the spectrum is in "
            f"band {narrow[0] + 1}; allowed are fewer bins or more samples"
        )
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    return Filterbank(
        fft_samples=fft_samples,
        window=(hann**0.85).astype(np.float32),
        slopes=slopes,
        spans=first[:-1],
        empty=np.flatnonzero(first[1:] == first[:-1]),
    )


def _mel(hz: Frames) -> Frames:
    mel: Frames = np.float32(1127.0) * np.log(np.float32(1.0) + hz / np.float32(700.0))
    return mel


class _Scratch(NamedTuple):
    """Room for a block, used again and again: in new memory a block takes a fifth longer."""

    frames: Frames  # (T, W)
    padded: Frames  # (T, N), 0 from W on
    power: Frames  # (2, T, B)
    in_bands: Frames  # (T, 2, B)
    sums: Frames  # (T, 2, M + 1)


@functools.lru_cache(maxsize=8)
def _scratch(spec: FeatureSpec, thread: int) -> _Scratch:
    bank, rows = filterbank(spec), _BLOCK_FRAMES
    bins = bank.slopes.shape[1]
    return _Scratch(
        np.empty((rows, spec.window_samples), np.float32),
        np.zeros((rows, bank.fft_samples), np.float32),
        np.empty((2, rows, bins), np.float32),
        np.empty((rows, 2, bins), np.float32),
        np.empty((rows, 2, len(bank.spans)), np.float32),
    )


def _log_mel(windows: Frames, spec: FeatureSpec, bank: Filterbank, room: _Scratch) -> Frames:
    """Features (T, F) of windows (T, W) of a signal, which are left as they are."""
    count, size = windows.shape
    frames = np.multiply(windows, _FULL_SCALE, out=room.frames[:count])
    frames -= frames.mean(axis=1, keepdims=True)
    padded = room.padded[:count]
    sharper = padded[:, :size]
    factor = np.float32(-spec.preemphasis)
    np.multiply(frames[:, :-1], factor, out=sharper[:, 1:])
    np.multiply(frames[:, 0], factor, out=sharper[:, 0])
    sharper += frames
    sharper *= bank.window
    spectrum = np.fft.rfft(padded, axis=1)
    power, imaginary = room.power[:, :count]
    np.multiply(spectrum.real, spectrum.real, out=power)
    np.multiply(spectrum.imag, spectrum.imag, out=imaginary)
    power += imaginary
    in_bands = np.multiply(power[:, None], bank.slopes, out=room.in_bands[:count])
    sums = np.add.reduceat(in_bands, bank.spans, axis=2, out=room.sums[:count])
    sums[:, :, bank.empty] = 0  # reduceat gives the bin after an empty span
    energies = sums[:, 0, :-1] + sums[:, 1, 1:]
    np.maximum(energies, _LEAST_ENERGY, out=energies)
    features: Frames = np.log(energies, out=energies)
    return features
