"""``python -m benchmark.captions.commits PACKAGE LIST...``: how steady captions are, and how
late.

Utterances are joined to streams and pushed as a microphone delivers them. For each ``CommitRule``:
how often text that was shown changes, how late words are committed, and what that costs in word
errors.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

import edge_asr
from benchmark.options import add_chunk, add_package, add_recordings, page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.replay import Recording, microphone_block_s, read_clips, replay, set_name
from benchmark.streams import PAUSES_S, UTTERANCES, record_streams
from benchmark.words.errors import count_errors
from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import UsageError
from edge_asr.events import Event, Final, Partial
from edge_asr.exits import errors_as_lines
from edge_asr.search.commit import CommitRule
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer

MARGINS = (0.0, 1.0, 2.0, 3.0, 6.0, 10.0, 20.0, math.inf)
LATEST_MS = (500.0, 1000.0, 2000.0, 5000.0, math.inf)


@dataclass
class Steadiness:
    """What a listener saw of one stream, or of several."""

    changed_chars: int = 0  # of text shown before, taken back
    tail_changes: int = 0  # Partials that took back any
    final_changes: int = 0  # Finals that did
    words: int = 0  # in Finals
    late_ms: list[int] = field(default_factory=list)  # from a word's end to its commit
    partials: int = 0

    def watch(self, events: Iterable[tuple[int, Event]]) -> list[Final]:
        """Count, and return the Finals."""
        finals: list[Final] = []
        shown: dict[int, str] = {}  # by segment
        committed: dict[int, list[int]] = {}  # when each of its words was, in ms pushed
        for pushed_ms, event in events:
            if isinstance(event, Partial):
                self.partials += 1
                self.tail_changes += self._replace(shown, event.segment, event.text)
                times = committed.setdefault(event.segment, [])
                times += [pushed_ms] * (len(event.committed.split()) - len(times))
            elif isinstance(event, Final):
                finals.append(event)
                self.final_changes += self._replace(shown, event.segment, event.text)
                times = committed.pop(event.segment, [])
                times += [pushed_ms] * (len(event.words) - len(times))
                self.words += len(event.words)
                self.late_ms += [
                    ms - word.end_ms for ms, word in zip(times, event.words, strict=False)
                ]
        return finals

    def _replace(self, shown: dict[int, str], segment: int, text: str) -> bool:
        """Show another text of a segment; whether any of the last one is taken back."""
        before = shown.get(segment, "")
        pairs = zip(before, text, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(text)))
        self.changed_chars += len(before) - same
        shown[segment] = text
        return same < len(before)


@dataclass
class Row:
    """One rule on one set."""

    set_name: str
    way: str
    margin: float | None
    latest_ms: float | None
    steady: Steadiness
    wer: float


@dataclass(frozen=True)
class Report:
    """Where it was measured, on how many words, and latency and steadiness under each rule."""

    origin: Origin
    chunk_ms: int
    ctc_weight: float | None
    words: dict[str, int]
    rows: list[Row]


def rules(
    recognizer: Recognizer, ctc_weight: float | None, margins: Sequence[float]
) -> Iterator[tuple[str, CommitRule | None, Decoding]]:
    """Greedy search, then every rule on prefix search, with the second pass where there is one."""
    yield "greedy", None, Decoding(search="greedy", second_pass="off")
    second = recognizer.decoder is not None
    way = "prefix + second pass" if second else "prefix"
    for margin in margins:
        for latest_ms in LATEST_MS:
            rule = CommitRule(margin=margin, latest_ms=latest_ms)
            decoding = Decoding(
                second_pass="inline" if second else "off", ctc_weight=ctc_weight, commit=rule
            )
            yield way, rule, decoding


def measure_rule(
    recognizer: Recognizer, streams: Sequence[Recording], decoding: Decoding
) -> tuple[Steadiness, float]:
    """What was seen, and the word error rate of the Finals in percent."""
    steady, said = Steadiness(), []
    for stream in streams:
        events = replay(recognizer, stream, decoding, block_s=microphone_block_s())
        finals = steady.watch(events)
        said.append(" ".join(final.text for final in finals if final.text))
    return steady, count_errors([stream.text for stream in streams], said).wer


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: a package, a recording list or a recording cannot be used.
    """
    recognizer = edge_asr.load(options.package)
    rows, words = [], {}
    for path in options.recordings:
        utterances, name = read_recordings(path), set_name(path)
        # Of all speakers, as a list is sorted.
        chosen = random.Random(0).sample(utterances, min(len(utterances), options.utterances))
        streams = record_streams(recognizer, chosen, read_clips(chosen), options.chunk_ms)
        words[name] = sum(len(stream.text.split()) for stream in streams)
        tried = list(rules(recognizer, options.ctc_weight, options.margins))
        for way, rule, decoding in track(tried, name, console=Console(stderr=True), transient=True):
            steady, wer = measure_rule(recognizer, streams, decoding)
            margin, latest_ms = (rule.margin, rule.latest_ms) if rule else (None, None)
            rows.append(Row(name, way, margin, latest_ms, steady, wer))
    chunk_ms = recognizer.stream(options.chunk_ms).chunk_ms
    origin = Origin.of(recognizer, command, shared=False)
    return Report(origin, chunk_ms, options.ctc_weight, words, rows)


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    weight = "the package's" if report.ctc_weight is None else f"{report.ctc_weight:g}"
    yield from (
        "# What is committed, and when",
        "",
        f"Streams of {UTTERANCES} utterances with pauses of {PAUSES_S[0]:g} to {PAUSES_S[1]:g} s, "
        f"in blocks of 50 ms, chunks of {report.chunk_ms} ms. Text that was shown and taken back "
        "is counted in characters per word of the Finals; `changes` are the events that took back "
        "any, per 100 words: Partials, and Finals, which the second pass writes. `late` is the "
        "audio from the end of a word to the event that has it committed, or final: median and "
        "90 %. Word errors are those of the Finals; CTC weight of the second pass: "
        f"{weight}. Times are of audio: work is not counted.",
        "",
        *report.origin.lines(),
        "",
        "Defaults are in bold." if any(map(_is_default, report.rows)) else "",
        "",
    )
    titles = ["way", "margin", "latest, ms", "taken back, characters per word"]
    titles += ["changes by Partials", "by Finals", "late, median ms", "90 % ms", "WER %"]
    for name, words in report.words.items():
        yield f"## {name}, {words} words"
        yield ""
        rows = [row for row in report.rows if row.set_name == name]
        yield from table(titles, map(_cells, rows))
        yield _finding(rows)
        yield ""


def _finding(rows: Sequence[Row]) -> str:
    """Which rule is the earliest of those that cost no word."""
    fewest = min(row.wer for row in rows if row.margin is not None)
    best = [row for row in rows if row.margin is not None and row.wer == fewest]
    early = min(best, key=lambda row: sum(row.steady.late_ms))
    return (
        f"Of the {len(best)} rules with the fewest word errors, {fewest:.2f} %, the earliest in "
        f"the mean is margin {early.margin:g}, latest {early.latest_ms:g} ms."
    )


def _is_default(row: Row) -> bool:
    rule = CommitRule()
    return (row.margin, row.latest_ms) == (rule.margin, rule.latest_ms)


def _cells(row: Row) -> list[str]:
    steady, words = row.steady, max(1, row.steady.words)
    late = np.percentile(steady.late_ms, (50, 90)) if steady.late_ms else (math.nan, math.nan)
    cells = [
        row.way,
        "" if row.margin is None else f"{row.margin:g}",
        "" if row.latest_ms is None else f"{row.latest_ms:g}",
        f"{steady.changed_chars / words:.3f}",
        f"{100 * steady.tail_changes / words:.1f}",
        f"{100 * steady.final_changes / words:.1f}",
        f"{late[0]:.0f}",
        f"{late[1]:.0f}",
        f"{row.wer:.2f}",
    ]
    return [f"**{cell}**" for cell in cells] if _is_default(row) else cells


@errors_as_lines("benchmark.captions.commits")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.captions.commits", __doc__)
    add_package(parser)
    add_recordings(parser)
    add = parser.add_argument
    add_chunk(parser)
    add("--ctc-weight", type=float, help="of the second pass (default: the package's)")
    add("--margins", type=_margins, default=MARGINS, help="nats (default: 0,1,2,3,6,10,20,inf)")
    add("--utterances", type=int, default=300, help="of each set (default: 300)")
    options = parser.parse_args(argv)
    if options.utterances < 1:
        raise UsageError("--utterances must be 1 or more")
    report = measure(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


def _margins(text: str) -> tuple[float, ...]:
    try:
        return tuple(CommitRule(margin=float(part)).margin for part in text.split(","))
    except (ValueError, UsageError):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 0") from None


if __name__ == "__main__":
    sys.exit(main())
