"""Utterances for training: manifests, cached features, batches of similar length."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edge_asr.errors import ConfigError, InputMissingError
from edge_asr.features import fbank
from edge_asr.manifest import FeatureSpec

HalfFrames = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest."""

    path: Path
    speaker: str
    text: str


@dataclass(frozen=True)
class Example:
    """An utterance's features (T, F), one array per speed, and its units."""

    frames: tuple[HalfFrames, ...]
    label: list[int]


def read_manifest(path: Path) -> list[Utterance]:
    """Read a tab-separated manifest with the header ``path seconds speaker text``.

    ``path`` is relative to the manifest's folder.

    Raises:
        InputMissingError: no such file. ConfigError: another header or a short line.
    """
    if not path.is_file():
        raise InputMissingError(f"{path}: no such manifest")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"path", "speaker", "text"} <= set(rows.fieldnames or ()):
            raise ConfigError(f"{path}: the header must name path, speaker and text")
        try:
            return [Utterance(path.parent / r["path"], r["speaker"], r["text"]) for r in rows]
        except TypeError as error:
            raise ConfigError(f"{path}: a line has fewer columns than the header") from error


def read_samples(path: Path, sample_rate: int) -> npt.NDArray[np.float32]:
    """The whole file, mono (N,), at ``sample_rate``."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    return np.asarray(mono, np.float32)


def load_frames(path: Path, speeds: Sequence[float], spec: FeatureSpec) -> tuple[HalfFrames, ...]:
    """Features of one file at several speeds (pitch moves along, as in Ko et al. 2015)."""
    samples = read_samples(path, spec.sample_rate)
    versions = []
    for speed in speeds:
        warped = samples
        if speed != 1.0:
            warped = soxr.resample(samples, spec.sample_rate * speed, spec.sample_rate)
        versions.append(fbank(np.asarray(warped, np.float32), spec).astype(np.float16))
    return tuple(versions)


def load_all(
    paths: Sequence[Path], speeds: Sequence[float], spec: FeatureSpec, workers: int = 2
) -> Iterator[tuple[HalfFrames, ...]]:
    """``load_frames`` of every path, in order."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda path: load_frames(path, speeds, spec), paths)


def batches(
    lengths: Sequence[int], frames_per_batch: int, rng: np.random.Generator
) -> list[list[int]]:
    """Indices grouped by similar length, every batch at most ``frames_per_batch`` padded
    feature frames, in random order. Every index appears once."""
    noisy = np.asarray(lengths) * rng.uniform(0.9, 1.1, len(lengths))
    result: list[list[int]] = []
    batch: list[int] = []
    longest = 0
    for index in np.argsort(noisy).tolist():
        longest_then = max(longest, lengths[index])
        if batch and longest_then * (len(batch) + 1) > frames_per_batch:
            result.append(batch)
            batch, longest_then = [], lengths[index]
        batch.append(index)
        longest = longest_then
    if batch:
        result.append(batch)
    rng.shuffle(result)
    return result
