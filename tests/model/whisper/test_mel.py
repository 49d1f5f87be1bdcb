"""Whisper's features by another way of computing them, and the map from ours."""

from __future__ import annotations

import numpy as np

from model.whisper.mel import BINS, HOP, WINDOW, feature_map, mel_filters, whisper_mel


def test_frames_are_the_fourier_transform_of_windows() -> None:
    samples = np.random.default_rng(0).standard_normal(3200).astype(np.float32) * 0.1
    padded = np.pad(samples, WINDOW // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.stack([padded[i * HOP : i * HOP + WINDOW] * hann for i in range(20)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    log = np.log10(np.maximum(power @ mel_filters().T, 1e-10))
    expected = (np.maximum(log, log.max() - 8) + 4) / 4
    np.testing.assert_allclose(whisper_mel(samples), expected, atol=1e-5)


def test_triangles_stand_where_slaney_put_them() -> None:
    filters = mel_filters()
    hertz = np.linspace(0, 8000, WINDOW // 2 + 1)
    assert filters.shape == (BINS, len(hertz))
    # 45.245 mels to 8 kHz in 81 steps: the first corners are 37.24 Hz apart.
    step = (15 + np.log(8) / (np.log(6.4) / 27)) / (BINS + 1) * 200 / 3
    assert abs(step - 37.24) < 0.01
    wide = filters[60:]
    area = wide.sum(axis=1) * (hertz[1] - hertz[0])
    np.testing.assert_allclose(area, 1, rtol=0.03)
    assert (np.diff(hertz[filters.argmax(axis=1)]) >= 0).all()


def test_the_map_is_found_again() -> None:
    rng = np.random.default_rng(2)
    linear, shift = rng.standard_normal((BINS, BINS)) / 9, rng.standard_normal(BINS)
    pairs = []
    for _ in range(4):
        ours = rng.standard_normal((400, BINS)).astype(np.float32) * 3 + 5
        theirs = np.zeros((401, BINS), np.float32)
        theirs[1:] = ours @ linear + shift
        pairs.append((ours, theirs))
    found = feature_map(pairs)
    np.testing.assert_allclose(found[:-1], linear, atol=1e-2)
    ours, theirs = pairs[0]
    # The ridge moves it a little: a hundredth of what features vary by.
    errors = np.c_[ours, np.ones(400)] @ found - theirs[1:]
    assert np.abs(errors).mean() < 0.01 * theirs[1:].std()
