"""``python -m benchmark.speed.levers PACKAGE... --recordings LIST...``: what less work costs in
word errors.

Every program of the packages, and the levers on the native ones, read every utterance of the test
sets, streamed. Speed is then compared in rounds: all settings play the same minute of audio in
turn, so that a machine that slows down slows all of them. The first package is the one whose int8
programs and levers are measured; of the others the int4 programs join.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

import edge_asr
from benchmark.options import add_chunk, add_speed, page_parser
from benchmark.page import Origin, command_line, picture_path, write
from benchmark.replay import set_name
from benchmark.speed.levers_report import Report, Row, draw, page
from edge_asr.audio.recordings import read_recordings
from edge_asr.backends.table import backend_choices
from edge_asr.bench.measure import expert_figures, import_jiwer, measure_word_errors
from edge_asr.bench.play import Clip, Tally, TimedEncoder, choose_clips, play
from edge_asr.exits import errors_as_lines
from edge_asr.native.library import Levers
from edge_asr.programs.loading import set_levers
from edge_asr.streams.recognizer import Recognizer

LEVERS = (
    Levers(top_k=1),
    *(Levers(min_weight=weight) for weight in (0.2, 0.3, 0.4)),
    *(Levers(max_experts=most) for most in (5, 4, 3, 2)),
    Levers(max_experts=4, min_weight=0.3),
)
LEVERS_OF_INT4 = (
    Levers(min_weight=0.3),
    Levers(max_experts=4),
    Levers(max_experts=4, min_weight=0.3),
    Levers(top_k=1),
)


@dataclass(frozen=True)
class Setting:
    """A program with levers."""

    name: str
    recognizer: Recognizer
    levers: Levers = field(default_factory=Levers)

    def pull(self) -> None:
        """Set the levers, which programs of the same weights share."""
        set_levers(self.recognizer.package, self.recognizer.program, self.levers)

    @property
    def bytes(self) -> int:
        """Of the program and its weights."""
        package, program = self.recognizer.package, self.recognizer.program
        return program.bytes + (package.entry(program.weights).bytes if program.weights else 0)


@dataclass
class Timing:
    """Seconds of work of one setting, round after round."""

    work_s: list[float] = field(default_factory=list)
    encoder_s: list[float] = field(default_factory=list)


def settings(packages: Sequence[Path], backend: str) -> Iterator[Setting]:
    """What is measured; the int8 native program first, to which speeds are compared.

    Raises:
        EdgeAsrError: a package has no such program, or it cannot run here.
    """
    first = packages[0]

    def program(package: Path, precision: str, dispatch: str) -> Recognizer:
        return edge_asr.load(
            package, backend=backend, precision=precision, dispatch=dispatch, second_pass=False
        )

    native = program(first, "int8", "native")
    yield Setting("int8 native", native)
    offered = {
        (one.precision, one.dispatch)
        for one in native.package.manifest.programs
        if (one.role, one.backend) == ("encoder", backend)
    }
    for precision in ("fp32", "int8"):
        if (precision, "portable") in offered:
            yield Setting(f"{precision} portable", program(first, precision, "portable"))
    small = None
    for package in packages:
        if package != first or ("int4", "native") in offered:
            recognizer = program(package, "int4", "native")
            small = small or recognizer
            yield Setting(f"int4 {group_of(recognizer)}", recognizer)
    for levers in LEVERS:
        yield Setting("int8 native", native, levers)
    if small is not None:
        for levers in LEVERS_OF_INT4:
            yield Setting(f"int4 {group_of(small)}", small, levers)


def group_of(recognizer: Recognizer) -> str:
    """The size of the int4 groups; nothing for a package made before manifests told it."""
    group = recognizer.program.group
    return f"g{group}" if group else ""


def measure_words(
    chosen: Sequence[Setting], recordings: Sequence[Path], chunk_ms: int | None
) -> list[Row]:
    """Word errors of every setting on every recording list, and the experts it took on the first.

    Raises:
        EdgeAsrError: a recording or a list cannot be read.
    """
    sets = {set_name(path): read_recordings(path) for path in recordings}
    rows = []
    for setting in track(chosen, "words", console=Console(stderr=True), transient=True):
        setting.pull()
        chunk = setting.recognizer.stream(chunk_ms).chunk_ms
        row = Row(setting.name, setting.levers, setting.bytes)
        for name, utterances in sets.items():
            expert_figures(setting.recognizer)
            errors = measure_word_errors(setting.recognizer, utterances, chunk)
            row.wer[name], row.words[name] = 100 * errors.wer, errors.words
            if row.experts is None:
                row.experts = expert_figures(setting.recognizer)
        rows.append(row)
    return rows


def measure_speed(
    chosen: Sequence[Setting], rows: Sequence[Row], clips: Sequence[Clip], rounds: int,
    chunk_ms: int | None,
) -> None:  # fmt: skip
    """Play the clips ``rounds`` times with every setting, after one that is thrown away, and fill
    in what it took, as ratios to the first setting within the same round."""
    timings = [Timing() for _ in chosen]
    order = list(range(len(chosen)))
    audio_s = sum(clip.duration_s for clip in clips)
    for number in track(range(rounds + 1), "speed", console=Console(stderr=True), transient=True):
        random.Random(number).shuffle(order)
        for index in order:
            tally = _play(chosen[index], clips, chunk_ms)
            if number > 0:
                timings[index].work_s.append(tally.work_s)
                timings[index].encoder_s.append(tally.encoder_s)
    base = timings[0]
    for row, timing in zip(rows, timings, strict=True):
        row.rtf = median(timing.work_s) / audio_s
        row.work_ratios = _ratios(timing.work_s, base.work_s)
        row.encoder_ratios = _ratios(timing.encoder_s, base.encoder_s)


def _ratios(ours: Sequence[float], base: Sequence[float]) -> list[float]:
    return [mine / theirs for mine, theirs in zip(ours, base, strict=True)]


def _play(setting: Setting, clips: Sequence[Clip], chunk_ms: int | None) -> Tally:
    setting.pull()
    encoder, tally = TimedEncoder(setting.recognizer.encoder), Tally()
    timed = Recognizer(setting.recognizer.package, setting.recognizer.program, encoder)
    for clip in clips:
        with timed.stream(chunk_ms) as stream:
            play(stream, encoder, clip, tally)
    return tally


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: see the parts.
    """
    import_jiwer()  # before the work of minutes
    chosen = list(settings(options.packages, options.backend))
    rows = measure_words(chosen, options.recordings, options.chunk_ms)
    clips = choose_clips(read_recordings(options.recordings[0]), options.audio_s)
    if options.rounds:
        measure_speed(chosen, rows, clips, options.rounds, options.chunk_ms)
    for setting in chosen:
        set_levers(setting.recognizer.package, setting.recognizer.program, Levers())
    return Report(
        origin=Origin.of(chosen[0].recognizer, command, shared=options.shared),
        chunk_ms=chosen[0].recognizer.stream(options.chunk_ms).chunk_ms,
        rounds=options.rounds,
        audio_s=sum(clip.duration_s for clip in clips),
        rows=rows,
    )


@errors_as_lines("benchmark.speed.levers")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.speed.levers", __doc__, out="docs/benchmarks/levers.md")
    add_speed(parser, rounds=7, audio_s=60)
    add = parser.add_argument
    add("packages", nargs="+", type=Path, metavar="package", help="directories of packages")
    add("--recordings", nargs="+", type=Path, required=True, metavar="LIST",
        help="recording lists (TSV) of test sets")  # fmt: skip
    add("--backend", default="onnx", help=f"{backend_choices()} (default: onnx)")
    add_chunk(parser)
    options = parser.parse_args(argv)
    report = measure(options, command_line(parser.prog, argv))
    lines = page(report, picture_path(options.out).name)
    write(lines, report, options.out, partial(draw, report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
