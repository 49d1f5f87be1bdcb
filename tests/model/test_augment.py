"""Augmentation keeps features finite, of the right length, and mixed at the level asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.audio.features import fbank
from edge_asr.package.manifest import FeatureSpec
from model.augment import (
    LEAST_FRAMES,
    LOG_FLOOR,
    AugmentConfig,
    Frames,
    augment,
    draw_quiet,
    equalize,
    hiss,
    mix,
    pad_silence,
    spec_augment,
    spec_substitute,
    trim,
    warp_tempo,
    warp_voice,
)


def frames(count: int, level: float = 10.0, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return rng.normal(level, 2.0, (count, 80)).astype(np.float32)


def power(values: Frames) -> float:
    return float(np.exp(values.astype(np.float64)).mean())


@settings(deadline=None, max_examples=30)
@given(
    snr_db=st.floats(-10, 40),
    level=st.floats(-5, 15),
    speech_frames=st.integers(1, 80),
    noise_frames=st.integers(1, 80),
)
def test_signal_to_noise_ratio(
    snr_db: float, level: float, speech_frames: int, noise_frames: int
) -> None:
    speech, noise = frames(speech_frames), frames(noise_frames, level, seed=1)
    mixed = mix(speech, noise, snr_db)
    assert mixed.shape == speech.shape and mixed.dtype == np.float32
    added = power(mixed) - power(speech)  # powers add
    expected = power(speech) / 10 ** (snr_db / 10)
    # What float32 loses of a sum is relative to the sum.
    assert added == pytest.approx(expected, rel=2e-3, abs=1e-5 * power(speech))


def test_quiet_is_put_around_the_speech() -> None:
    speech, quiet = frames(50), frames(9, 2.0, seed=1)
    padded = pad_silence(speech, quiet, 7, 5, np.random.default_rng(0))
    assert padded.shape == (62, 80)
    np.testing.assert_array_equal(padded[7:57], speech)
    drawn = {row.tobytes() for row in quiet}
    assert all(row.tobytes() in drawn for row in (*padded[:7], *padded[57:]))
    assert len(pad_silence(speech, quiet, 0, 0, np.random.default_rng(0))) == 50


def test_quiet_is_digital_or_the_utterances_own_or_of_another_place() -> None:
    speech, noise = frames(50), frames(40, 5.0, seed=1).astype(np.float16)
    own = {row.tobytes() for row in speech}

    def kind(noises: list[np.ndarray], seed: int) -> str:
        quiet = draw_quiet(speech, noises, np.random.default_rng(seed))
        if (quiet == LOG_FLOOR).all():
            return "digital"
        if all(row.tobytes() in own for row in quiet):
            return "own"
        assert 25 - 1 < 10 * np.log10(power(speech) / power(quiet)) < 60 + 1
        return "elsewhere" if len(quiet) == len(noise) else "hiss"

    assert {kind([noise], seed) for seed in range(40)} == {"digital", "own", "hiss", "elsewhere"}
    assert {kind([], seed) for seed in range(40)} == {"digital", "own", "hiss"}


def test_hiss_is_white_noise_of_the_front_end() -> None:
    samples = np.random.default_rng(0).normal(0, 1e-3, 16000 * 10).astype(np.float32)
    heard, drawn = fbank(samples, FeatureSpec()), hiss(1000, 80, np.random.default_rng(1))
    assert drawn.dtype == np.float32 and np.isfinite(drawn).all()
    spectra = [np.exp(each.astype(np.float64)).mean(axis=0) for each in (heard, drawn)]
    ratio_db = 10 * np.log10(spectra[0] / spectra[1])
    assert np.abs(ratio_db - ratio_db.mean())[4:].max() < 0.7  # the lowest bins lack the DC
    spread = heard.std(axis=0) / drawn.std(axis=0)
    assert 0.7 < spread.min() and spread.max() < 1.4  # from frame to frame


def hertz_of_bins(bins: int) -> np.ndarray:
    mels = 1127 * np.log1p(np.array([20.0, 8000.0]) / 700)
    return 700 * np.expm1(np.linspace(*mels, bins + 2)[1:-1] / 1127)


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.12])
def test_another_voice_moves_what_is_heard_along_the_frequencies(factor: float) -> None:
    centres = hertz_of_bins(80)
    speech = np.tile(np.log(centres), (3, 1)).astype(np.float32)  # says where it came from
    warped = np.exp(warp_voice(speech, factor))
    assert warped.shape == speech.shape and warped.dtype == np.float32
    expected = np.clip(factor * centres, centres[0], centres[-1])
    np.testing.assert_allclose(warped, np.tile(expected, (3, 1)), rtol=2e-2)
    if factor == 1.0:
        np.testing.assert_allclose(warped, np.exp(speech), rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 200), rate=st.floats(0.5, 2.0))
def test_another_tempo_keeps_the_ends_and_the_line_between(count: int, rate: float) -> None:
    speech = np.arange(count, dtype=np.float32)[:, None].repeat(4, 1)
    warped = warp_tempo(speech, rate)
    assert len(warped) == max(1, round(count / rate)) and warped[0, 0] == 0
    if len(warped) > 1:
        np.testing.assert_allclose(warped[:, 0], np.linspace(0, count - 1, len(warped)), atol=1e-3)


def test_trimming_leaves_what_is_loud() -> None:
    level = np.full(100, 0.0, np.float32)
    level[30:60] = 20.0
    level[45] = 0.0  # a pause inside stays
    speech = frames(100, 0.0) / 10 + level[:, None]
    np.testing.assert_array_equal(trim(speech, 30.0, 5), speech[30:60])
    np.testing.assert_array_equal(trim(speech, 200.0, 5), speech)
    one = frames(100, 0.0) / 10
    one[50] += 20
    left = trim(one, 30.0, 20)
    assert len(left) == 20 and (left == one[50]).all(axis=1).any()
    assert len(trim(one[:12], 1.0, 20)) == 12


def test_equalizer_keeps_the_floor_and_the_order_of_frames() -> None:
    speech = frames(30)
    speech[3] = LOG_FLOOR
    conf = AugmentConfig()
    changed = equalize(speech, conf, np.random.default_rng(0))
    assert changed.min() >= LOG_FLOOR
    curve = changed[4:] - speech[4:]
    np.testing.assert_allclose(curve, np.broadcast_to(curve[0], curve.shape), atol=1e-5)
    largest = (conf.gain_db + conf.tilt_db / 2 + conf.tilt_db / 2) * np.log(10) / 10
    assert 0 < np.abs(curve).max() <= largest


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 60), seed=st.integers(0, 999))
def test_substitute_copies_earlier_frames(count: int, seed: int) -> None:
    speech = np.arange(count, dtype=np.float32)[:, None].repeat(4, 1)
    out = spec_substitute(speech, AugmentConfig(), np.random.default_rng(seed))
    assert out.shape == speech.shape
    assert (out <= speech).all(), "a stretch of the past only"
    assert (out == np.round(out)).all()


def test_masks_fit_few_bins() -> None:
    for seed in range(20):
        few = frames(40)[:, :5]
        assert spec_augment(few, AugmentConfig(), np.random.default_rng(seed)).shape == (40, 5)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 60), seed=st.integers(0, 999))
def test_masks_hide_behind_the_mean(count: int, seed: int) -> None:
    speech = frames(count, seed=seed)
    before = speech.copy()
    out = spec_augment(speech, AugmentConfig(), np.random.default_rng(seed))
    np.testing.assert_array_equal(speech, before)
    hidden = out == speech.mean(axis=0)
    assert (hidden | (out == speech)).all()
    # At most an eighth of the frames for each of two masks.
    assert hidden.all(axis=1).sum() <= 2 * (count // 8) or count == 1


def test_longer_utterances_have_more_masks() -> None:
    conf = AugmentConfig(frequency_masks=0)
    speech = frames(1000)

    def stretches(seed: int) -> int:
        out = spec_augment(speech, conf, np.random.default_rng(seed))
        hidden = (out != speech).any(axis=1).astype(int)
        return int((np.diff(hidden) == 1).sum())

    # Ten, of which some overlap or have no width; two would be too few.
    assert 7 <= np.mean([stretches(seed) for seed in range(20)]) <= 10


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(15, 120),
    kind=st.sampled_from(["speech", "digital silence", "one value"]),
    noise=st.sampled_from(["none", "noise", "digital silence"]),
    seed=st.integers(0, 10_000),
)
def test_everything_is_finite_and_repeatable(count: int, kind: str, noise: str, seed: int) -> None:
    speech = frames(count)
    if kind != "speech":
        speech = np.full_like(speech, LOG_FLOOR if kind == "digital silence" else 12.0)
    noises = []
    if noise != "none":
        level = frames(40, 5.0) if noise == "noise" else np.full((40, 80), LOG_FLOOR)
        noises = [level.astype(np.float16)]
    out = augment(speech, noises, AugmentConfig(), np.random.default_rng(seed))
    assert out.dtype == np.float32 and np.isfinite(out).all()
    conf = AugmentConfig()
    assert min(count, LEAST_FRAMES) <= len(out)
    assert len(out) <= round(count / conf.tempo_low) + 2 * conf.max_silence_frames
    again = augment(speech, noises, AugmentConfig(), np.random.default_rng(seed))
    np.testing.assert_array_equal(out, again)
