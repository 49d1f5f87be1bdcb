"""Train a network: ``python -m model.train RECIPE.yaml --data FOLDER -o FOLDER``.

Resumes from the last saved state. Runs in several processes under ``torchrun``: every process
draws the same batches and works on its share of each, so the number of processes changes what is
learned by rounding only; by the draws of dropout too, and by router terms, which see a share.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asr.errors import ConfigError, UsageError
from edge_asr.exits import errors_as_lines
from model.batches import Batch, endless, prefetch
from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import feature_spec, network_config
from model.data import Data, cmvn, load_data
from model.evaluate import count_word_errors
from model.initial import begin_from, freeze
from model.network import Network
from model.objective import View, draw_view, mixed_precision, objective
from model.recipe import TrainConfig, read_recipe, train_config
from model.tokenizer import read_units

STDERR = Console(stderr=True)


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
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        torch.manual_seed(conf.seed)
        symbols = data.tokenizer.symbols
        tree = {**tree, "vocab_size": len(symbols), "output_dim": len(symbols)}
        self.tree = {name: value for name, value in tree.items() if name != "train"}
        self.conf, self.data, self.folder = conf, data, folder
        self.network = Network(network_config(self.tree, "recipe"), conf.dropout)
        if self.world > 1 and self.network.conf.conv_norm == "batch_norm":
            raise ConfigError(
                "cnn_module_norm is batch_norm, whose statistics would differ between processes; "
                "use layer_norm, or one process"
            )
        # Convolutions that are not frozen take most of the time, and less of it in this layout.
        self.network.to(memory_format=torch.channels_last)
        if conf.init:
            begin_from(self.network, symbols, load_checkpoint(folder.parent / conf.init))
        else:
            mean, istd = cmvn(data.train)
            self.network.encoder.global_cmvn.mean.copy_(mean)
            self.network.encoder.global_cmvn.istd.copy_(istd)
        freeze(self.network, conf.frozen)
        self.average = copy.deepcopy(self.network).eval()
        # Large outputs; writing them a second time is a tenth of a step.
        for module in getattr(self.network.encoder.embed, "conv", ()):
            if isinstance(module, torch.nn.ReLU):
                module.inplace = True
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=0.0,
            betas=(0.9, 0.98),
            weight_decay=conf.weight_decay,
            fused=True,
        )
        self.dropouts = [m for m in self.network.modules() if isinstance(m, torch.nn.Dropout)]
        self.step = self.epoch = self.batch = 0
        self.skipped = 0  # steps whose gradient was no number
        self.trained_s, self.limit_s = 0.0, 3600 * hours

    def save(self) -> None:
        """Write the state to resume from, and the averaged weights as a checkpoint."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Before the state, so that a training that is done has the checkpoint to show.
        save_checkpoint(
            self.average, self.data.tokenizer.symbols, self.tree, self.folder, torch.float16
        )
        state = {
            "units": self.data.tokenizer.symbols,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "place": (self.step, self.epoch, self.batch, self.trained_s),
        }
        torch.save(state, self.folder / "state.pt.part")
        (self.folder / "state.pt.part").rename(self.folder / "state.pt")

    def resume(self) -> None:
        """Go on from the last saved state, if there is one.

        Raises:
            ConfigError: it is damaged, or of another recipe or vocabulary.
        """
        path = self.folder / "state.pt"
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["units"] != self.data.tokenizer.symbols:  # as many, it may be, but others
                raise ValueError("its units are others")
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.epoch, self.batch, self.trained_s = state["place"]
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError,
                pickle.UnpicklingError) as error:  # fmt: skip
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"{path}: cannot be resumed from with this recipe and data ({reason}); "
                "choose another folder, or remove it to begin anew"
            ) from error

    @property
    def done(self) -> float:
        """The part of the training that is over: of its steps or of its hours, from 0 to 1."""
        return max(self.step / self.conf.steps, self.trained_s / self.limit_s)

    def batches(self) -> Iterator[Batch]:
        """Endless batches from the trainer's place on."""
        return endless(self.data, self.conf, self.epoch, self.batch, self.rank, self.world)

    def train_step(self, batch: Batch) -> float:
        """One update; returns the loss per utterance of the whole batch."""
        conf = self.conf
        # Dropout follows from the place, so that a resumed training draws what it would have.
        torch.manual_seed((conf.seed << 40) + self.step * self.world + self.rank)
        if conf.dropout_rises:
            for module in self.dropouts:
                module.p = conf.dropout * min(1.0, self.done)
        rng = np.random.default_rng([conf.seed, self.step])
        view = draw_view(conf, rng) if batch.epoch >= conf.easy_epochs else View()
        self.network.train()
        total = 0.0
        drawn = batch.drawn
        if drawn:
            with mixed_precision(conf):
                loss = objective(self.network, conf, drawn, view)
            share = loss * (len(drawn) / batch.size)
            share.backward()
            total = float(share.detach())
        for parameter in filter(lambda one: one.requires_grad, self.network.parameters()):
            if parameter.grad is None:  # a process without a share has none at all
                parameter.grad = torch.zeros_like(parameter)
        if self.world > 1:
            total = self._sum_over_processes(total)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), conf.grad_clip)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.done, conf)
            self.optimizer.step()
        else:  # this batch teaches nothing
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        self.epoch, self.batch = batch.epoch, batch.index + 1
        return total

    def _sum_over_processes(self, loss: float) -> float:
        grads = [p.grad for p in self.network.parameters() if p.grad is not None]
        # One long message instead of hundreds of short ones.
        flat = torch.cat([*(grad.flatten() for grad in grads), torch.tensor([loss])])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([*map(torch.numel, grads), 1])[:-1], strict=True):
            grad.copy_(part.view_as(grad))
        return float(flat[-1])

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.conf.ema, (1 + self.step) / (10 + self.step))
        averages = list(self.average.parameters())
        weights = [parameter.detach() for parameter in self.network.parameters()]
        torch._foreach_lerp_(averages, weights, 1 - keep)
        # Statistics of batch_norm are averages already.
        for ours, theirs in zip(self.average.buffers(), self.network.buffers(), strict=True):
            ours.copy_(theirs)

    def evaluate(self) -> dict[str, float]:
        """WER in percent of every dev set, streaming with chunks of 16, left context 64. Every
        process decodes its share."""
        found = {}
        for name, (examples, texts) in self.data.dev.items():
            share = slice(self.rank, None, self.world)
            counts = torch.tensor(
                count_word_errors(
                    self.average, examples[share], texts[share], self.data.tokenizer, 16, 64
                )
            )
            if self.world > 1:
                dist.all_reduce(counts)
            edits, words = counts.tolist()
            found[name] = 100 * edits / max(1, words)
        return found

    def count_time(self, seconds: float) -> None:
        """Add to the time trained, by the first process's clock: all must stop together."""
        clock = torch.tensor(seconds, dtype=torch.float64)
        if self.world > 1:
            dist.broadcast(clock, 0)
        self.trained_s += float(clock)


def run(trainer: Trainer) -> None:
    """Train to the last step or through the last hour, saving on the way."""
    if trainer.done >= 1:
        return
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
            trainer.count_time(now - before)
            before, done = now, trainer.done >= 1
            if trainer.step % conf.eval_every == 0 or done:
                row = {
                    "step": trainer.step,
                    "epoch": trainer.epoch,
                    "loss": round(float(np.mean(losses)), 4),
                    "skipped": trainer.skipped,
                    "seconds": round(now - reported, 1),
                    "wer": {name: round(wer, 2) for name, wer in trainer.evaluate().items()},
                }
                reported, losses, trainer.skipped = now, [], 0
                if not trainer.rank:
                    STDERR.print(json.dumps(row), highlight=False, soft_wrap=True)
                    trainer.folder.mkdir(parents=True, exist_ok=True)
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
            if done or now - saved > conf.save_every_s:
                trainer.save()
                saved = now
            if done:
                return


@errors_as_lines("model.train")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__)
    parser.add_argument("recipe", type=Path, help="recipe in yaml (see model/recipes)")
    parser.add_argument("--data", type=Path, required=True, action="append",
                        help="folder of the recording lists; may be given again")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--features", type=Path, help="folder to keep computed features in")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: all cores)")
    parser.add_argument("--hours", type=float, default=math.inf, help="be done after so many hours")
    parser.add_argument("--seed", type=int, help="another than the recipe's")
    options = parser.parse_args(arguments)
    if not options.hours > 0:
        raise UsageError(f"--hours is {options.hours}; more than 0 are needed")
    if options.threads:
        torch.set_num_threads(options.threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    try:
        tree = read_recipe(options.recipe)
        if options.seed is not None:
            tree["train"] = {**tree.get("train", {}), "seed": options.seed}
        conf = train_config(tree, str(options.recipe))
        features = feature_spec(tree, str(options.recipe))
        quiet = dist.is_initialized() and dist.get_rank() > 0
        symbols: list[str] = []
        if conf.init_units:
            symbols = read_units(options.out.parent / conf.init / "units.txt")
        data = load_data(conf, options.data, features, quiet, options.features, symbols)
        trainer = Trainer(tree, conf, data, options.out, options.hours)
        trainer.resume()
        run(trainer)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
