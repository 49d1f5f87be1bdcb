"""Utterances for training: features in memory, batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from edge_asr.errors import AudioError, ConfigError, InputMissingError
from edge_asr.features import fbank
from edge_asr.manifest import FeatureSpec
from edge_asr.speech_manifest import Utterance, read_manifest
from model.config import SUBSAMPLING
from model.recipe import TrainConfig
from model.tokenizer import Tokenizer, build_units

HalfFrames = npt.NDArray[np.float16]

# Every subsampling makes at least one encoder frame of so many feature frames.
MIN_FRAMES = 1 + max(right_context for _, right_context in SUBSAMPLING.values())
AUDIO_ENDINGS = (".flac", ".ogg", ".opus", ".wav")


@dataclass(frozen=True)
class Example:
    """An utterance's features (T, F), one array per speed, and its units."""

    frames: tuple[HalfFrames, ...]
    label: list[int]


@dataclass
class Data:
    """Everything that training reads, in memory."""

    train: list[Example]
    dev: dict[str, tuple[list[Example], list[str]]]
    noises: list[HalfFrames]
    tokenizer: Tokenizer


def read_samples(path: Path, sample_rate: int) -> npt.NDArray[np.float32]:
    """The whole file, mono (N,), at ``sample_rate``.

    Raises:
        InputMissingError: no such file. AudioError: not audio that can be read.
    """
    if not path.is_file():
        raise InputMissingError(f"{path}: no such audio file; does the manifest belong here?")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be read ({error})") from error
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


def load_data(conf: TrainConfig, root: Path, spec: FeatureSpec, quiet: bool = False) -> Data:
    """Read manifests and compute features once.

    Raises:
        InputMissingError, AudioError, ConfigError: a manifest, folder or recording that is not
            there, cannot be read, or holds nothing to train on.
    """
    utterances = [u for name in conf.train for u in read_manifest(root / name)]
    if not utterances:
        raise ConfigError(f"{root}: {', '.join(conf.train)} list no utterance to train on")
    dev_rows = {name: read_manifest(root / name) for name in conf.dev}
    for name, rows in dev_rows.items():
        if not rows:
            raise ConfigError(f"{root / name}: lists no utterance to evaluate with")
    noise_paths = _noise_paths(conf, root)
    tokenizer = Tokenizer(build_units((u.text for u in utterances), conf.min_word_count))
    train: list[Example] = []
    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), console=console, disable=quiet) as progress:
        frames = load_all([u.path for u in utterances], conf.speeds, spec)
        for u, versions in zip(
            utterances, progress.track(frames, len(utterances), description="features"), strict=True
        ):
            train.append(_example(u, versions, tokenizer.encode(u.text)))
    dev = {}
    for name, rows in dev_rows.items():
        loaded = load_all([u.path for u in rows], [1.0], spec)
        examples = [_example(u, v, []) for u, v in zip(rows, loaded, strict=True)]
        dev[name] = (examples, [u.text for u in rows])
    noises = [versions[0] for versions in load_all(noise_paths, [1.0], spec)]
    return Data(train, dev, [noise for noise in noises if len(noise) >= MIN_FRAMES], tokenizer)


def cmvn(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Mean (F,) and inverse deviation (F,) over all examples, each at its middle speed."""
    total = np.zeros(examples[0].frames[0].shape[1])
    square = np.zeros_like(total)
    count = 0
    for example in examples:
        frames = example.frames[len(example.frames) // 2].astype(np.float64)
        total += frames.sum(axis=0)
        square += (frames**2).sum(axis=0)
        count += len(frames)
    mean = total / count
    istd = 1 / np.sqrt(np.maximum(square / count - mean**2, 1e-20))
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(istd, dtype=torch.float32)


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


def _example(utterance: Utterance, versions: tuple[HalfFrames, ...], label: list[int]) -> Example:
    shortest = min(map(len, versions))
    if shortest < MIN_FRAMES:
        raise AudioError(
            f"{utterance.path}: {shortest} feature frames are too short, at least {MIN_FRAMES} "
            "are needed; remove it from the manifest"
        )
    return Example(versions, label)


def _noise_paths(conf: TrainConfig, root: Path) -> list[Path]:
    paths: list[Path] = []
    for name in conf.noise:
        if name.endswith(".tsv"):
            paths += [utterance.path for utterance in read_manifest(root / name)]
            continue
        if not (root / name).is_dir():
            raise InputMissingError(f"{root / name}: no such folder of noises")
        paths += sorted(p for p in (root / name).rglob("*") if p.suffix in AUDIO_ENDINGS)
    return paths
