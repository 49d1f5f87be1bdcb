"""Augmentation of log-mel features (T, F).

Noise is added in the power domain: ``log(exp(speech) + exp(noise))`` is the expectation of the
features of the mixed signal, at a small part of its price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]

LEAST_FRAMES = 20  # of what is left of a clip; shorter ones are not said by anybody
_LOW_HZ, _HIGH_HZ = 20.0, 8000.0  # of the mel bins
_PREEMPHASIS = 0.97
_FOURIER_BIN_HZ = 31.25
_HISS_FRAMES = 100
LOG_FLOOR = np.float32(-15.942385)  # kaldi: log(FLT_EPSILON), the features of digital silence


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges; each is drawn once per utterance."""

    noise: float = 0.6
    snr_low_db: float = 0.0
    snr_high_db: float = 35.0
    gain_db: float = 15.0
    tilt_db: float = 6.0
    voice: float = 0.5
    max_voice: float = 0.12
    tempo: float = 0.5
    tempo_low: float = 0.85
    tempo_high: float = 1.2
    trim: float = 0.25
    trim_low_db: float = 20.0
    trim_high_db: float = 45.0
    silence: float = 0.6
    max_silence_frames: int = 100
    frequency_masks: int = 2
    max_frequency_bins: int = 12
    time_masks: int = 2  # at least, and one for so many frames:
    time_mask_every_frames: int = 100
    max_time_frames: int = 15
    substitute: float = 0.3
    max_substitute_frames: int = 15


def mix(speech: Frames, noise: Frames, snr_db: float) -> Frames:
    """Add noise (T', F), repeated to fit, at a signal-to-noise ratio by mean power."""
    repeats = -(-len(speech) // len(noise))
    noise = np.tile(noise, (repeats, 1))[: len(speech)]
    level = np.log(np.exp(speech).mean() / np.exp(noise).mean())
    return np.logaddexp(speech, noise + np.float32(level - snr_db * np.log(10) / 10))


def warp_voice(speech: Frames, factor: float) -> Frames:
    """Another length of the vocal tract (Jaitly and Hinton 2013): what is heard at frequency f is
    what was heard at ``factor`` times f, and at the highest one beyond it."""
    bins = speech.shape[1]
    ends = _mel(np.array([_LOW_HZ, _HIGH_HZ]))
    source = _mel(factor * _bins(bins)[0])
    place = (source - ends[0]) / (ends[1] - ends[0]) * (bins + 1) - 1
    return _interpolated(speech.T, np.clip(place, 0, bins - 1)).T


def warp_tempo(speech: Frames, rate: float) -> Frames:
    """The same sounds, ``rate`` times as fast; at least one frame."""
    count = max(1, round(len(speech) / rate))
    return _interpolated(speech, np.linspace(0, len(speech) - 1, count))


def _bins(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where the mel bins (count,) have their middle, and half their width, both in Hz."""
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ]))
    hertz = 700 * np.expm1((low + (high - low) * np.arange(1, count + 1) / (count + 1)) / 1127)
    return hertz, (700 + hertz) * (high - low) / (count + 1) / 1127


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1127 * np.log1p(hertz / 700)  # as kaldi counts


def _interpolated(rows: Frames, places: npt.NDArray[np.float64]) -> Frames:
    """Rows (N, D) at fractional places (M,), each between 0 and N - 1."""
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, len(rows) - 1)
    part = (places - below).astype(np.float32)[:, None]
    return rows[below] * (1 - part) + rows[above] * part


def trim(speech: Frames, below_db: float, least_frames: int) -> Frames:
    """Without the frames at both ends that are so far below the loudest one, as clips are cut by
    their level; at least ``least_frames`` are left."""
    level_db = np.log(np.exp(speech).mean(axis=1)) * np.float32(10 / np.log(10))
    loud = np.flatnonzero(level_db > level_db.max() - below_db)
    begin, end = int(loud[0]), int(loud[-1]) + 1
    missing = max(0, min(least_frames, len(speech)) - (end - begin))
    begin = max(0, begin - missing)
    return speech[begin : max(end, begin + least_frames)]


def pad_silence(
    speech: Frames, quiet: Frames, before: int, after: int, rng: np.random.Generator
) -> Frames:
    """Put frames drawn from ``quiet`` (N, F) around the speech."""
    drawn = quiet[rng.integers(0, len(quiet), before + after)]
    return np.concatenate([drawn[:before], speech, drawn[before:]])


def draw_quiet(
    speech: Frames, noises: list[npt.NDArray[np.float16]], rng: np.random.Generator
) -> Frames:
    """What is heard before somebody speaks, (N, F): digital silence, a microphone's hiss or another
    place's noise far below the speech, or the speech's own background.

    Streams begin and end in the middle of anything, also in padding zeros.
    """
    kind = rng.random()
    if kind < 0.25:
        return np.full((1, speech.shape[1]), LOG_FLOOR, np.float32)
    if kind < 0.5:
        return _below(speech, hiss(_HISS_FRAMES, speech.shape[1], rng), rng)
    if kind < 0.65 and noises:
        noise = noises[int(rng.integers(len(noises)))].astype(np.float32)
        return _below(speech, noise, rng)
    energy = speech.mean(axis=1)
    return speech[energy <= np.quantile(energy, 0.15)]


def hiss(count: int, bins: int, rng: np.random.Generator) -> Frames:
    """White noise as log-mel features (count, bins), at any level: its spectrum behind the
    pre-emphasis, over triangles that widen with frequency, each a mean of as many independent
    powers as it covers bins of the Fourier transform."""
    hertz, half_width = _bins(bins)
    emphasis = 1 + _PREEMPHASIS**2 - 2 * _PREEMPHASIS * np.cos(np.pi * hertz / _HIGH_HZ)
    powers = np.maximum(1.0, half_width / _FOURIER_BIN_HZ)
    drawn = rng.gamma(powers, 1 / powers, (count, bins))
    return np.log(np.maximum(drawn, 1e-9) * half_width * emphasis).astype(np.float32)


def _below(speech: Frames, noise: Frames, rng: np.random.Generator) -> Frames:
    """``noise`` 25 to 60 dB below the speech, by mean power."""
    level = np.log(np.exp(speech).mean() / np.exp(noise).mean())
    shift = level - rng.uniform(25, 60) * np.log(10) / 10
    return np.maximum(noise + np.float32(shift), LOG_FLOOR)


def equalize(speech: Frames, conf: AugmentConfig, rng: np.random.Generator) -> Frames:
    """Another gain and another microphone: a smooth curve over the mel bins."""
    gain = rng.uniform(-conf.gain_db, conf.gain_db)
    bins = np.linspace(0, 1, speech.shape[1])
    tilt = rng.uniform(-conf.tilt_db, conf.tilt_db) * (bins - 0.5)
    ripple = rng.uniform(0, conf.tilt_db / 2) * np.sin(
        2 * np.pi * (rng.uniform(0.5, 2) * bins + rng.random())
    )
    curve = (gain + tilt + ripple) * np.log(10) / 10
    return np.maximum(speech + curve.astype(np.float32), LOG_FLOOR)


def spec_substitute(speech: Frames, conf: AugmentConfig, rng: np.random.Generator) -> Frames:
    """Replace a stretch by an earlier one (SpecSub, arXiv 2106.05642 section 3.3)."""
    length = int(rng.integers(1, conf.max_substitute_frames + 1))
    if len(speech) <= 2 * length:
        return speech
    begin = int(rng.integers(length, len(speech) - length))
    source = int(rng.integers(0, begin - length + 1))
    out = speech.copy()
    out[begin : begin + length] = speech[source : source + length]
    return out


def spec_augment(speech: Frames, conf: AugmentConfig, rng: np.random.Generator) -> Frames:
    """Hide bands and stretches behind the utterance's mean (SpecAugment, arXiv 1904.08779), more
    stretches of a longer utterance (arXiv 1912.05533, section 3.1)."""
    out = speech.copy()
    fill = speech.mean(axis=0)
    widest = min(conf.max_frequency_bins, speech.shape[1])
    for _ in range(conf.frequency_masks):
        width = int(rng.integers(0, widest + 1))
        begin = int(rng.integers(0, speech.shape[1] - width + 1))
        out[:, begin : begin + width] = fill[begin : begin + width]
    longest = min(conf.max_time_frames, len(speech) // 8)
    for _ in range(max(conf.time_masks, len(speech) // conf.time_mask_every_frames)):
        width = int(rng.integers(0, longest + 1))
        begin = int(rng.integers(0, len(speech) - width + 1))
        out[begin : begin + width] = fill
    return out


def augment(
    speech: Frames,
    noises: list[npt.NDArray[np.float16]],
    conf: AugmentConfig,
    rng: np.random.Generator,
) -> Frames:
    """One random version of an utterance."""
    if rng.random() < conf.voice:
        speech = warp_voice(speech, 1 + rng.uniform(-conf.max_voice, conf.max_voice))
    if rng.random() < conf.tempo and len(speech) >= 2 * LEAST_FRAMES:
        speech = warp_tempo(speech, rng.uniform(conf.tempo_low, conf.tempo_high))
    quiet = draw_quiet(speech, noises, rng)
    if rng.random() < conf.trim:
        speech = trim(speech, rng.uniform(conf.trim_low_db, conf.trim_high_db), LEAST_FRAMES)
    if rng.random() < conf.silence:
        before, after = rng.integers(0, conf.max_silence_frames + 1, 2)
        speech = pad_silence(speech, quiet, int(before), int(after), rng)
    if noises and rng.random() < conf.noise:
        noise = noises[int(rng.integers(len(noises)))].astype(np.float32)
        begin = int(rng.integers(len(noise)))
        noise = np.roll(noise, -begin, axis=0)
        speech = mix(speech, noise, rng.uniform(conf.snr_low_db, conf.snr_high_db))
    speech = equalize(speech, conf, rng)
    if rng.random() < conf.substitute:
        speech = spec_substitute(speech, conf, rng)
    return spec_augment(speech, conf, rng)
