"""Recordings as features, in versions, and kept in files."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_asr.audio.features import fbank
from edge_asr.errors import AudioError, ConfigError, InputMissingError
from edge_asr.package.manifest import FeatureSpec
from model.recordings import HalfFrames, Versions, cached, load_all, load_frames, read_samples
from tests.model.clips import write

SPEC = FeatureSpec()


def noises(folder: Path, count: int = 5) -> list[Path]:
    rng = np.random.default_rng(0)
    return [write(folder / f"{n}.wav", 0.1 * rng.normal(size=8000 + n)) for n in range(count)]


def test_samples_are_mono_and_resampled(tmp_path: Path) -> None:
    time_s = np.arange(48000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    path = write(tmp_path / "a.wav", np.stack([tone, 0 * tone], 1), 48000)
    samples = read_samples(path, 16000)
    assert samples.shape == (16000,) and samples.dtype == np.float32
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=2e-3)


def test_unreadable_recording(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF and nothing")
    with pytest.raises(AudioError, match=r"a\.wav"):
        read_samples(tmp_path / "a.wav", 16000)
    with pytest.raises(InputMissingError, match=r"b\.wav"):
        read_samples(tmp_path / "b.wav", 16000)


def test_speeds_in_order_and_as_the_runtime_computes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [write(tmp_path / f"{n}.wav", 0.1 * rng.normal(size=8000 + n)) for n in range(5)]
    loaded = list(load_all(paths, Versions((0.8, 1.0, 1.25)), SPEC))
    for path, versions in zip(paths, loaded, strict=True):
        plain = fbank(read_samples(path, 16000), SPEC)
        np.testing.assert_array_equal(versions[1], plain.astype(np.float16))
        lengths = [len(version) for version in versions]
        # 0.5 s, slower and faster, in frames of 10 ms that lack 1.5 windows at the end.
        assert lengths[0] == pytest.approx(0.5 / 0.8 * 100 - 1.5, abs=1)
        assert lengths[2] == pytest.approx(0.5 / 1.25 * 100 - 1.5, abs=1)


def test_some_versions_are_in_rooms_and_the_plain_one_is_kept(tmp_path: Path) -> None:
    path = noises(tmp_path, 1)[0]
    plain = load_frames(path, Versions((0.9, 1.0, 1.1)), SPEC)
    heard = load_frames(path, Versions((0.9, 1.0, 1.1), room=1.0), SPEC)
    np.testing.assert_array_equal(heard[1], plain[1])
    for other, ours in ((heard[0], plain[0]), (heard[2], plain[2])):
        assert other.shape == ours.shape and not np.array_equal(other, ours)
    once = load_frames(path, Versions((1.0,), telephone=1.0, keep_plain=False), SPEC)
    assert not np.array_equal(once[0], plain[1])
    # Above the band of a telephone there is much less than before.
    assert (plain[1][:, -5:].mean() - once[0][:, -5:].mean()) > 3
    again = load_frames(path, Versions((1.0,), telephone=1.0, keep_plain=False), SPEC)
    np.testing.assert_array_equal(once[0], again[0])


def test_kept_features_are_the_same_and_are_not_computed_again(tmp_path: Path) -> None:
    paths, versions = noises(tmp_path), Versions((0.9, 1.0), room=0.5)
    cache = tmp_path / "features"
    expected = list(load_all(paths, versions, SPEC))
    for _ in range(2):
        found = cached(paths, versions, SPEC, cache, True)
        for ours, theirs in zip(found, expected, strict=True):
            for left, right in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(left, right)
    kept = sorted(cache.iterdir())
    for path in paths:  # as long as before: what counts is the size
        path.write_bytes(b"x" * path.stat().st_size)
    assert len(cached(paths, versions, SPEC, cache, True)) == len(paths)
    assert sorted(cache.iterdir()) == kept
    with pytest.raises(AudioError):  # other versions are other features
        cached(paths, Versions((1.0,)), SPEC, cache, True)


def test_who_comes_meanwhile_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = noises(tmp_path), tmp_path / "features"
    begun, computed = threading.Barrier(2, timeout=60), []

    def slow(*arguments: object) -> Iterator[tuple[HalfFrames, ...]]:
        computed.append(1)
        time.sleep(0.2)  # long enough for the other one to come
        return load_all(*arguments)  # type: ignore[arg-type]

    def come(_: int) -> list[tuple[HalfFrames, ...]]:
        begun.wait()
        return cached(paths, Versions(), SPEC, cache, True)

    monkeypatch.setattr("model.recordings.load_all", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(come, range(2))
    assert len(computed) == 1
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])


def test_damaged_cache(tmp_path: Path) -> None:
    paths, cache = noises(tmp_path, 1), tmp_path / "features"
    cached(paths, Versions(), SPEC, cache, True)
    frames = next(path for path in cache.glob("*.npy") if "sizes" not in path.name)
    frames.write_bytes(frames.read_bytes()[:100])
    with pytest.raises(ConfigError, match="features"):
        cached(paths, Versions(), SPEC, cache, True)
