"""Other rooms and other lines: what happens to a voice on its way to the recorder.

Both change samples (N,) at ``sample_rate``, and neither changes their number or their level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]

TELEPHONE_RATE = 8000
# The band of a telephone line (ITU-T G.712).
TELEPHONE_BAND_HZ = (300.0, 3400.0)
_T60_S = (0.1, 0.6)
_DIRECT_TO_REVERBERANT_DB = (-2.0, 15.0)


def room(samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
    """The voice in a random room: its direct sound, and noise that decays exponentially behind it
    (the late reverberation of Polack 1988), 0.1 to 0.6 s down to -60 dB."""
    t60_s = rng.uniform(*_T60_S)
    time_s = np.arange(1, int(t60_s * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / t60_s)
    tail[: int(rng.uniform(0.001, 0.01) * sample_rate)] = 0  # the first wall is some way off
    ratio_db = rng.uniform(*_DIRECT_TO_REVERBERANT_DB)
    tail *= 10 ** (-ratio_db / 20) / np.sqrt((tail**2).sum())
    response = np.concatenate([[1.0], tail])
    size = len(samples) + len(response) - 1
    padded = 1 << (size - 1).bit_length()
    spectrum = np.fft.rfft(samples, padded) * np.fft.rfft(response, padded)
    return _levelled(np.fft.irfft(spectrum, padded)[: len(samples)], samples)


def telephone(samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
    """The voice over a telephone: its band, at 8 kHz, in the 8 bits of mu-law."""
    narrow = soxr.resample(samples, sample_rate, TELEPHONE_RATE)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    low, high = TELEPHONE_BAND_HZ
    spectrum[(hertz < low * rng.uniform(0.5, 1)) | (hertz > high)] = 0
    narrow = np.fft.irfft(spectrum, len(narrow))
    peak = max(float(np.abs(narrow).max(initial=0.0)), 1e-9)
    level = rng.uniform(0.1, 1.0) / peak
    mu = 255.0
    squeezed = np.round(
        np.sign(narrow) * np.log1p(mu * np.abs(narrow * level)) / np.log1p(mu) * 127
    )
    decoded = np.sign(squeezed) * np.expm1(np.abs(squeezed) / 127 * np.log1p(mu)) / mu
    wide = soxr.resample(decoded.astype(np.float32), TELEPHONE_RATE, sample_rate)
    return _levelled(np.resize(wide, len(samples)) if len(wide) else samples, samples)


def _levelled(changed: npt.NDArray[np.floating], samples: Samples) -> Samples:
    power = float(np.square(changed).mean())
    scale = np.sqrt(float(np.square(samples).mean()) / power) if power > 0 else 1.0
    return np.asarray(changed * scale, np.float32)
