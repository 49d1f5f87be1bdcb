"""Augmentation of log-mel features (T, F).

Noise is added in the power domain: ``log(exp(speech) + exp(noise))`` is the expectation of the
features of the mixed signal, at a small part of its price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]

LOG_FLOOR = np.float32(-15.942385)  # kaldi: log(FLT_EPSILON), the features of digital silence


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges; each is drawn once per utterance."""

    noise: float = 0.6
    snr_low_db: float = 0.0
    snr_high_db: float = 25.0
    gain_db: float = 15.0
    tilt_db: float = 6.0
    silence: float = 0.5
    max_silence_frames: int = 60
    frequency_masks: int = 2
    max_frequency_bins: int = 12
    time_masks: int = 2
    max_time_frames: int = 15
    substitute: float = 0.3
    max_substitute_frames: int = 15


def mix(speech: Frames, noise: Frames, snr_db: float) -> Frames:
    """Add noise (T', F), repeated to fit, at a signal-to-noise ratio by mean power."""
    repeats = -(-len(speech) // len(noise))
    noise = np.tile(noise, (repeats, 1))[: len(speech)]
    level = np.log(np.exp(speech).mean() / np.exp(noise).mean())
    return np.logaddexp(speech, noise + np.float32(level - snr_db * np.log(10) / 10))


def pad_silence(speech: Frames, before: int, after: int, rng: np.random.Generator) -> Frames:
    """Put quiet frames around the speech: its own background, or digital silence.

    Streams begin and end in the middle of anything, also in padding zeros.
    """
    if rng.random() < 0.3:
        floor = np.full((1, speech.shape[1]), LOG_FLOOR, np.float32)
        quiet = floor[np.zeros(before + after, np.int64)]
    else:
        energy = speech.mean(axis=1)
        background = speech[energy <= np.quantile(energy, 0.15)]
        quiet = background[rng.integers(0, len(background), before + after)]
    return np.concatenate([quiet[:before], speech, quiet[before:]])


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
    """Hide bands and stretches behind the utterance's mean (SpecAugment, arXiv 1904.08779)."""
    out = speech.copy()
    fill = speech.mean(axis=0)
    widest = min(conf.max_frequency_bins, speech.shape[1])
    for _ in range(conf.frequency_masks):
        width = int(rng.integers(0, widest + 1))
        begin = int(rng.integers(0, speech.shape[1] - width + 1))
        out[:, begin : begin + width] = fill[begin : begin + width]
    longest = min(conf.max_time_frames, len(speech) // 8)
    for _ in range(conf.time_masks):
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
    if rng.random() < conf.silence:
        before, after = rng.integers(0, conf.max_silence_frames + 1, 2)
        speech = pad_silence(speech, int(before), int(after), rng)
    if noises and rng.random() < conf.noise:
        noise = noises[int(rng.integers(len(noises)))].astype(np.float32)
        begin = int(rng.integers(len(noise)))
        noise = np.roll(noise, -begin, axis=0)
        speech = mix(speech, noise, rng.uniform(conf.snr_low_db, conf.snr_high_db))
    speech = equalize(speech, conf, rng)
    if rng.random() < conf.substitute:
        speech = spec_substitute(speech, conf, rng)
    return spec_augment(speech, conf, rng)
