"""``python -m benchmark.captions.times PACKAGE LIST...``: are words where they were said?

Times of streamed words against those of ``benchmark.alignment``: the best path of the true
text through the log-probabilities of the whole utterance. Words that were recognised wrongly have
no time to compare and are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

import edge_asr
from benchmark.alignment import align
from benchmark.captions.sounding import sounding_ms
from benchmark.options import add_chunk, add_package, add_recordings, page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.replay import Recording, finals, read_clips, record_all, set_name
from benchmark.words.errors import aligned
from edge_asr.audio.recordings import read_recordings
from edge_asr.events import Word
from edge_asr.exits import errors_as_lines
from edge_asr.search.decoding import Decoding
from edge_asr.search.words import FrameClock, assemble_words
from edge_asr.streams.recognizer import Recognizer

ALLOWED_MS = 100
_WAYS = {
    "greedy": Decoding(search="greedy", second_pass="off"),
    "prefix": Decoding(second_pass="off"),
    "prefix + second pass": Decoding(second_pass="inline"),
}


@dataclass
class Row:
    """Streamed minus aligned, word by word, in ms."""

    set_name: str
    way: str
    starts_ms: list[int] = field(default_factory=list)
    ends_ms: list[int] = field(default_factory=list)
    unlike: int = 0  # words recognised wrongly, or without a path
    to_sound_starts_ms: list[int] = field(default_factory=list)  # streamed minus sounding
    to_sound_ends_ms: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """Where it was measured, and the errors of word times in each set and way of decoding."""

    origin: Origin
    chunk_ms: int
    rows: list[Row]


def aligned_words(recognizer: Recognizer, whole: Recording) -> tuple[Word, ...]:
    """The words of the true text; none where no path writes it."""
    manifest, units = recognizer.package.manifest, recognizer.package.units
    tokens = align(whole.log_probs, whole.text, units, manifest.units.blank)
    clock = FrameClock(0, manifest.frame_samples, manifest.features.sample_rate)
    return assemble_words(tokens or [], units, clock, round(whole.clip.duration_s * 1000))


def differences(said: Sequence[Word], meant: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Start and end of each word that is in both, in ms, ``said`` minus ``meant``."""
    left, right = iter(meant), iter(said)
    pairs = aligned(" ".join(word.text for word in meant), " ".join(word.text for word in said))
    for expected, found in pairs:
        truth = next(left) if expected is not None else None
        ours = next(right) if found is not None else None
        if truth is not None and ours is not None and truth.text == ours.text:
            yield ours.start_ms - truth.start_ms, ours.end_ms - truth.end_ms


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: a package, a recording list or a recording cannot be used.
    """
    recognizer = edge_asr.load(options.package)
    ways = {
        name: way
        for name, way in _WAYS.items()
        if recognizer.decoder is not None or way.second_pass == "off"
    }
    rows = []
    for path in options.recordings:
        utterances = read_recordings(path)
        clips, name = read_clips(utterances), set_name(path)
        whole = record_all(recognizer, utterances, clips, "whole", f"{name}, whole")
        streamed = record_all(recognizer, utterances, clips, options.chunk_ms, f"{name}, streamed")
        meant = [aligned_words(recognizer, one) for one in whole]
        for way, decoding in ways.items():
            row = Row(name, way)
            for recording, words in zip(streamed, meant, strict=True):
                found = [w for f in finals(recognizer, recording, decoding) for w in f.words]
                pairs = list(differences(found, words)) if words else []
                row.starts_ms += [start for start, _ in pairs]
                row.ends_ms += [end for _, end in pairs]
                row.unlike += len(recording.text.split()) - len(pairs)
                if len(found) == len(pairs) == 1 and (sound := sounding_ms(recording.clip)):
                    row.to_sound_starts_ms.append(found[0].start_ms - sound[0])
                    row.to_sound_ends_ms.append(found[0].end_ms - sound[1])
            rows.append(row)
    chunk_ms = recognizer.stream(options.chunk_ms).chunk_ms
    return Report(Origin.of(recognizer, command, shared=False), chunk_ms, rows)


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    yield from (
        "# Times of words",
        "",
        f"Words streamed in chunks of {report.chunk_ms} ms compared with a forced alignment: the "
        "best path of the true text, over all its spellings, through the log-probabilities of the "
        "whole utterance "
        "([benchmark/alignment.py](../../benchmark/alignment.py)). "
        "Median and 90 % of the absolute differences, and the median with its sign (above 0: "
        "streamed later). Words recognised wrongly have no time to compare.",
        "",
        "What it shows: whether chunks, the search and the second pass move words from where the "
        "same model hears them at its best. What it does not: where a phonetician would cut. A "
        "CTC model says a unit in a spike anywhere in the word or just after it; both sides "
        "read words from spikes by one rule (a word ends 80 ms after its last spike, and never "
        "after the next begins), and an offset of that rule is in neither column.",
        "",
        *report.origin.lines(),
        "",
    )
    titles = ["set", "way", "words", "left out"]
    for side in ("start", "end"):
        titles += [f"{side}, median ms", f"{side}, 90 % ms", f"{side}, signed median ms"]
    titles += [f"over {ALLOWED_MS} ms"]
    yield from table(titles, map(_cells, report.rows))
    yield f"Asked for: within {ALLOWED_MS} ms in the median."
    missed = [
        f"* {row.set_name}, {row.way}"
        for row in report.rows
        if not row.starts_ms or max(_median(row.starts_ms), _median(row.ends_ms)) > ALLOWED_MS
    ]
    yield "Missed by:" if missed else "Kept by all."
    yield from (["", *missed, ""] if missed else [""])
    alone = [row for row in report.rows if row.to_sound_starts_ms]
    if not alone:
        return
    yield (
        "Compared with the sound itself: recordings of one word, rightly recognised, against where "
        "they are loud "
        "([benchmark/captions/sounding.py](../../benchmark/captions/sounding.py)), which "
        "is near the borders that a phonetician would cut at. Above 0: the word is said to be "
        "later than it sounds."
    )
    yield ""
    titles = ["set", "way", "words", "start, median ms", "10 to 90 %", "end, median ms"]
    yield from table([*titles, "10 to 90 %"], map(_sound_cells, alone))


def _sound_cells(row: Row) -> list[str]:
    cells = [row.set_name, row.way, str(len(row.to_sound_starts_ms))]
    for values in (row.to_sound_starts_ms, row.to_sound_ends_ms):
        low, middle, high = np.percentile(values, (10, 50, 90))
        cells += [f"{middle:+.0f}", f"{low:+.0f} to {high:+.0f}"]
    return cells


def _cells(row: Row) -> list[str]:
    cells = [row.set_name, row.way, str(len(row.starts_ms)), str(row.unlike)]
    for values in (row.starts_ms, row.ends_ms):
        if values:
            cells.append(f"{_median(values):.0f}")
            cells.append(f"{np.percentile(np.abs(values), 90):.0f}")
            cells.append(f"{np.median(values):+.0f}")
        else:
            cells += [""] * 3
    either = np.maximum(np.abs(row.starts_ms), np.abs(row.ends_ms))
    cells.append(f"{100 * np.mean(either > ALLOWED_MS):.1f} %" if row.starts_ms else "")
    return cells


def _median(values: Sequence[int]) -> float:
    return float(np.median(np.abs(values)))


@errors_as_lines("benchmark.captions.times")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.captions.times", __doc__)
    add_package(parser)
    add_recordings(parser)
    add_chunk(parser)
    options = parser.parse_args(argv)
    report = measure(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
