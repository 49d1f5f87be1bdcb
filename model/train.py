"""Train a network: ``python -m model.train RECIPE.yaml --data FOLDER -o FOLDER``.

Resumes from the last saved state. Runs in several processes under ``torchrun``: every process
draws the same batches and works on its share of each, so the number of processes does not
change what is learned.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edge_asr.errors import ConfigError, EdgeAsrError
from edge_asr.manifest import FeatureSpec
from model.augment import AugmentConfig, augment
from model.checkpoint import save_checkpoint
from model.config import POSITION_PERIOD, network_config, read_yaml
from model.data import Example, HalfFrames, batches, load_all, read_manifest
from model.evaluate import word_error_rate
from model.network import Network
from model.tokenizer import Tokenizer, build_units

STDERR = Console(stderr=True)


@dataclass(frozen=True)
class TrainConfig:
    """The ``train`` section of a recipe."""

    train: list[str]
    dev: list[str]
    noise: list[str]
    speeds: list[float]
    min_word_count: int
    steps: int
    warmup_steps: int
    peak_lr: float
    frames_per_batch: int
    chunk_choices: list[int]
    left_context_choices: list[int]
    easy_epochs: int  # at first: single utterances, no augmentation, no chunks
    max_joined: int
    max_joined_frames: int
    noise_only: float
    dropout: float
    ema: float
    seed: int
    eval_every: int
    save_every_s: float
    weight_decay: float = 0.01
    grad_clip: float = 5.0
    bf16: bool = True


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch, the whole batch's size, and its place in the plan."""

    epoch: int
    index: int
    drawn: list[tuple[Tensor, list[int]]]
    size: int


@dataclass
class Data:
    """Everything that training reads, in memory."""

    train: list[Example]
    dev: dict[str, tuple[list[Example], list[str]]]
    noises: list[HalfFrames]
    tokenizer: Tokenizer


def train_config(tree: dict[str, Any], where: str) -> TrainConfig:
    """Read the ``train`` section; unknown and missing keys are errors."""
    section = tree.get("train")
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: a section 'train' is expected")
    known = {field.name for field in fields(TrainConfig)}
    unknown = sorted(set(section) - known)
    if unknown:
        raise ConfigError(
            f"{where}: train.{unknown[0]} is unknown; known: {', '.join(sorted(known))}"
        )
    try:
        return TrainConfig(**section)
    except TypeError as error:
        raise ConfigError(f"{where}: train: {error}") from error


def load_data(conf: TrainConfig, root: Path, spec: FeatureSpec) -> Data:
    """Read manifests and compute features once."""
    utterances = [u for name in conf.train for u in read_manifest(root / name)]
    tokenizer = Tokenizer(build_units((u.text for u in utterances), conf.min_word_count))
    train: list[Example] = []
    with Progress(*Progress.get_default_columns(), console=STDERR) as progress:
        frames = load_all([u.path for u in utterances], conf.speeds, spec)
        for u, versions in zip(
            utterances, progress.track(frames, len(utterances), description="features"), strict=True
        ):
            train.append(Example(versions, tokenizer.encode(u.text)))
    dev = {}
    for name in conf.dev:
        rows = read_manifest(root / name)
        versions_of = load_all([u.path for u in rows], [1.0], spec)
        dev[name] = ([Example(v, []) for v in versions_of], [u.text for u in rows])
    noise_paths: list[Path] = []
    for name in conf.noise:
        if name.endswith(".tsv"):
            noise_paths += [u.path for u in read_manifest(root / name)]
        else:
            noise_paths += sorted(
                p
                for p in (root / name).rglob("*")
                if p.suffix in (".opus", ".flac", ".wav", ".ogg")
            )
    noises = [versions[0] for versions in load_all(noise_paths, [1.0], spec)]
    return Data(train, dev, noises, tokenizer)


def cmvn(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of every mel bin over the unwarped training set."""
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


def plan_epoch(data: Data, conf: TrainConfig, epoch: int) -> list[list[list[int]]]:
    """Batches of items; an item is a run of utterances said one after another, or none (noise).

    Every utterance appears once.
    """
    rng = np.random.default_rng([conf.seed, epoch])
    items: list[list[int]] = []
    lengths: list[int] = []
    order = rng.permutation(len(data.train)).tolist()
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
            length += size + 30
        items.append(item)
        lengths.append(length)
        if data.noises and rng.random() < conf.noise_only:
            items.append([])
            lengths.append(200)
    return [[items[i] for i in batch] for batch in batches(lengths, conf.frames_per_batch, rng)]


def draw(
    item: list[int], data: Data, conf: TrainConfig, seed: list[int], easy: bool
) -> tuple[Tensor, list[int]]:
    """Features (T, F), augmented unless ``easy``, and label of one item."""
    rng = np.random.default_rng(seed)
    frames: list[np.ndarray] = []
    label: list[int] = []
    for index in item:
        example = data.train[index]
        frames.append(example.frames[int(rng.integers(len(example.frames)))].astype(np.float32))
        label += example.label
    if not item:
        frames.append(data.noises[int(rng.integers(len(data.noises)))].astype(np.float32)[:400])
    speech = join(frames, rng)
    if easy:
        return torch.from_numpy(speech), label
    return torch.from_numpy(augment(speech, data.noises, AugmentConfig(), rng)), label


def join(parts: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Put recordings after one another, brought to the first one's level."""
    level = parts[0].mean()
    shifted = [
        part + np.float32(0.8 * (level - part.mean()) * (i > 0)) for i, part in enumerate(parts)
    ]
    return np.concatenate(shifted).astype(np.float32)


def learning_rate(step: int, done: float, conf: TrainConfig) -> float:
    """Linear warm-up, and half a cosine down to 2 % of the peak; ``done`` runs from 0 to 1."""
    warm = min(1.0, (step + 1) / conf.warmup_steps)
    return conf.peak_lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Trainer:
    """Weights, their moving average, the optimizer, and the place in the plan."""

    def __init__(
        self,
        tree: dict[str, Any],
        conf: TrainConfig,
        data: Data,
        folder: Path,
        hours: float = math.inf,
    ) -> None:
        torch.manual_seed(conf.seed)
        symbols = data.tokenizer.symbols
        tree = {**tree, "vocab_size": len(symbols), "output_dim": len(symbols)}
        self.tree = {name: value for name, value in tree.items() if name != "train"}
        self.conf, self.data, self.folder = conf, data, folder
        self.network = Network(network_config(self.tree, "recipe"), conf.dropout)
        self.network.to(
            memory_format=torch.channels_last
        )  # convolutions take two thirds of the time
        mean, istd = cmvn(data.train)
        self.network.encoder.global_cmvn.mean.copy_(mean)
        self.network.encoder.global_cmvn.istd.copy_(istd)
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=0.0,
            betas=(0.9, 0.98),
            weight_decay=conf.weight_decay,
            fused=True,
        )
        self.step = self.epoch = self.batch = 0
        self.trained_s, self.limit_s = 0.0, 3600 * hours
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1

    def save(self) -> None:
        """Write the state to resume from, and the averaged weights as a checkpoint."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "place": (self.step, self.epoch, self.batch, self.trained_s),
        }
        torch.save(state, self.folder / "state.pt.part")
        (self.folder / "state.pt.part").rename(self.folder / "state.pt")
        save_checkpoint(
            self.average, self.data.tokenizer.symbols, self.tree, self.folder, torch.float16
        )

    def resume(self) -> None:
        """Go on from the last saved state, if there is one."""
        path = self.folder / "state.pt"
        if path.is_file():
            state = torch.load(path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.epoch, self.batch, self.trained_s = state["place"]

    @property
    def done(self) -> float:
        """The part of the training that is over: of its steps or of its hours, from 0 to 1."""
        return max(self.step / self.conf.steps, self.trained_s / self.limit_s)

    def batches(self) -> Iterator[Batch]:
        """Endless batches from the trainer's place on."""
        epoch, begin = self.epoch, self.batch
        while True:
            for index, items in enumerate(plan_epoch(self.data, self.conf, epoch)):
                if index < begin:
                    continue
                easy = epoch < self.conf.easy_epochs
                drawn = [
                    draw(item, self.data, self.conf, [self.conf.seed, epoch, index, number], easy)
                    for number, item in list(enumerate(items))[self.rank :: self.world]
                ]
                yield Batch(epoch, index, drawn, len(items))
            epoch, begin = epoch + 1, 0

    def train_step(self, batch: Batch) -> float:
        """One update; returns the loss per utterance of the whole batch."""
        conf = self.conf
        rng = np.random.default_rng([conf.seed, self.step])
        chunk, left_context, offset = 0, -1, 0
        if batch.epoch >= conf.easy_epochs:
            chunk = int(rng.choice(conf.chunk_choices))
            left_context = int(rng.choice(conf.left_context_choices))
            offset = int(rng.integers(POSITION_PERIOD)) if rng.random() < 0.5 else 0
        self.network.train()
        total = 0.0
        drawn = batch.drawn
        if drawn:
            lengths = torch.tensor([len(frames) for frames, _ in drawn])
            padded = pad_sequence([frames for frames, _ in drawn], batch_first=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=conf.bf16):
                out, sizes = self.network.whole(padded, lengths, chunk, left_context, offset)
                loss = self.network.loss(out, sizes, [label for _, label in drawn])
            share = loss * (len(drawn) / batch.size)
            share.backward()
            total = float(share.detach())
        if self.world > 1:
            total = self._sum_over_processes(total)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), conf.grad_clip)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.done, conf)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        self.epoch, self.batch = batch.epoch, batch.index + 1
        return total

    def _sum_over_processes(self, loss: float) -> float:
        for parameter in self.network.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
        whole = torch.tensor(loss)
        dist.all_reduce(whole)
        return float(whole)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.conf.ema, (1 + self.step) / (10 + self.step))
        ours = list(self.average.parameters())
        theirs = [parameter.detach() for parameter in self.network.parameters()]
        torch._foreach_lerp_(ours, theirs, 1 - keep)

    def evaluate(self) -> dict[str, float]:
        """WER in percent of every dev set, streaming with chunks of 16, left context 64."""
        return {
            name: word_error_rate(self.average, examples, texts, self.data.tokenizer, 16, 64)
            for name, (examples, texts) in self.data.dev.items()
        }


def prefetch(source: Iterator[Batch], ahead: int = 4) -> Iterator[Batch]:
    """Draw the next batches in a thread while this one trains."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(next, source) for _ in range(ahead)]
        while True:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(next, source))


def run(trainer: Trainer) -> None:
    """Train to the last step or through the last hour, saving on the way."""
    conf = trainer.conf
    before = saved = reported = time.monotonic()
    losses: list[float] = []
    log = trainer.folder / "log.jsonl"
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.2f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=STDERR, disable=trainer.rank > 0) as progress:
        task = progress.add_task("train", total=conf.steps, completed=trainer.step, loss=0.0)
        for batch in prefetch(trainer.batches()):
            losses.append(trainer.train_step(batch))
            progress.update(task, completed=trainer.step, loss=losses[-1])
            now = time.monotonic()
            trainer.trained_s, before = trainer.trained_s + now - before, now
            done = trainer.done >= 1
            if trainer.step % conf.eval_every == 0 or done:
                row = {
                    "step": trainer.step, "epoch": trainer.epoch, "loss": round(float(np.mean(losses)), 4),
                    "seconds": round(now - reported, 1), "wer": {k: round(v, 2) for k, v in trainer.evaluate().items()},
                }  # fmt: skip
                reported, losses = now, []
                if not trainer.rank:
                    STDERR.print(json.dumps(row), highlight=False)
                    trainer.folder.mkdir(parents=True, exist_ok=True)
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
            if done or now - saved > conf.save_every_s:
                trainer.save()
                saved = now
            if done:
                return


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__)
    parser.add_argument("recipe", type=Path, help="recipe in yaml (see model/recipes)")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the manifests")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: all cores)")
    parser.add_argument("--hours", type=float, default=math.inf, help="be done after so many hours")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    try:
        tree = read_yaml(options.recipe)
        conf = train_config(tree, str(options.recipe))
        data = load_data(conf, options.data, FeatureSpec())
        trainer = Trainer(tree, conf, data, options.out, options.hours)
        trainer.resume()
        run(trainer)
    except EdgeAsrError as error:
        print(f"model.train: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
