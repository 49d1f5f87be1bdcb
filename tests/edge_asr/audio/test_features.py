"""The filterbank against Kaldi's library and against Kaldi's formulas written out again."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.audio.features import FbankState, Frames, Samples, fbank, flush_samples, push_samples
from edge_asr.errors import ConfigError
from edge_asr.package.manifest import FeatureSpec

SPEC = FeatureSpec()
SPEECH = Path(__file__).parents[2] / "data/an4/an392-mjwl-b.flac"


def speech() -> Samples:
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    assert rate == SPEC.sample_rate
    return np.asarray(samples)


def noise(count: int, seed: int = 0) -> Samples:
    return (np.random.default_rng(seed).standard_normal(count) * 0.1).astype(np.float32)


def test_the_settings_are_those_of_wenet() -> None:
    # compute_fbank of WeNet. A change here makes every trained model worthless.
    assert SPEC == FeatureSpec(
        sample_rate=16000,
        num_mel_bins=80,
        frame_length_ms=25.0,
        frame_shift_ms=10.0,
        low_freq_hz=20.0,
        high_freq_hz=0.0,
        window="povey",
        preemphasis=0.97,
    )
    assert (SPEC.window_samples, SPEC.shift_samples) == (400, 160)


def mel(frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(frequency_hz, np.float64) / 700.0))


def reference(samples: Samples, spec: FeatureSpec) -> npt.NDArray[np.float64]:
    """Kaldi's fbank in float64: snip_edges, DC removal, pre-emphasis, povey, power spectrum."""
    window, shift = spec.window_samples, spec.shift_samples
    count = max(0, 1 + (len(samples) - window) // shift)
    starts = np.arange(count)[:, None] * shift
    frames = samples.astype(np.float64)[starts + np.arange(window)] * 32768
    frames -= frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = frames - spec.preemphasis * before
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))
    size = 1 << (window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * hann**0.85, size)) ** 2
    nyquist = spec.sample_rate / 2
    edges = np.linspace(mel(spec.low_freq_hz), mel(nyquist), spec.num_mel_bins + 2)
    places = mel(np.arange(size // 2) * spec.sample_rate / size)[:, None]
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (places - left) / (center - left), (right - places) / (right - center)
    weights = np.clip(np.minimum(rising, falling), 0, None)
    return np.log(np.maximum(power[:, : size // 2] @ weights, np.finfo(np.float32).eps))


@pytest.mark.parametrize(
    "spec",
    [SPEC, FeatureSpec(num_mel_bins=23), FeatureSpec(sample_rate=8000, num_mel_bins=40)],
    ids=lambda spec: f"{spec.sample_rate} Hz, {spec.num_mel_bins} bins",
)
def test_features_equal_the_formulas(spec: FeatureSpec) -> None:
    for samples in (noise(16_000), speech(), np.ones(3000, np.float32)):
        found = fbank(samples, spec)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, reference(samples, spec), rtol=0, atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_frames_equal_those_of_the_library(rate: int) -> None:
    spec, samples = FeatureSpec(sample_rate=rate, num_mel_bins=40), noise(rate)
    options = knf.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = rate, 0
    options.mel_opts.num_bins, options.energy_floor = 40, 0.0
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(rate, (samples * 32768).tolist())
    computer.input_finished()
    expected = [computer.get_frame(index) for index in range(computer.num_frames_ready)]
    found, exact = fbank(samples, spec), reference(samples, spec)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    # The same formulas in the same precision, so as far from the exact ones.
    assert np.abs(found - exact).mean() <= 1.5 * np.abs(expected - exact).mean()


def pushed(samples: Samples, cuts: list[int], state: FbankState) -> Frames:
    parts = itertools.pairwise([0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)])
    return np.concatenate([push_samples(samples[a:b], state, SPEC) for a, b in parts])


@settings(max_examples=40, deadline=None)
@given(
    # The second kind ends with a frame, so that nothing is left to flush.
    count=st.one_of(st.integers(0, 4000), st.integers(0, 20).map(lambda n: 400 + 160 * n)),
    cuts=st.lists(st.integers(0, 4000), max_size=20),
)
def test_any_blocking_gives_the_same_frames(count: int, cuts: list[int]) -> None:
    samples, state = noise(count, seed=count), FbankState()
    frames = pushed(samples, cuts, state)
    np.testing.assert_array_equal(frames, fbank(samples, SPEC))
    assert state.frames == len(frames)
    assert len(state.pending) == len(samples) - len(frames) * SPEC.shift_samples
    snapshot = copy.deepcopy(state)
    rest = flush_samples(state, SPEC)
    # One more frame if a sample is in none yet; the rest of its window is zeros.
    seen = (len(frames) - 1) * SPEC.shift_samples + SPEC.window_samples if len(frames) else 0
    assert len(rest) == (count > seen)
    padded = fbank(np.concatenate([samples, np.zeros(400, np.float32)]), SPEC)
    np.testing.assert_array_equal(rest, padded[len(frames) :][: len(rest)])
    assert (len(state.pending), state.frames) == (0, 0)
    np.testing.assert_array_equal(flush_samples(snapshot, SPEC), rest)


def test_digital_silence_is_a_number() -> None:
    frames = fbank(np.zeros(1600, np.float32), SPEC)
    np.testing.assert_allclose(frames, np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_bins_without_room_are_our_error() -> None:
    with pytest.raises(ConfigError, match="num_mel_bins"):
        fbank(noise(1600), FeatureSpec(num_mel_bins=256))
