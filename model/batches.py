"""What each training step sees: the plan of an epoch, and the drawing of its batches.

Everything drawn follows from the seed, the epoch and the place in its plan, so a resumed training
goes on with the batches that it would have had, and several processes share each batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.augment import AugmentConfig, augment
from model.data import Data, batches
from model.recipe import TrainConfig

JOINED_PAUSE_FRAMES = 30  # allowance per joined utterance for the silence that is put around
NOISE_FRAMES = 400


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch, the whole batch's size, and its place in the plan."""

    epoch: int
    index: int
    drawn: list[tuple[Tensor, list[int]]]
    size: int


def plan_epoch(data: Data, conf: TrainConfig, epoch: int) -> list[list[list[int]]]:
    """Batches of items; an item is a run of utterances said one after another, or none (noise).

    Every recorded utterance appears once, and of the synthetic ones another share in each epoch.
    """
    rng = np.random.default_rng([conf.seed, epoch])
    items: list[list[int]] = []
    lengths: list[int] = []
    synthetic = np.arange(data.recorded, len(data.train))
    said = rng.permutation(synthetic)[: round(conf.synthetic_share * len(synthetic))]
    order = rng.permutation(np.concatenate([np.arange(data.recorded), said])).tolist()
    while order:
        item: list[int] = []
        length = 0
        most = conf.max_joined if epoch >= conf.easy_epochs else 1
        for _ in range(int(rng.integers(1, most + 1))):
            if not order:
                break
            size = len(data.train[order[-1]].frames[0])
            if item and length + size > conf.max_joined_frames:
                break
            item.append(order.pop())
            length += size + JOINED_PAUSE_FRAMES
        items.append(item)
        lengths.append(length)
        if data.noises and rng.random() < conf.noise_only:
            items.append([])
            lengths.append(NOISE_FRAMES)
    return [[items[i] for i in batch] for batch in batches(lengths, conf.frames_per_batch, rng)]


def draw(
    item: list[int], data: Data, conf: TrainConfig, seed: list[int], easy: bool
) -> tuple[Tensor, list[int]]:
    """Features (T, F) and label of one item. Of those that are not ``easy``, the recipe's share is
    augmented."""
    rng = np.random.default_rng(seed)
    frames: list[np.ndarray] = []
    label: list[int] = []
    for index in item:
        example = data.train[index]
        frames.append(example.frames[int(rng.integers(len(example.frames)))].astype(np.float32))
        label += example.label
    if not item:
        noise = data.noises[int(rng.integers(len(data.noises)))]
        frames.append(noise[:NOISE_FRAMES].astype(np.float32))
    speech = join(frames)
    if easy or rng.random() >= conf.augmented:
        return torch.from_numpy(speech), label
    return torch.from_numpy(augment(speech, data.noises, AugmentConfig(), rng)), label


def join(parts: list[np.ndarray]) -> np.ndarray:
    """Put recordings after one another, brought to the first one's level."""
    level = parts[0].mean()
    shifted = [
        part + np.float32(0.8 * (level - part.mean()) * (i > 0)) for i, part in enumerate(parts)
    ]
    return np.concatenate(shifted).astype(np.float32)


def endless(
    data: Data, conf: TrainConfig, epoch: int, begin: int, rank: int, world: int
) -> Iterator[Batch]:
    """This process's shares of all batches from place ``begin`` of ``epoch`` on."""
    while True:
        for index, items in enumerate(plan_epoch(data, conf, epoch)):
            if index < begin:
                continue
            easy = epoch < conf.easy_epochs
            drawn = [
                draw(item, data, conf, [conf.seed, epoch, index, number], easy)
                for number, item in list(enumerate(items))[rank::world]
            ]
            yield Batch(epoch, index, drawn, len(items))
        epoch, begin = epoch + 1, 0


def prefetch(source: Iterator[Batch], ahead: int = 4) -> Iterator[Batch]:
    """Draw the next batches in a thread while this one trains."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(next, source) for _ in range(ahead)]
        while True:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(next, source))
