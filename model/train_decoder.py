"""Train only the decoders of a checkpoint:
``python -m model.train_decoder CHECKPOINT RECIPE.yaml --data FOLDER -o FOLDER``.

Encoder and CTC are not trained, so programs made of them stay. (``final.pt`` beside the decoders
holds them in float16; ``decoder.pt`` alone fits every checkpoint.) The encoder reads
the training data a few times, augmented, joined and under chunk masks as in ``model.train``; its
outputs are kept, and the decoders, which cost little beside it, train on them many times. At last
they also learn to choose among the texts of the first pass (``model.choice``).

Resumes from the passes and the state that it saved.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edge_asr.errors import ConfigError
from edge_asr.exits import errors_as_lines
from model.batches import endless, prefetch
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_decoder
from model.choice import Choice, choice_loss, choices
from model.data import Data, Example, load_data
from model.evaluate import unit_accuracy
from model.masks import length_mask
from model.network import Network
from model.objective import draw_view, mixed_precision
from model.recipe import TrainConfig, read_recipe, train_config
from model.train import learning_rate

STDERR = Console(stderr=True)


@dataclass(frozen=True)
class Encoded:
    """A batch behind the encoder: outputs (T', D) of each item, float16, and its units."""

    encoder_out: list[Tensor]
    labels: list[list[int]]


@torch.no_grad()
def encode_pass(network: Network, data: Data, conf: TrainConfig, number: int) -> list[Encoded]:
    """All training data once through the encoder in eval mode, every batch under a chunk mask,
    a left context and an offset of its own."""
    # Convolutions take most of the time, and less of it in this layout.
    network.eval().to(memory_format=torch.channels_last)
    result: list[Encoded] = []
    for batch in prefetch(endless(data, conf, conf.easy_epochs + number, 0, 0, 1)):
        if batch.epoch != conf.easy_epochs + number:
            return result
        view = draw_view(conf, np.random.default_rng([conf.seed, batch.epoch, batch.index]))
        lengths = torch.tensor([len(frames) for frames, _ in batch.drawn])
        padded = pad_sequence([frames for frames, _ in batch.drawn], batch_first=True)
        with mixed_precision(conf):
            out, sizes = network.whole(padded, lengths, view.chunk, view.left_context, view.offset)
        rows = [row[:size].half() for row, size in zip(out, sizes.tolist(), strict=True)]
        result.append(Encoded(rows, [label for _, label in batch.drawn]))
    raise AssertionError("batches are endless")


def encoded_passes(
    checkpoint: Checkpoint, data: Data, conf: TrainConfig, folder: Path, quiet: bool = False
) -> list[Encoded]:
    """The batches of all passes; those that ``folder`` holds already are read from there.

    Raises:
        ConfigError: those are damaged, or of another encoder or seed.
    """
    weights = (checkpoint.path / "final.pt").read_bytes()
    origin = [hashlib.sha256(weights).hexdigest(), conf.seed]
    folder.mkdir(parents=True, exist_ok=True)
    result: list[Encoded] = []
    with Progress(*Progress.get_default_columns(), console=STDERR, disable=quiet) as progress:
        for number in progress.track(range(conf.passes), description="encoder"):
            path = folder / f"pass-{number}.pt"
            if path.is_file():
                result += _read_pass(path, origin)
                continue
            batches = encode_pass(checkpoint.network, data, conf, number)
            _write((origin, [(batch.encoder_out, batch.labels) for batch in batches]), path)
            result += batches
    return result


class DecoderTrainer:
    """Decoders, their moving average, the optimizer, and the place in the plan."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        conf: TrainConfig,
        batches: list[Encoded],
        dev: dict[str, tuple[list[Example], list[list[int]]]],
        folder: Path,
    ) -> None:
        self.checkpoint, self.conf, self.batches = checkpoint, conf, batches
        self.dev, self.folder = dev, folder
        # A network of its own: with dropout, and without the encoder's state in the optimizer.
        self.network = Network(checkpoint.conf, conf.dropout)
        self.network.load_state_dict(checkpoint.network.state_dict())
        self.network.requires_grad_(False)
        self.decoder = self.network.decoder.requires_grad_(True)
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(),
            lr=0.0,
            betas=(0.9, 0.98),
            weight_decay=conf.weight_decay,
            fused=True,
        )
        self.step = 0
        self.skipped = 0  # steps whose gradient was no number
        self._known_choices: dict[int, list[Choice]] = {}  # by batch

    def save(self) -> None:
        """Write the state to resume from, and the checkpoint with the averaged decoders."""
        state = {
            "decoder": self.decoder.state_dict(),
            "average": self.average.decoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(state, self.folder / "state.pt")
        described = self.checkpoint.described
        save_checkpoint(self.average, described.symbols, described.tree, self.folder, torch.float16)
        save_decoder(self.average, self.folder, torch.float16)

    def resume(self) -> None:
        """Go on from the last saved state, if there is one.

        Raises:
            ConfigError: it is damaged, or of another network.
        """
        path = self.folder / "state.pt"
        if not path.is_file():
            return
        state = _read(path)
        try:
            self.decoder.load_state_dict(state["decoder"])
            self.average.decoder.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error

    def train_step(self) -> float:
        """One update; returns the loss per utterance."""
        conf, count = self.conf, len(self.batches)
        torch.manual_seed((conf.seed << 40) + self.step)
        order = np.random.default_rng([conf.seed, self.step // count]).permutation(count)
        batch = self.batches[order[self.step % count]]
        self.decoder.train()
        lengths = torch.tensor([len(row) for row in batch.encoder_out])
        memory = pad_sequence([row.float() for row in batch.encoder_out], batch_first=True)
        loss = self.network.attention_loss(memory, lengths, batch.labels, conf.unit_noise)
        if self.step >= conf.steps - conf.choice_steps:
            memory_mask = length_mask(lengths, memory.size(1))
            given = self._choices(int(order[self.step % count]))
            chosen = choice_loss(self.network, memory, memory_mask, given, conf.unit_noise)
            loss = loss + conf.choice_weight * chosen
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), conf.grad_clip)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.step / conf.steps, conf)
            self.optimizer.step()
        else:  # this batch teaches nothing
            self.skipped += 1
        self._update_average()
        self.step += 1
        return float(loss.detach())

    def _choices(self, index: int) -> list[Choice]:
        if index not in self._known_choices:
            batch = self.batches[index]
            self._known_choices[index] = choices(self.network, batch.encoder_out, batch.labels)
        return self._known_choices[index]

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.conf.ema, (1 + self.step) / (10 + self.step))
        averages = list(self.average.decoder.parameters())
        weights = [parameter.detach() for parameter in self.decoder.parameters()]
        torch._foreach_lerp_(averages, weights, 1 - keep)

    def evaluate(self) -> dict[str, list[float]]:
        """Percent of units that each direction predicts from the right ones before them, on every
        dev set: chunks of 16, left context 64."""
        return {
            name: unit_accuracy(self.average, examples, labels, 16, 64)
            for name, (examples, labels) in self.dev.items()
        }


def run(trainer: DecoderTrainer, quiet: bool = False) -> None:
    """Train to the last step, saving on the way."""
    conf, saved, losses = trainer.conf, time.monotonic(), list[float]()
    with Progress(*Progress.get_default_columns(), console=STDERR, disable=quiet) as progress:
        task = progress.add_task("decoders", total=conf.steps, completed=trainer.step)
        while trainer.step < conf.steps:
            losses.append(trainer.train_step())
            progress.update(task, completed=trainer.step)
            done = trainer.step == conf.steps
            if trainer.step % conf.eval_every == 0 or done:
                row = {
                    "step": trainer.step,
                    "loss": round(float(np.mean(losses)), 4),
                    "skipped": trainer.skipped,
                    "units": {
                        name: [round(part, 2) for part in parts]
                        for name, parts in trainer.evaluate().items()
                    },
                }
                losses, trainer.skipped = [], 0
                STDERR.print(json.dumps(row), highlight=False, soft_wrap=True)
                with (trainer.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            if done or time.monotonic() - saved > conf.save_every_s:
                trainer.save()
                saved = time.monotonic()


def prepare(
    checkpoint: Checkpoint,
    conf: TrainConfig,
    roots: Path | Sequence[Path],
    folder: Path,
    quiet: bool = False,
    features: Path | None = None,
) -> DecoderTrainer:
    """Read the data and pass it through the encoder.

    Raises:
        ConfigError: the checkpoint has no decoders, the data gives other units than it has, or the
            recipe asks for no pass.
        InputMissingError, AudioError: see ``load_data``.
    """
    if conf.passes < 1:
        raise ConfigError("train.passes is 0; the encoder must read the data at least once")
    data = load_data(conf, roots, checkpoint.described.features, quiet, features)
    if data.tokenizer.symbols != checkpoint.symbols:
        raise ConfigError(
            f"{checkpoint.path}: its {len(checkpoint.symbols)} units are not the "
            f"{len(data.tokenizer.symbols)} of train.train with min_word_count "
            f"{conf.min_word_count}; use the data and the count that it was trained with"
        )
    dev = {
        name: (examples, [data.tokenizer.encode(text) for text in texts])
        for name, (examples, texts) in data.dev.items()
    }
    batches = encoded_passes(checkpoint, data, conf, folder, quiet)
    return DecoderTrainer(checkpoint, conf, batches, dev, folder)


def _read_pass(path: Path, origin: list[Any]) -> list[Encoded]:
    found = _read(path)
    try:
        known, batches = found
        if list(known) != origin:
            raise ValueError("of another checkpoint or seed")
        return [Encoded(rows, labels) for rows, labels in batches]
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from error


def _write(value: Any, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(value, part)
    part.rename(path)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ConfigError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ConfigError(
        f"{path}: cannot be resumed from ({reason}); choose another folder, or remove it"
    )


@errors_as_lines("model.train_decoder")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.train_decoder", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="directory of the checkpoint to begin from")
    parser.add_argument("recipe", type=Path, help="recipe in yaml (see model/recipes/decoders)")
    parser.add_argument("--data", type=Path, required=True, action="append",
                        help="folder of the recording lists; may be given again")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--features", type=Path, help="folder to keep computed features in")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: all cores)")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    conf = train_config(read_recipe(options.recipe), str(options.recipe))
    checkpoint = load_checkpoint(options.checkpoint)
    trainer = prepare(checkpoint, conf, options.data, options.out, features=options.features)
    trainer.resume()
    run(trainer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
