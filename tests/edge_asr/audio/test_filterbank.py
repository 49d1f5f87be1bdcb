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
    groups = filterbank(FeatureSpec(num_mel_bins=bins)).groups
    assert [band for group in groups for band in range(bins)[group.bands]] == list(range(bins))
    weights = np.zeros((256, bins), np.float32)
    for group in groups:
        assert group.weights.size <= 4096
        weights[group.bins, group.bands] = group.weights
    # Between the peaks of the first and the last band; bin 0 is below 20 Hz.
    peaks = np.flatnonzero(weights.argmax(axis=1))
    inner = weights[peaks[0] : weights[:, -1].argmax()]
    np.testing.assert_allclose(inner.sum(axis=1), 1, atol=1e-5)
    assert not weights[0].any()


@pytest.mark.parametrize("spec", [FeatureSpec(num_mel_bins=256), FeatureSpec(frame_length_ms=10)])
def test_a_band_without_a_frequency_is_refused(spec: FeatureSpec) -> None:
    message = f"num_mel_bins is {spec.num_mel_bins}, .* allowed are fewer bins or more samples"
    with pytest.raises(ConfigError, match=message):
        log_mel(noise(1600), spec)
