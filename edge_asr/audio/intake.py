"""Audio as it comes, into one channel at the rate of the model.

The stages are dataclasses of plain values with ``push`` and ``flush``: a deep copy is a snapshot,
and any blocking of the same samples gives bit-identical output, because all work happens in
blocks whose borders depend on the position in the stream alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr

from edge_asr.audio.features import Samples

_DOWNMIX_BLOCK_MS = 20
_DOWNMIX_MEMORY_BLOCKS = 500  # 10 s: long against words, short against a cable that comes loose
_LIVE_ENERGY = 1e-3  # a channel 30 dB below the loudest one is dead
_SPEECH_HZ = 300, 3400  # as telephones have it: above mains and its first overtones
_BLACKMAN_HARRIS = 0.35875, -0.48829, 0.14128, -0.01168
_RESAMPLE_BLOCK_MS = 40
# Longer than half the resampling filter, whose length is counted in samples of the lower rate: the
# result equals resampling the whole signal at once to the rounding of float32 (a test measures it).
_RESAMPLE_CONTEXT_MS = 20
_RESAMPLE_CONTEXT_SAMPLES = 160


@dataclass
class Downmix:
    """(N, C) at ``rate`` to one channel (N,).

    The mean of the live channels; where the mean cancels (one channel is the other turned
    upside down) the loudest channel alone. Decided every 20 ms from the last seconds, and
    faded in over the 20 ms. A channel is as loud as it is where speech is: one that is stuck at
    full scale, or has nothing but the hum of mains, is dead.
    """

    rate: int
    channels: int
    _pending: npt.NDArray[np.float32] = field(init=False)
    _channel_energy: npt.NDArray[np.float64] = field(init=False)
    _mean_energy: float = 0.0
    _weights: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        self._pending = np.zeros((0, self.channels), np.float32)
        self._channel_energy = np.zeros(self.channels)

    def push(self, samples: Samples) -> Samples:
        """What is ready of (N, C); all of it where there is one channel."""
        if self.channels == 1:
            return samples[:, 0]
        block = self._block
        signal = np.concatenate([self._pending, samples])
        ready = len(signal) - len(signal) % block
        self._pending = signal[ready:].copy()
        mixed = [self._mix(signal[start : start + block]) for start in range(0, ready, block)]
        return np.concatenate([*mixed, np.zeros(0, np.float32)])

    def flush(self) -> Samples:
        """The rest, too short to judge its channels: they stay judged as they are."""
        rest, self._pending = self._pending, self._pending[:0]
        return self._mix(rest) if len(rest) else np.zeros(0, np.float32)

    @property
    def _block(self) -> int:
        return self.rate * _DOWNMIX_BLOCK_MS // 1000

    def _judge(self, block: Samples) -> npt.NDArray[np.float64]:
        """The weights (C,) of the channels, of which a block (N, C) is heard now."""
        window, speech = _speech_band(self.rate, self._block)
        spectrum = np.fft.rfft(block * window, axis=0)[speech]
        decay = 1 - 1 / _DOWNMIX_MEMORY_BLOCKS
        channels = self._channel_energy = self._channel_energy * decay + _energy(spectrum)
        live = channels >= _LIVE_ENERGY * channels.max()
        weights: npt.NDArray[np.float64] = live / live.sum()
        mean_energy = float(_energy(spectrum @ weights))
        self._mean_energy = self._mean_energy * decay + mean_energy
        # C unrelated channels keep 1 / C of their energy in the mean; half of that is cancelling.
        if self._mean_energy < 0.5 / live.sum() * channels[live].mean():
            weights = np.zeros(self.channels)
            weights[channels.argmax()] = 1.0
        return weights

    def _mix(self, block: Samples) -> Samples:
        before = self._weights
        if len(block) == self._block:
            self._weights = self._judge(block)
        elif before is None:
            self._weights = np.full(self.channels, 1 / self.channels)
        weights = self._weights
        assert weights is not None
        before = weights if before is None else before
        fade = np.linspace(0, 1, len(block))[:, None]
        mixed = (block * (before + fade * (weights - before))).sum(axis=1)
        return np.asarray(mixed, np.float32)


def _energy(spectrum: npt.NDArray[np.complex128]) -> npt.NDArray[np.float64]:
    return np.asarray((np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=0))


@functools.lru_cache(maxsize=16)
def _speech_band(rate: int, length: int) -> tuple[npt.NDArray[np.float64], slice]:
    """A window (N, 1) for blocks of ``length`` samples, and which bins of their spectrum are of
    speech. What is 200 Hz or more below them reaches them with a factor of 3e-5 (a Blackman-Harris
    window), so a constant and the hum of mains do not."""
    turns = 2 * np.pi * np.arange(length) / length
    window = sum(weight * np.cos(turns * k) for k, weight in enumerate(_BLACKMAN_HARRIS))
    low_hz, high_hz = _SPEECH_HZ
    speech = slice(-(-low_hz * length // rate), high_hz * length // rate + 1)
    return np.asarray(window, np.float64)[:, None], speech


@dataclass
class Resampler:
    """One channel (N,) from ``rate_in`` to ``rate_out``, in blocks of their own.

    soxr's stream object cannot be copied, so a snapshot of it is impossible. Instead each 40 ms
    (or the shortest time that both rates count in whole samples, if that is longer) are resampled
    with 20 ms or more of their surroundings, and the middle is kept. N samples in all become
    ``N * rate_out // rate_in``.
    """

    rate_in: int
    rate_out: int
    _pending: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    _lead: int = 0  # samples at the front of _pending that are only surroundings

    def push(self, samples: Samples) -> Samples:
        """The output that ``samples`` complete."""
        if self.rate_in == self.rate_out:
            return samples
        block, context = self._whole(self.rate_in * _RESAMPLE_BLOCK_MS // 1000), self._context()
        signal = np.concatenate([self._pending, samples])
        out, start = [np.zeros(0, np.float32)], self._lead
        while start + block + context <= len(signal):
            out.append(self._resample(signal, start, block, context))
            start += block
        first = max(0, start - context)
        self._pending, self._lead = signal[first:].copy(), start - first
        return np.concatenate(out)

    def flush(self) -> Samples:
        """The rest; the next push begins a new signal."""
        signal, start = self._pending, self._lead
        self._pending, self._lead = signal[:0], 0
        if start >= len(signal):
            return np.zeros(0, np.float32)
        return self._resample(signal, start, len(signal) - start, self._context())

    def _context(self) -> int:
        low_rate = min(self.rate_in, self.rate_out)
        return self._whole(
            max(
                self.rate_in * _RESAMPLE_CONTEXT_MS // 1000,
                self.rate_in * _RESAMPLE_CONTEXT_SAMPLES // low_rate,
            )
        )

    def _whole(self, samples: int) -> int:
        """The next count from ``samples`` that is a whole number of output samples."""
        period = self.rate_in // math.gcd(self.rate_in, self.rate_out)
        return -(-samples // period) * period

    def _resample(self, signal: Samples, start: int, count: int, context: int) -> Samples:
        first = max(0, start - context)
        part = signal[first : start + count + context]
        skip = (start - first) * self.rate_out // self.rate_in
        keep = count * self.rate_out // self.rate_in  # as the stream's clock counts
        resampled: Samples = soxr.resample(part, self.rate_in, self.rate_out)
        return resampled[skip : skip + keep]


@dataclass
class Intake:
    """Audio of one format to one channel at ``rate_out``."""

    rate: int
    channels: int
    rate_out: int
    received: int = 0  # samples per channel at ``rate``

    def __post_init__(self) -> None:
        self._downmix = Downmix(self.rate, self.channels)
        self._resampler = Resampler(self.rate, self.rate_out)

    @property
    def received_out(self) -> int:
        """What was received, in samples at ``rate_out``."""
        return self.received * self.rate_out // self.rate

    def push(self, samples: Samples) -> Samples:
        """What is ready (M,) of ``samples`` (N, C)."""
        self.received += len(samples)
        return self._resampler.push(self._downmix.push(samples))

    def flush(self) -> Samples:
        """The rest."""
        rest = self._resampler.push(self._downmix.flush())
        return np.concatenate([rest, self._resampler.flush()])
