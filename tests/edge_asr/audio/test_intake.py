"""Audio intake: resampling and downmix, in blocks of any size."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.audio.intake import Downmix, Intake, Resampler
from tests.tiny import Samples

RATES = [4000, 8000, 11025, 16000, 22050, 44100, 44101, 48000, 96000]


def noise(count: int, channels: int = 1, level: float = 0.2) -> Samples:
    values = np.random.default_rng(count + channels).standard_normal((count, channels))
    return (values * level).astype(np.float32)


def in_blocks(
    stage: Resampler | Downmix | Intake, samples: Samples, cuts: Sequence[int]
) -> Samples:
    parts = [
        stage.push(samples[start:end])
        for start, end in itertools.pairwise([0, *sorted(cuts), len(samples)])
    ]
    return np.concatenate([*parts, stage.flush()])


def to_mono(samples: Samples, rate: int) -> Samples:
    """A whole signal (N, C) as one channel (N,)."""
    return in_blocks(Downmix(rate, samples.shape[1]), samples, [])


@pytest.mark.parametrize("rate", [*RATES, 384_000])
def test_resampling_in_blocks_equals_resampling_the_whole(rate: int) -> None:
    samples = noise(rate + 17)[:, 0]
    stage = Resampler(rate, 16000)
    found = in_blocks(stage, samples, range(0, len(samples), rate // 7))
    assert len(found) == len(samples) * 16000 // rate
    whole = soxr.resample(samples, rate, 16000)[: len(found)]
    # Noise of every frequency up to 0.8: a few units in the last place.
    np.testing.assert_allclose(found, whole, rtol=0, atol=4 * np.finfo(np.float32).eps)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    count=st.integers(0, 9000),
    channels=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 9000), max_size=12),
)
def test_any_blocking_gives_the_same_bits(
    rate: int, count: int, channels: int, cuts: list[int]
) -> None:
    samples = noise(count, channels)
    whole = in_blocks(Intake(rate, channels, 16000), samples, [])
    blocked = in_blocks(Intake(rate, channels, 16000), samples, [min(cut, count) for cut in cuts])
    np.testing.assert_array_equal(blocked, whole)
    intake = Intake(rate, channels, 16000, received=2**40)
    intake.push(samples)
    assert len(whole) == count * 16000 // rate
    assert intake.received_out == (2**40 + count) * 16000 // rate


def test_a_copy_of_an_intake_is_a_snapshot() -> None:
    samples = noise(30_000, 2)
    intake = Intake(44100, 2, 16000)
    intake.push(samples[:10_001])
    snapshot = copy.deepcopy(intake)
    rest = in_blocks(intake, samples[10_001:], [])
    np.testing.assert_array_equal(in_blocks(snapshot, samples[10_001:], [77, 9000]), rest)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_equal_channels_mix_to_themselves(channels: int) -> None:
    mono = noise(5000)
    np.testing.assert_allclose(to_mono(mono.repeat(channels, 1), 16000), mono[:, 0], atol=1e-7)


def test_a_channel_turned_upside_down_does_not_cancel() -> None:
    mono = noise(16000)
    mixed = to_mono(np.concatenate([mono, -0.9 * mono], 1), 16000)
    np.testing.assert_allclose(mixed, mono[:, 0], atol=1e-7)


def test_a_dead_channel_does_not_halve_the_other() -> None:
    mono = noise(16000)
    mixed = to_mono(np.concatenate([1e-3 * noise(16001)[1:], mono], 1), 16000)
    np.testing.assert_allclose(mixed, mono[:, 0], atol=1e-7)


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 44100, 48000])
@pytest.mark.parametrize("level", [0.003, 0.01, 0.05])
@pytest.mark.parametrize(
    "other",
    [
        lambda time: np.full(len(time), 1.0),
        lambda time: np.full(len(time), -1.0),
        lambda time: 0.7 * np.sin(2 * np.pi * 50 * time),
        lambda time: 0.7 * np.sin(2 * np.pi * 60 * time) - 0.2,
        lambda time: 0.3 * np.sin(2 * np.pi * 50 * time) + 0.1 * np.sin(2 * np.pi * 100 * time + 1),
        lambda time: 0.3 * np.sin(2 * np.pi * 17 * time),
    ],
    ids=["stuck", "stuck below", "50 Hz", "60 Hz", "overtone", "17 Hz"],
)
def test_a_channel_without_speech_is_dead_however_strong_it_is(
    other: Callable[[Samples], Samples], level: float, rate: int
) -> None:
    time = np.arange(rate) / rate
    speech = level * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * 800 * time)
    mixed = to_mono(np.stack([other(time), speech], 1).astype(np.float32), rate)
    np.testing.assert_allclose(mixed, speech, atol=1e-7)


def test_unrelated_channels_are_both_heard() -> None:
    left, right = noise(16000), noise(16001)[1:]
    mixed = to_mono(np.concatenate([left, right], 1), 16000)
    np.testing.assert_allclose(mixed, (left + right)[:, 0] / 2, atol=1e-6)


def test_a_channel_that_comes_alive_is_faded_in_without_a_click() -> None:
    tone = np.sin(2 * np.pi * 93 * np.arange(48_000) / 16000)
    quiet = np.where(np.arange(48_000) < 16_000, 0.0, 0.05 * tone)
    mixed = to_mono(np.stack([tone, quiet], 1).astype(np.float32), 16000)
    np.testing.assert_allclose(mixed[:16_000], tone[:16_000], atol=1e-6)
    np.testing.assert_allclose(mixed[-9000:], 0.525 * tone[-9000:], atol=1e-6)
    # The tone itself moves by 0.037 from one sample to the next.
    assert np.abs(np.diff(mixed)).max() < 0.04


def test_silence_is_silence() -> None:
    np.testing.assert_array_equal(to_mono(np.zeros((999, 3), np.float32), 44100), np.zeros(999))
