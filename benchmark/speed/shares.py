"""``python -m benchmark.speed.shares PACKAGE``: where the time of a stream goes.

The golden samples of the package are played in the blocks of a microphone, as ``edge-asr bench``
does it. The time of a part is what it takes itself, without the parts that it calls.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from unittest.mock import patch

import edge_asr
from benchmark.options import add_chunk, add_package, add_speed, page_parser
from benchmark.page import Origin, command_line, table, write
from edge_asr.bench.play import Clip, Tally, TimedEncoder, play
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.search.decoding import Decoding
from edge_asr.search.prefix import PrefixSearch
from edge_asr.search.segments import Segments
from edge_asr.streams import state as stream_state
from edge_asr.streams.recognizer import Recognizer
from edge_asr.streams.stream import Stream

PROGRAMS = ("encoder program", "decoder program")  # all else is Python's share
REST = "samples, steps, events"
_METHODS = (
    ("features", stream_state, "push_samples"),
    ("prefix search", PrefixSearch, "push"),
    ("endpoints", Segments, "push"),
    ("commits and partials", Segments, "partials"),
    ("finals, around the second pass", Segments, "collect"),
    (REST, Stream, "push"),
    (REST, Stream, "flush"),
)


@dataclass
class Row:
    """One part: in each round its share of the time, in percent, and milliseconds a step."""

    part: str
    percent: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All parts, and what all but the programs take together."""

    origin: Origin
    dispatch: str
    chunk_ms: int
    rounds: int
    audio_s: float
    rtf: float
    python_percent: float
    rows: list[Row]


class Account:
    """Seconds that parts take themselves, without those that they call."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.spent_s: dict[str, float] = {}
        self._clock = clock
        self._open: list[str] = []
        self._since = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time put down to ``part``."""

        def call(*args: Any, **settings: Any) -> Any:
            self._switch()
            self._open.append(part)
            try:
                return function(*args, **settings)
            finally:
                self._switch()
                self._open.pop()

        return call

    def _switch(self) -> None:
        now = self._clock()
        if self._open:
            part = self._open[-1]
            self.spent_s[part] = self.spent_s.get(part, 0.0) + now - self._since
        self._since = now


def play_round(recognizer: Recognizer, clips: Sequence[Clip], chunk_ms: int | None) -> Account:
    """Seconds of every part for all ``clips``, and of steps how many."""
    account = Account()
    encoder = TimedEncoder(recognizer.encoder)
    decoder = recognizer.decoder
    timed = dataclasses.replace(recognizer, encoder=encoder)
    decoding = Decoding(second_pass="inline" if decoder else "off")
    with ExitStack() as stack:
        for part, owner, name in _METHODS:
            called = account.timed(part, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, called))
        called = account.timed(PROGRAMS[0], encoder.step)
        stack.enter_context(patch.object(encoder, "step", called))
        if decoder is not None:
            scored = account.timed(PROGRAMS[1], decoder.score)
            stack.enter_context(
                patch.object(type(decoder), "score", lambda _, *args: scored(*args))
            )
        for clip in clips:
            with timed.stream(chunk_ms, decoding=decoding) as stream:
                play(stream, encoder, clip, Tally())
    account.spent_s["steps"] = encoder.steps
    return account


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: the package cannot be loaded.
    """
    if options.rounds < 1:
        raise UsageError("--rounds must be 1 or more")
    recognizer = edge_asr.load(options.package, dispatch=options.dispatch)
    samples = recognizer.package.golden()["samples"]
    clip = Clip(samples[:, None], recognizer.package.manifest.features.sample_rate)
    clips = [clip] * math.ceil(options.audio_s / clip.duration_s)
    rows = {part: Row(part) for part in (*PROGRAMS, *(part for part, *_ in _METHODS))}
    audio_s = clip.duration_s * len(clips)
    rtf = []
    for number in range(options.rounds + 1):
        spent_s = play_round(recognizer, clips, options.chunk_ms).spent_s
        steps = spent_s.pop("steps")
        if number:
            total_s = sum(spent_s.values())
            rtf.append(total_s / audio_s)
            for part, seconds in spent_s.items():
                rows[part].percent.append(100 * seconds / total_s)
                rows[part].ms.append(1000 * seconds / steps)
    programs = [rows[part].percent or [0.0] * options.rounds for part in PROGRAMS]
    return Report(
        origin=Origin.of(recognizer, command, shared=options.shared),
        dispatch=recognizer.program.dispatch,
        chunk_ms=recognizer.stream(options.chunk_ms).chunk_ms,
        rounds=options.rounds,
        audio_s=audio_s,
        rtf=median(rtf),
        python_percent=median(100 - sum(shares) for shares in zip(*programs, strict=True)),
        rows=[row for row in rows.values() if row.ms],
    )


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    yield from (
        "# Where the time of a stream goes",
        "",
        f"The golden samples again and again, {report.audio_s:.0f} s in blocks of 50 ms, chunks of "
        f"{report.chunk_ms} ms, prefix search, {report.dispatch} programs; {report.rounds} rounds "
        "after one thrown away: the median, and the range of shares. A part is what it takes "
        "itself, without the parts that it calls.",
        "",
        *report.origin.lines(),
        "",
    )
    yield from table(("part", "ms a step", "share", "from", "to"), map(_cells, report.rows))
    yield (
        f"Python, all but the programs: {report.python_percent:.1f} % of the time. "
        f"RTF {report.rtf:.4f}."
    )


def _cells(row: Row) -> list[str]:
    low, middle, high = min(row.percent), median(row.percent), max(row.percent)
    shares = [f"{percent:.1f} %" for percent in (middle, low, high)]
    return [row.part, f"{median(row.ms):.3f}", *shares]


@errors_as_lines("benchmark.speed.shares")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.speed.shares", __doc__)
    add_package(parser)
    add_speed(parser, rounds=7, audio_s=60)
    add = parser.add_argument
    add("--dispatch", choices=("native", "portable"), help="(default: native where it can run)")
    add_chunk(parser)
    options = parser.parse_args(argv)
    report = measure(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
