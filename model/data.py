"""Utterances for training: features in memory, batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_asr.audio.recordings import Utterance, read_recordings
from edge_asr.errors import AudioError, ConfigError, InputMissingError
from edge_asr.package.manifest import FeatureSpec
from model.config import SUBSAMPLING
from model.recipe import TrainConfig
from model.recordings import HalfFrames, Versions, cached
from model.tokenizer import Tokenizer, build_pieces, build_units

PLAIN = Versions()

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
    recorded: int  # examples of ``train`` that people said; those behind are synthetic


def load_data(
    conf: TrainConfig,
    roots: Path | Sequence[Path],
    spec: FeatureSpec,
    quiet: bool = False,
    cache: Path | None = None,
    symbols: Sequence[str] = (),
) -> Data:
    """Read lists of recordings and compute features once.

    Args:
        roots: folders that hold the lists; the first that has one counts.
        cache: a folder to keep features in.
        symbols: units to cut texts into, in place of some made for them.

    Raises:
        InputMissingError, AudioError, ConfigError: a list, folder or recording that is not
            there, cannot be read, or holds nothing to train on.
    """
    roots = [roots] if isinstance(roots, Path) else list(roots)
    recorded, synthetic = _training_utterances(conf, roots)
    evaluated = _dev_utterances(conf, roots)
    noise_paths = _noise_paths(conf, roots)
    texts = [u.text for u in recorded + synthetic]
    units = list(symbols)
    if conf.pieces and not units:
        units = build_pieces(texts, conf.pieces)
    tokenizer = Tokenizer(units or build_units(texts, conf.min_word_count), bool(conf.pieces))

    def load(paths: list[Path], versions: Versions = PLAIN) -> list[tuple[HalfFrames, ...]]:
        return cached(paths, versions, spec, cache, quiet)

    made = Versions(tuple(conf.speeds), conf.room, conf.telephone)
    once = Versions((1.0,), conf.room, conf.telephone, keep_plain=False)
    train = [
        _example(u, frames, tokenizer.encode(u.text))
        for rows, versions in ((recorded, made), (synthetic, once))
        for u, frames in zip(rows, load([u.path for u in rows], versions), strict=True)
    ]
    dev = {}
    for name, rows in evaluated.items():
        plain = load([u.path for u in rows])
        examples = [_example(u, frames, []) for u, frames in zip(rows, plain, strict=True)]
        dev[name] = (examples, [u.text for u in rows])
    noises = [frames[0] for frames in load(noise_paths)]
    noises = [noise for noise in noises if len(noise) >= MIN_FRAMES]
    return Data(train, dev, noises, tokenizer, len(recorded))


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


def _training_utterances(
    conf: TrainConfig, roots: Sequence[Path]
) -> tuple[list[Utterance], list[Utterance]]:
    """What people said and what synthetic voices said, without closed sets' unknown words."""
    recorded = [u for name in conf.train for u in read_recordings(_find(name, roots))]
    if not recorded:
        raise ConfigError(
            f"{', '.join(map(str, roots))}: {', '.join(conf.train)} list no utterance to train on"
        )
    synthetic = [u for name in conf.synthetic for u in read_recordings(_find(name, roots))]
    known = {word for u in recorded + synthetic for word in u.text.split()}
    for name in conf.closed:
        utterances = read_recordings(_find(name, roots))
        recorded += [u for u in utterances if u.text and known.issuperset(u.text.split())]
    return recorded, synthetic


def _dev_utterances(conf: TrainConfig, roots: Sequence[Path]) -> dict[str, list[Utterance]]:
    """Those of every set to evaluate with, by its name."""
    evaluated = {name: read_recordings(_find(name, roots)) for name in conf.dev}
    for name, utterances in evaluated.items():
        if not utterances:
            raise ConfigError(f"{_find(name, roots)}: lists no utterance to evaluate with")
    return evaluated


def _example(utterance: Utterance, versions: tuple[HalfFrames, ...], label: list[int]) -> Example:
    shortest = min(map(len, versions))
    if shortest < MIN_FRAMES:
        raise AudioError(
            f"{utterance.path}: {shortest} feature frames are too short, at least {MIN_FRAMES} "
            "are needed; remove it from the recording list"
        )
    return Example(versions, label)


def _noise_paths(conf: TrainConfig, roots: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for name in conf.noise:
        if "*" in name:
            matching = [path for root in roots for path in sorted(root.glob(name))]
            if not matching:
                raise InputMissingError(f"{roots[0] / name}: nothing is named so")
            paths += matching
            continue
        found = _find(name, roots)
        if name.endswith(".tsv"):
            paths += [utterance.path for utterance in read_recordings(found)]
            continue
        if not found.is_dir():
            raise InputMissingError(f"{found}: no such folder of noises")
        paths += sorted(p for p in found.rglob("*") if p.suffix in AUDIO_ENDINGS)
    return paths


def _find(name: str, roots: Sequence[Path]) -> Path:
    """The path of ``name`` in the first folder that has it, or in the first of all."""
    return next((root / name for root in roots if (root / name).exists()), roots[0] / name)
