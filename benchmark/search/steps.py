"""``python -m benchmark.search.steps PACKAGE LIST``: time of the search against the
encoder's step.

The log-probabilities of real speech, widened to a large vocabulary, and the worst that can come:
frames in which every unit is about as probable. Each chunk is searched after an encoder step, whose
memory traffic leaves nothing of the search in the caches, as in a stream.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

import edge_asr
from benchmark.options import add_shared, page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.replay import record
from benchmark.search.hotword_lists import made_up_phrases
from edge_asr.audio.recordings import read_recordings
from edge_asr.backends import FloatArray
from edge_asr.backends.state import zero_state
from edge_asr.bench.play import choose_clips
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.fusion import Fusion
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.package.files import Package, open_package
from edge_asr.package.units import SPACE, Units
from edge_asr.programs.loading import choose_program, load_encoder
from edge_asr.search import Search
from edge_asr.search.decoding import Decoding
from edge_asr.search.segments import Segments, SegmentState
from edge_asr.search.words import FrameClock

ALLOWED_PERCENT = 5.0
RARE_MASS = 1e-4  # of the probability of a frame, for all units that were not in the model
FRAME_SAMPLES = 640  # 40 ms at 16 kHz
_MADE_UP = "abcdefghijklmnop"  # letters of units that were not in the model


@dataclass
class Row:
    """What one search took, chunk by chunk, in ms."""

    name: str
    speech: str
    chunks_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All rows, and the encoder steps that they are compared with, in ms."""

    origin: Origin
    vocab_size: int
    beam: int
    chunk_frames: int
    rounds: int
    encoders_ms: dict[str, float]
    between: bool  # whether an encoder ran between the chunks
    active: dict[str, float]  # of the frames, percent that blank did not skip
    rows: list[Row]


def widen(log_probs: FloatArray, vocab_size: int, seed: int = 0) -> FloatArray:
    """log_probs (T', V) for more units: the new ones share ``RARE_MASS`` at random."""
    rng = np.random.default_rng(seed)
    rare = rng.exponential(1.0, (len(log_probs), vocab_size - log_probs.shape[1]))
    rare *= RARE_MASS / rare.sum(axis=1, keepdims=True)
    known = log_probs + np.log1p(-RARE_MASS)
    return np.concatenate([known, np.log(rare)], axis=1).astype(np.float32)


def flat(frames: int, vocab_size: int, seed: int = 0) -> FloatArray:
    """(frames, vocab_size) in which every unit is about as probable, blank too."""
    raw = np.random.default_rng(seed).normal(0, 0.1, (frames, vocab_size))
    raw -= np.log(np.exp(raw).sum(axis=1, keepdims=True))
    return raw.astype(np.float32)


def wider_units(units: Units, vocab_size: int) -> Units:
    """``units``, and others of four letters, every second of which begins a word."""
    symbols, number = list(units.symbols), 0
    while len(symbols) < vocab_size:
        letters = "".join(_MADE_UP[number >> shift & 15] for shift in (0, 4, 8, 12))
        symbols.append((SPACE if number % 2 else "") + letters)
        number += 1
    return Units(tuple(symbols))


class _WholeSearch:
    """Search, endpoints, commits and partial results, as a stream runs them."""

    def __init__(self, units: Units, decoding: Decoding, fusion: Fusion) -> None:
        self._segments = Segments(units, 0, 40.0, decoding, None)
        self._state = SegmentState(decoding.new_search(0, fusion))
        self._clock = FrameClock(0, FRAME_SAMPLES, 16000)

    def push(self, log_probs: FloatArray) -> None:
        """One chunk (T', V)."""
        nothing = np.zeros((len(log_probs), 1), np.float32)
        self._segments.push(self._state, log_probs, nothing, self._clock, None)
        self._segments.partials(self._state, self._clock, None)


def searches(
    units: Units, decoding: Decoding, phrases: Sequence[str]
) -> dict[str, Callable[[], _WholeSearch | Search]]:
    """What is timed, each made again for every round."""
    hotwords, _ = Hotwords.build(phrases, units)
    none, listed = Fusion(), Fusion((hotwords,))
    greedy = Decoding(search="greedy")
    return {
        "greedy": lambda: greedy.new_search(0, none),
        "prefix": lambda: decoding.new_search(0, none),
        f"prefix, {len(phrases)} hotwords": lambda: decoding.new_search(0, listed),
        "prefix, endpoints, commits and partials": lambda: _WholeSearch(units, decoding, none),
    }


def encoder_step(package: Package) -> Callable[[], object]:
    """One step of a default chunk, on noise. Golden vectors are not asked for, which packages of
    random weights do not have.

    Raises:
        PackageError, BackendError: there is no encoder that can run here.
    """
    spec, features = package.manifest.encoder, package.manifest.features
    shape = 1, spec.input_frames(spec.default_chunk), features.num_mel_bins
    feats = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    encoder = load_encoder(package, choose_program(package, "encoder"))
    state = zero_state(spec)
    return lambda: encoder.step(feats, spec.left_context, state)


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: a package, the recording list or a recording cannot be used.
    """
    recognizer = edge_asr.load(options.package, second_pass=False)
    steps = {Path(name).name: encoder_step(open_package(name)) for name in options.encoder}
    between = next(iter(steps.values()), None)
    units = wider_units(recognizer.package.units, options.vocab)
    decoding = Decoding(beam=options.beam, second_pass="off")
    spoken = [
        record(recognizer, clip, "", "", None).log_probs
        for clip in choose_clips(read_recordings(options.recordings), options.audio_s)
    ]
    speech = {"speech": widen(np.concatenate(spoken), options.vocab)}
    speech["flat"] = flat(min(160, len(speech["speech"])), options.vocab)
    phrases = made_up_phrases(recognizer.package.units, 1000)
    found = searches(units, decoding, phrases)
    rows = {(name, kind): Row(name, kind) for kind in speech for name in found}
    for number in track(
        range(options.rounds + 1), "rounds", console=Console(stderr=True), transient=True
    ):
        for (name, kind), row in rows.items():
            took_ms = list(time_chunks(found[name](), speech[kind], options.chunk, between))
            row.chunks_ms += took_ms if number else []
    threshold = np.log(decoding.blank_skip)
    return Report(
        origin=Origin.of(recognizer, command, shared=options.shared),
        vocab_size=options.vocab,
        beam=options.beam,
        chunk_frames=options.chunk,
        rounds=options.rounds,
        encoders_ms={name: _median_ms(step) for name, step in steps.items()}
        or {f"{ms:g} ms": ms for ms in options.encoder_ms},
        between=between is not None,
        active={
            kind: 100 * float(np.mean(numbers[:, 0] <= threshold))
            for kind, numbers in speech.items()
        },
        rows=list(rows.values()),
    )


def time_chunks(
    search: _WholeSearch | Search,
    log_probs: FloatArray,
    chunk_frames: int,
    between: Callable[[], object] | None,
) -> Iterator[float]:
    """The ms that each chunk takes."""
    for start in range(0, len(log_probs), chunk_frames):
        if between is not None:
            between()
        began = time.perf_counter()
        search.push(log_probs[start : start + chunk_frames])
        yield 1000 * (time.perf_counter() - began)


def _median_ms(step: Callable[[], object], times: int = 20) -> float:
    took_ms = []
    for _ in range(times + 2):
        began = time.perf_counter()
        step()
        took_ms.append(1000 * (time.perf_counter() - began))
    return float(np.median(took_ms[2:]))


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    active = ", ".join(f"{share:.0f} % ({kind})" for kind, share in report.active.items())
    yield from (
        "# The search, compared with the encoder's step",
        "",
        f"Chunks of {report.chunk_frames} frames, {report.vocab_size} units, beam {report.beam}; "
        f"{report.rounds} rounds after one thrown away. `speech` is real speech of the package, "
        f"its other units given {RARE_MASS:g} of the probability of each frame at random; `flat` "
        "is the worst that can come, every unit about as probable in every frame. Frames that "
        f"blank does not skip: {active}. "
        + ("An encoder step runs before each chunk." * report.between),
        "",
        *report.origin.lines(),
        "",
    )
    titles = ["log-probabilities", "search", "mean ms", "median ms", "95 % ms"]
    shares = [f"of {name} ({ms:.1f} ms)" for name, ms in report.encoders_ms.items()]
    yield from table(
        [*titles, *shares], (_cells(row, list(report.encoders_ms.values())) for row in report.rows)
    )
    yield f"Shares are of the mean. Asked for: at most {ALLOWED_PERCENT:g} %."


def _cells(row: Row, encoders_ms: Sequence[float]) -> list[str]:
    mean = float(np.mean(row.chunks_ms))
    figures = [mean, *np.percentile(row.chunks_ms, (50, 95)).tolist()]
    shares = [f"{100 * mean / ms:.1f} %" for ms in encoders_ms]
    return [row.speech, row.name, *(f"{ms:.2f}" for ms in figures), *shares]


@errors_as_lines("benchmark.search.steps")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.search.steps", __doc__)
    add_shared(parser)
    add = parser.add_argument
    add("package", help="package that hears the speech: name or directory")
    add("recordings", type=Path, metavar="list", help="recording list (TSV) of speech")
    add("--encoder", nargs="+", default=[], metavar="PACKAGE", help="to compare the search with")
    add("--encoder-ms", nargs="+", type=float, default=[27.0, 56.0],
        help="steps measured elsewhere, without --encoder (default: 27 56)")  # fmt: skip
    add("--vocab", type=int, default=5000, help="units (default: 5000)")
    add("--beam", type=int, default=10, help="hypotheses (default: 10)")
    add("--chunk", type=int, default=16, help="frames (default: 16)")
    add("--rounds", type=int, default=3, help="(default: 3)")
    add("--audio-s", type=float, default=30.0, help="audio of a round (default: 30)")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.chunk < 1 or not 1 <= options.audio_s <= 3600:
        raise UsageError("--rounds and --chunk must be 1 or more, and --audio-s 1 to 3600")
    if not 200 <= options.vocab <= 1 << 16:
        raise UsageError(f"--vocab is {options.vocab}; allowed are 200 to 65536")
    report = measure(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
