"""Kaldi's log-mel filterbank of whole frames, all at once in numpy.

Every frame is computed by itself and in one way, so its features are the same, bit for bit,
whatever frames are computed with it. That is why the bands are products of a vector and a matrix,
one frame after another: a product of matrices would not promise it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec

Frames = npt.NDArray[np.float32]

_FULL_SCALE = np.float32(32768.0)
_LEAST_ENERGY = np.finfo(np.float32).eps
# Computed at once: a few arrays of 80 KB, which caches hold. Two of them are more than a step.
_BLOCK_FRAMES = 40
_BLOCK_WEIGHTS = 4096  # of bands computed at once; with twice as many a product may start threads


class Bands(NamedTuple):
    """Neighbouring bands: their weights (B', F') for a part of the spectrum, zero elsewhere."""

    bins: slice
    bands: slice
    weights: Frames


class Filterbank(NamedTuple):
    """Constants of a ``FeatureSpec``."""

    fft_samples: int
    window: Frames  # (W,)
    groups: tuple[Bands, ...]


def log_mel(signal: Frames, spec: FeatureSpec) -> Frames:
    """Features (T, F) of all frames that are complete in ``signal`` (N,) in [-1, 1).

    Raises:
        ConfigError: more bins than the spectrum of a window has room for.
    """
    bank = filterbank(spec)
    window, shift, stride = spec.window_samples, spec.shift_samples, signal.strides[0]
    count = 1 + (len(signal) - window) // shift
    if count <= 0:
        return np.zeros((0, spec.num_mel_bins), np.float32)
    windows = np.lib.stride_tricks.as_strided(
        signal, (count, window), (shift * stride, stride), writeable=False
    )
    room = _scratch(spec)
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
    bins = np.arange(fft_samples // 2, dtype=np.float32)  # Kaldi leaves out Nyquist
    places = _mel(bins * np.float32(spec.sample_rate / fft_samples))[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    weights = np.maximum(np.minimum(rising, falling), np.float32(0))
    if narrow := np.flatnonzero(~weights.any(axis=0)).tolist():
        raise ConfigError(
            f"features: num_mel_bins is {spec.num_mel_bins}, so no frequency of the spectrum is in "
            f"band {narrow[0] + 1}; allowed are fewer bins or more samples"
        )
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    return Filterbank(fft_samples, (hann**0.85).astype(np.float32), tuple(_groups(weights)))


def _groups(weights: Frames) -> Iterator[Bands]:
    """``weights`` (B, F) in parts that leave out most of the zeros."""
    is_heard = weights > 0
    first = is_heard.argmax(axis=0).tolist()
    after = (len(weights) - is_heard[::-1].argmax(axis=0)).tolist()
    begin, count = 0, len(first)
    for end in range(1, count + 1):
        if end < count and (after[end] - first[begin]) * (end + 1 - begin) <= _BLOCK_WEIGHTS:
            continue
        bins, bands = slice(first[begin], after[end - 1]), slice(begin, end)
        yield Bands(bins, bands, np.ascontiguousarray(weights[bins, bands]))
        begin = end


def _mel(hz: Frames) -> Frames:
    mel: Frames = np.float32(1127.0) * np.log(np.float32(1.0) + hz / np.float32(700.0))
    return mel


class _Scratch(NamedTuple):
    """Room for a block, used again and again: in new memory a block takes a fifth longer."""

    frames: Frames  # (T, W)
    padded: Frames  # (T, N), 0 from W on
    power: Frames  # (2, T, B)


class _OfThread(threading.local):
    """What a thread has computed last; it goes with the thread."""

    spec: FeatureSpec | None = None
    room: _Scratch


_of_thread = _OfThread()


def _scratch(spec: FeatureSpec) -> _Scratch:
    """The room of this thread."""
    if _of_thread.spec != spec:
        bank, rows = filterbank(spec), _BLOCK_FRAMES
        bins = bank.fft_samples // 2 + 1
        _of_thread.room = _Scratch(
            np.empty((rows, spec.window_samples), np.float32),
            np.zeros((rows, bank.fft_samples), np.float32),
            np.empty((2, rows, bins), np.float32),
        )
        _of_thread.spec = spec
    return _of_thread.room


def _log_mel(windows: Frames, spec: FeatureSpec, bank: Filterbank, room: _Scratch) -> Frames:
    """Features (T, F) of windows (T, W) of a signal, which are left as they are."""
    count, size = windows.shape
    frames = np.multiply(windows, _FULL_SCALE, out=room.frames[:count])
    frames -= np.add.reduce(frames, axis=1, keepdims=True) / np.float32(size)
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
    energies = np.empty((count, 1, spec.num_mel_bins), np.float32)
    for bins, bands, weights in bank.groups:
        np.matmul(power[:, None, bins], weights, out=energies[:, :, bands])
    np.maximum(energies, _LEAST_ENERGY, out=energies)
    features: Frames = np.log(energies, out=energies)[:, 0]
    return features
