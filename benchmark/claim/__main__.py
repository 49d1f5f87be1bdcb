"""``python -m benchmark.claim FOLDER --data FOLDER``: mixtures of experts against dense
models.

FOLDER holds what ``make claim`` trained: a folder NAME-SEED for each recipe of
model/recipes/claim and each seed. Of every one: word errors of the float model whole and in chunks,
distinct experts per chunk on real speech, bytes of its int8 package and the time that it takes on
one core, as a ratio within rounds to the first recipe's. ``--known`` adds figures of earlier runs.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

import edge_asr
from benchmark.claim.page import BASE, Trained, draw, page, read_known
from benchmark.options import page_parser
from benchmark.page import picture_path, today, write
from benchmark.replay import GREEDY
from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import InputMissingError
from edge_asr.exits import errors_as_lines
from edge_asr.machine import describe_machine, python_command, python_environment
from edge_asr.streams.recognizer import Recognizer
from model.checkpoint import Checkpoint, load_checkpoint
from model.data import Example, batches
from model.evaluate import word_error_rate
from model.recordings import Versions, load_all
from model.routing import experts_per_chunk, watch_routers
from model.tokenizer import Tokenizer

CHUNKS = (0, 4, 8, 16)  # encoder frames; 0 is whole
LEFT_CONTEXT = 64
SETS = ("an4/test.tsv", "speech_commands/test.tsv")
ROUNDS = 9
_ROOT = Path(__file__).resolve().parents[2]


@torch.inference_mode()
def touched(checkpoint: Checkpoint, examples: Sequence[Example], chunk: int = 16) -> list[float]:
    """Distinct experts per chunk, a mean for each layer; empty for a dense model."""
    activated = checkpoint.conf.feed_forward.n_expert_activated
    if not activated:
        return []
    counts: list[list[int]] = []
    lengths = [len(example.frames[0]) for example in examples]
    for batch in batches(lengths, 20000, np.random.default_rng(0)):
        feats = [torch.from_numpy(examples[i].frames[0].astype(np.float32)) for i in batch]
        padded = pad_sequence(feats, batch_first=True)
        with watch_routers(checkpoint.network.encoder) as seen:
            sizes = torch.tensor([len(feat) for feat in feats])
            _, frames = checkpoint.network.whole(padded, sizes, chunk, LEFT_CONTEXT)
        logits = [calls[0] for calls in seen.values()]
        found = experts_per_chunk(logits, frames.tolist(), chunk, activated)
        counts = [a + b for a, b in zip(counts or [[]] * len(found), found, strict=True)]
    return [statistics.fmean(layer) for layer in counts]


def examples_of(path: Path, checkpoint: Checkpoint) -> tuple[list[Example], list[str]]:
    """The features and texts of a recording list."""
    rows = read_recordings(path)
    found = load_all([row.path for row in rows], Versions(), checkpoint.described.features)
    return [Example(frames, []) for frames in found], [row.text for row in rows]


def evaluate(folder: Path, data: Path) -> Trained:
    """Everything but speed.

    Raises:
        EdgeAsrError: a checkpoint or recording that cannot be read.
    """
    checkpoint = load_checkpoint(folder)
    tokenizer = Tokenizer(checkpoint.symbols)
    wer: dict[str, dict[str, float]] = {}
    experts: list[float] = []
    for name in SETS:
        examples, texts = examples_of(data / name, checkpoint)
        wer[name] = {}
        for chunk in CHUNKS:
            left = LEFT_CONTEXT if chunk else -1
            rate = word_error_rate(checkpoint.network, examples, texts, tokenizer, chunk, left)
            wer[name][str(chunk or "whole")] = rate
        # Of the first set: strings, as a stream hears them; the others hold one word each.
        experts = experts or touched(checkpoint, examples)
    recipe, _, seed = folder.name.rpartition("-")
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True, mmap=True)
    parts = checkpoint.network.encoder, checkpoint.network.ctc
    count = sum(parameter.numel() for part in parts for parameter in part.parameters())
    machine = describe_machine()
    measured = f"{today()}: {machine.cpu}, {machine.system}"
    return Trained(recipe, int(seed), state["place"][0], count, wer, experts, measured)


def int8_package(folder: Path) -> Path:
    """The int8 package of a checkpoint, made if it is not there or older."""
    out = folder / "package"
    made = out / "manifest.json"
    if not made.is_file() or made.stat().st_mtime < (folder / "final.pt").stat().st_mtime:
        command = python_command(
            "export", str(folder.resolve()), "-o", str(out.resolve()),
            "--backends", "onnx", "--roles", "encoder", "--replace",
        )  # fmt: skip
        done = subprocess.run(
            command, cwd=_ROOT, env=python_environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1]
            raise InputMissingError(f"{folder}: no package could be made: {said}")
    return out


def play_s(recognizer: Recognizer, samples: np.ndarray) -> float:
    """Seconds that a stream of the samples takes in chunks of 640 ms."""
    begin = time.perf_counter()
    with recognizer.stream(640, decoding=GREEDY) as stream:
        stream.push(samples, 16000)
        stream.flush()
    return time.perf_counter() - begin


def measure_speed(found: Sequence[Trained], folders: Sequence[Path]) -> None:
    """Fill in bytes and times of the first seed of each recipe."""
    chosen: dict[str, tuple[Trained, Recognizer, list[float]]] = {}
    for trained, folder in zip(found, folders, strict=True):
        if trained.name not in chosen:
            path = int8_package(folder)
            trained.package_bytes = sum(file.stat().st_size for file in path.glob("*.onnx"))
            chosen[trained.name] = trained, edge_asr.load(path), []
    _, first, base_s = next(iter(chosen.values()))
    samples = np.tile(first.package.golden()["samples"], 8)[: 60 * 16000]
    for number in range(ROUNDS + 1):
        for _, recognizer, times_s in chosen.values():
            taken = play_s(recognizer, samples)
            if number:
                times_s.append(taken)
    for trained, _, times_s in chosen.values():
        trained.time = statistics.median(a / b for a, b in zip(times_s, base_s, strict=True))
        trained.rtf = statistics.median(times_s) * 16000 / len(samples)


@errors_as_lines("benchmark.claim")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.claim", __doc__)
    parser.add_argument("folder", type=Path, help="where make claim trained")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--known", type=Path, metavar="JSON",
                        help="figures of an earlier run: what is not in FOLDER stays")  # fmt: skip
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folders = sorted(
        (
            path.parent
            for path in options.folder.glob("*/final.pt")
            if path.parent.name.rpartition("-")[2].isdecimal()  # NAME-SEED
        ),
        key=lambda path: (not path.name.startswith(BASE), path.name),
    )
    if not folders or not folders[0].name.startswith(BASE):
        raise InputMissingError(f"{options.folder}: no {BASE}-1; run make claim first")
    known = [] if options.known is None else read_known(options.known)
    found = [evaluate(folder, options.data) for folder in folders]
    measure_speed(found, folders)
    measured = {(trained.name, trained.seed) for trained in found}
    found += [trained for trained in known if (trained.name, trained.seed) not in measured]
    found.sort(
        key=lambda one: (not one.name.startswith("dense"), one.name != BASE, one.name, one.seed)
    )
    picture = None if options.out is None else picture_path(options.out).name
    write(page(found, ROUNDS, picture), found, options.out, partial(draw, found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
