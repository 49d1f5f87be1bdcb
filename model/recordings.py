"""Recordings as training hears them: at several speeds, in rooms and over telephones; as features,
computed once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from rich.console import Console
from rich.progress import Progress

from edge_asr.audio.features import fbank
from edge_asr.errors import AudioError, ConfigError, InputMissingError
from edge_asr.package.manifest import FeatureSpec
from model.acoustics import room, telephone

HalfFrames = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Versions:
    """Which versions of a recording are made: one of each speed, and how many of them, the one at
    speed 1 left out, are heard in a room or over a telephone."""

    speeds: tuple[float, ...] = (1.0,)
    room: float = 0.0
    telephone: float = 0.0
    keep_plain: bool = True  # whether the version at speed 1 is left as it is


def read_samples(path: Path, sample_rate: int) -> npt.NDArray[np.float32]:
    """The whole file, mono (N,), at ``sample_rate``.

    Raises:
        InputMissingError: no such file. AudioError: not audio that can be read.
    """
    if not path.is_file():
        raise InputMissingError(f"{path}: no such audio file; does the recording list belong here?")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be read ({error})") from error
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    return np.asarray(mono, np.float32)


def load_frames(path: Path, versions: Versions, spec: FeatureSpec) -> tuple[HalfFrames, ...]:
    """Features of one file in several versions. Pitch moves along with speed (Ko et al. 2015).

    What is drawn follows from the file's name alone.
    """
    samples = read_samples(path, spec.sample_rate)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    found = []
    for speed in versions.speeds:
        heard = samples
        if speed != 1.0:
            heard = soxr.resample(samples, spec.sample_rate * speed, spec.sample_rate)
        heard = np.asarray(heard, np.float32)
        if speed != 1.0 or not versions.keep_plain:
            if rng.random() < versions.room:
                heard = room(heard, spec.sample_rate, rng)
            if rng.random() < versions.telephone:
                heard = telephone(heard, spec.sample_rate, rng)
        found.append(fbank(heard, spec).astype(np.float16))
    return tuple(found)


def load_all(
    paths: Sequence[Path], versions: Versions, spec: FeatureSpec, quiet: bool = True
) -> Iterator[tuple[HalfFrames, ...]]:
    """``load_frames`` of every path, in order."""
    console = Console(stderr=True)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(*Progress.get_default_columns(), console=console, disable=quiet) as progress,
    ):
        found = pool.map(lambda path: load_frames(path, versions, spec), paths)
        yield from progress.track(found, len(paths), description="features")


def cached(
    paths: Sequence[Path], versions: Versions, spec: FeatureSpec, folder: Path | None, quiet: bool
) -> list[tuple[HalfFrames, ...]]:
    """``load_all``, read from ``folder`` where it was done before; arrays there are mapped, so
    that several processes share them, and memory holds what is used.

    Raises:
        InputMissingError, AudioError: a recording is not there, or cannot be read.
        ConfigError: the cache is damaged.
    """
    if folder is None or not paths:
        return list(load_all(paths, versions, spec, quiet))
    stamps = [(str(path), path.stat().st_size if path.is_file() else -1) for path in paths]
    key = hashlib.sha256(repr((stamps, versions, spec)).encode()).hexdigest()[:16]
    frames_path, sizes_path = folder / f"{key}.npy", folder / f"{key}.sizes.npy"
    count = len(versions.speeds)
    if not sizes_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        # Several trainings, and the processes of one, may come here at once: the first computes.
        with (folder / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not sizes_path.is_file():
                _write_cache(load_all(paths, versions, spec, quiet), frames_path, sizes_path, spec)
    try:
        sizes = np.load(sizes_path)
        bins = spec.num_mel_bins
        frames = np.memmap(frames_path, np.float16, "r", shape=(int(sizes.sum()), bins))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{frames_path}: cannot be read ({error}); remove {folder}") from error
    ends = np.cumsum(sizes)
    parts = [frames[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return [tuple(parts[i : i + count]) for i in range(0, len(parts), count)]


def _write_cache(
    found: Iterator[tuple[HalfFrames, ...]], frames_path: Path, sizes_path: Path, spec: FeatureSpec
) -> None:
    sizes: list[int] = []
    part = frames_path.with_suffix(".part")
    with part.open("wb") as file:
        for versions in found:
            for frames in versions:
                assert frames.shape[1] == spec.num_mel_bins
                file.write(frames.tobytes())
                sizes.append(len(frames))
    part.rename(frames_path)
    with part.open("wb") as file:
        np.save(file, np.array(sizes, np.int64))
    part.rename(sizes_path)
