"""The constants of the filterbank, and frames that do not know of each other."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asr.audio.filterbank import filterbank, log_mel
from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec

SPEC = FeatureSpec()


def noise(count: int) -> np.ndarray:
    return (np.random.default_rng(count).standard_normal(count) * 0.1).astype(np.float32)


def test_a_frame_is_the_same_whatever_is_computed_with_it() -> None:
    samples = noise(40_000)  # several blocks
    together = log_mel(samples, SPEC)
    assert len(together) == 248
    starts = range(0, len(together) * SPEC.shift_samples, SPEC.shift_samples)
    alone = [log_mel(samples[start : start + SPEC.window_samples], SPEC) for start in starts]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_signal_is_left_as_it_is() -> None:
    samples = noise(4000)
    before = samples.copy()
    log_mel(samples, SPEC)
    np.testing.assert_array_equal(samples, before)


def test_a_signal_shorter_than_a_window_has_no_frames() -> None:
    assert log_mel(noise(399), SPEC).shape == (0, 80)


@pytest.mark.parametrize("bins", [23, 80, 100])
def test_what_falls_in_a_band_rises_in_the_next(bins: int) -> None:
    bank = filterbank(FeatureSpec(num_mel_bins=bins))
    heard = bank.slopes.sum(axis=0) > 0
    np.testing.assert_allclose(bank.slopes.sum(axis=0)[heard], 1, atol=1e-6)
    # All above 20 Hz, which is less than a bin, and below Nyquist.
    assert np.flatnonzero(~heard).tolist() == [0, bank.fft_samples // 2]


def test_spans_without_a_bin_add_nothing() -> None:
    spec = FeatureSpec(num_mel_bins=100)
    bank = filterbank(spec)
    assert len(bank.empty) > 0
    # A band between two empty spans would be an error; one next to one hears the other's alone.
    band = int(bank.empty[-1])
    tone = np.sin(2 * np.pi * 4000 / 16000 * np.arange(400), dtype=np.float32)
    assert log_mel(tone, spec)[0, band] < log_mel(tone, spec).max() - 10


@pytest.mark.parametrize("spec", [FeatureSpec(num_mel_bins=256), FeatureSpec(frame_length_ms=10)])
def test_a_band_without_a_frequency_is_refused(spec: FeatureSpec) -> None:
    message = f"num_mel_bins is {spec.num_mel_bins}, .* allowed are fewer bins or more samples"
    with pytest.raises(ConfigError, match=message):
        log_mel(noise(1600), spec)
