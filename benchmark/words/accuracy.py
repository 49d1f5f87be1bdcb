"""``python -m benchmark.words.accuracy --data FOLDER... --commands PACKAGE --english PACKAGE``:
word errors on speakers that training has not heard, against the targets of
``benchmark.words.sets``.

Everything is streamed as a microphone would be, in chunks of ``--chunk-ms``, through both passes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

import edge_asr
from benchmark.options import add_shared, page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.replay import read_clips
from benchmark.streams import segment_texts
from benchmark.words.errors import count_errors
from benchmark.words.sets import TASKS, Model, Task
from edge_asr.audio.recordings import Utterance, read_recordings
from edge_asr.backends.table import backend_choices
from edge_asr.bench.play import Clip
from edge_asr.errors import InputMissingError, UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.fusion.grammar import Grammar
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer

# The recipes commands-en and english-small keep away from them; base and english-base, which they
# begin with, do not.
UNHEARD_NOISES = "*/5-*"
SILENCE_S = 200.0
_RATE = 16000
UNITS: dict[str, str] = {"words": "% WER", "clips": "% not right", "false words": "words a minute"}


@dataclass(frozen=True)
class Reached:
    """A row: what was measured, and of how much. ``low`` and ``high`` hold 95 % of resamples."""

    task: str
    model: str
    unit: str
    utterances: int
    words: int
    value: float
    low: float
    high: float
    must: float
    aim: float

    @property
    def verdict(self) -> str:
        """In words."""
        if self.value <= self.aim:
            return "aim reached"
        return "must reached" if self.value <= self.must else "missed"


@dataclass(frozen=True)
class Report:
    """All rows, of one model each."""

    origins: list[Origin]
    chunk_ms: int
    rows: list[Reached]


def chosen(task: Task, utterances: Sequence[Utterance]) -> list[Utterance]:
    """Those of a recording list that count."""
    return [
        utterance
        for utterance in utterances
        if (not task.speakers or utterance.speaker in task.speakers)
        and (not task.vocabulary or utterance.text in task.vocabulary)
    ]


def quiet(rng: np.random.Generator) -> Iterator[Clip]:
    """``SILENCE_S`` of silence in four kinds: digital, the noise of a room, pink noise, hum."""
    size = round(SILENCE_S / 4 * _RATE)
    time_s = np.arange(size) / _RATE
    white = rng.standard_normal(size)
    spectrum = np.fft.rfft(white) / np.sqrt(np.maximum(1, np.arange(size // 2 + 1)))
    pink = np.fft.irfft(spectrum, size)
    hum = np.sin(2 * np.pi * 50 * time_s) + 0.3 * np.sin(2 * np.pi * 150 * time_s)
    kinds = (0 * white, 1e-3 * white, 0.02 * pink / pink.std(), 0.01 * hum + 2e-4 * white)
    for samples in kinds:
        yield Clip(samples.astype(np.float32)[:, None], _RATE)


def noises(folder: Path) -> list[Clip]:
    """Ten minutes in which nobody speaks.

    Raises:
        InputMissingError: the folder has none of ``UNHEARD_NOISES``.
    """
    paths = sorted(folder.glob(UNHEARD_NOISES))
    if not paths:
        raise InputMissingError(f"{folder}: no noises named {UNHEARD_NOISES}")
    heard = read_clips([Utterance(path, "", "") for path in paths])
    rng = np.random.default_rng(0)
    # One stream after another of about a minute, as rooms change slowly.
    joined = [
        Clip(np.concatenate([clip.samples for clip in heard[i : i + 12]]), heard[0].rate)
        for i in range(0, len(heard), 12)
    ]
    return joined + list(quiet(rng))


def measure(
    task: Task, found: Path, recognizer: Recognizer, decoding: Decoding, chunk_ms: int
) -> Reached:
    """One row.

    Raises:
        EdgeAsrError: recordings that cannot be read.
    """
    if task.measure == "false words":
        clips, truth = noises(found), list[str]()
    else:
        utterances = chosen(task, read_recordings(found))
        if not utterances:
            raise InputMissingError(f"{found}: lists none of the utterances of {task.name!r}")
        clips = [_opened(clip, task.quiet_s) for clip in read_clips(utterances)]
        truth = [utterance.text for utterance in utterances]
    if task.grammar:
        units = recognizer.package.units
        decoding = replace(decoding, grammar=Grammar.phrases(task.grammar, units, task.name))
    bar = track(clips, task.name, console=Console(stderr=True), transient=True)
    texts = [
        " ".join(filter(None, segment_texts(recognizer, clip, decoding, chunk_ms))) for clip in bar
    ]
    if task.measure == "false words":
        count = sum(len(text.split()) for text in texts)
        minutes = sum(clip.duration_s for clip in clips) / 60
        # Bounds of a Poisson count, approximately (Freeman and Tukey).
        low, high = (max(0.0, count**0.5 + side) ** 2 for side in (-1.0, 1.0))
        numbers = (count / minutes, low / minutes, high / minutes)
        return _row(task, len(clips), count, numbers)
    if task.measure == "clips":
        wrong = np.array([text != meant for text, meant in zip(texts, truth, strict=True)])
        share, spread = wrong.mean(), 1.96 * np.sqrt(wrong.var() / len(wrong))
        numbers = (100 * share, 100 * max(0.0, share - spread), 100 * min(1.0, share + spread))
        return _row(task, len(clips), len(clips), numbers)
    errors = count_errors(truth, texts)
    interval = errors.interval()
    return _row(
        task, len(clips), int(errors.words.sum()), (errors.wer, interval.low, interval.high)
    )


def _opened(clip: Clip, quiet_s: float) -> Clip:
    """The clip with so much of a quiet room on both sides."""
    if not quiet_s:
        return clip
    silence = Clip(clip.samples[:0], clip.rate).with_quiet(quiet_s)
    samples = np.concatenate([silence.samples, clip.samples])
    return Clip(samples, clip.rate).with_quiet(quiet_s)


def _row(task: Task, utterances: int, words: int, numbers: tuple[float, float, float]) -> Reached:
    value, low, high = map(float, numbers)
    return Reached(task.name, task.model, UNITS[task.measure], utterances, words, value, low, high,
                   task.must, task.aim)  # fmt: skip


def page(report: Report) -> Iterator[str]:
    """The report in Markdown."""
    yield "# Accuracy"
    yield ""
    yield (
        f"Speakers that training has not heard; int8, streamed in chunks of {report.chunk_ms} ms, "
        "with the second pass and the language model that a package has. In brackets, the middle "
        "95 % (words: resampled utterances; clips: normal approximation; false words: a Poisson "
        "count). The sets are in `benchmark/words/sets.py`; the single letters and digits are cuts "
        "of an4's test set and the test part of the Free Spoken Digit Dataset, made by "
        "`python -m benchmark.words.spelled_clips`; "
        "quiet is half a second of a quiet room on both sides. Noise is the fifth fold of ESC-10, "
        "which the last stages of training keep away from and those before them do not, and "
        "silence."
    )
    yield ""
    for origin in report.origins:
        yield from origin.lines()
        yield ""
    titles = ("set", "model", "utterances", "reached", "must", "aim", "")
    yield from table(
        titles,
        [
            (
                row.task, row.model, str(row.utterances),
                f"{row.value:.1f} ({row.low:.1f} to {row.high:.1f}) {row.unit}",
                f"{row.must:g}", f"{row.aim:g}", row.verdict,
            )
            for row in report.rows
        ],
    )  # fmt: skip


def run(options: argparse.Namespace, command: str) -> Report:
    """Measure everything whose model was given.

    Raises:
        EdgeAsrError: a package or recording that cannot be used.
    """
    if options.commands is None and options.english is None:
        raise UsageError("nothing to measure; name a package with --commands or --english")
    packages: dict[Model, str | None] = {"commands": options.commands, "english": options.english}
    rows: list[Reached] = []
    origins: list[Origin] = []
    for model, package in packages.items():
        if package is None:
            continue
        recognizer = edge_asr.load(package, backend=options.backend)
        decoding = Decoding(second_pass="inline" if recognizer.decoder else "off")
        origins.append(Origin.of(recognizer, command, shared=options.shared))
        for task in TASKS:
            if task.model != model:
                continue
            where = [root / task.path for root in options.data]
            found = next((path for path in where if path.exists()), where[0])
            rows.append(measure(task, found, recognizer, decoding, options.chunk_ms))
            print(rows[-1], file=sys.stderr)
    return Report(origins, options.chunk_ms, rows)


@errors_as_lines("benchmark.words.accuracy")
def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.words.accuracy", __doc__)
    add_shared(parser)
    parser.add_argument("--data", type=Path, required=True, action="append",
                        help="folder that holds the corpora; may be given again")  # fmt: skip
    parser.add_argument("--commands", metavar="PACKAGE", help="the model of a small vocabulary")
    parser.add_argument("--english", metavar="PACKAGE", help="the model of any words")
    parser.add_argument("--backend", help=backend_choices())
    parser.add_argument("--chunk-ms", type=int, default=640)
    options = parser.parse_args(argv)
    report = run(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
