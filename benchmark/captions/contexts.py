"""``python -m benchmark.captions.contexts PACKAGE LIST...``: should the encoder start afresh
after silence?

Utterances are joined to recordings with pauses that end segments. Word errors of whole streams,
where the encoder starts from zeros after such a pause, and where its context goes on.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import edge_asr
from benchmark.captions.cuts import PAUSES_S
from benchmark.options import add_package, add_recordings, page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.replay import join, read_clips, set_name
from benchmark.streams import UTTERANCES, segment_texts
from benchmark.words.errors import count_errors
from edge_asr.audio.recordings import read_recordings
from edge_asr.bench.play import Clip
from edge_asr.exits import errors_as_lines
from edge_asr.search.decoding import Decoding, SearchName
from edge_asr.streams.recognizer import Recognizer

_SEARCHES: tuple[SearchName, ...] = ("greedy", "prefix")


@dataclass(frozen=True)
class Row:
    """Word errors of one set, in percent."""

    set_name: str
    search: str
    words: int
    fresh_wer: float
    kept_wer: float


@dataclass(frozen=True)
class Report:
    """Where and how it was measured, and the word errors of each set, chunk and context."""

    origin: Origin
    rows: list[Row]


def joined(clips: Sequence[Clip], texts: Sequence[str], seed: int = 0) -> list[tuple[Clip, str]]:
    """Recordings of ``UTTERANCES`` in their order, with pauses, and what is said in them."""
    rng = random.Random(seed)
    found = []
    for begin in range(0, len(clips), UTTERANCES):
        group = clips[begin : begin + UTTERANCES]
        text = " ".join(texts[begin : begin + UTTERANCES])
        found.append((join(group, [rng.uniform(*PAUSES_S) for _ in group]), text))
    return found


def compare(
    recognizer: Recognizer, name: str, recordings: Sequence[tuple[Clip, str]]
) -> Iterator[Row]:
    """One row for each search."""
    truth = [text for _, text in recordings]
    for search in _SEARCHES:
        wer = {}
        for fresh in (True, False):
            decoding = Decoding(search=search, second_pass="off", fresh_context=fresh)
            heard = [
                " ".join(filter(None, segment_texts(recognizer, clip, decoding)))
                for clip, _ in recordings
            ]
            wer[fresh] = count_errors(truth, heard).wer
        words = sum(len(text.split()) for text in truth)
        yield Row(name, search, words, wer[True], wer[False])


def page(report: Report) -> Iterator[str]:
    """The report in Markdown."""
    yield "# A fresh context after silence"
    yield ""
    yield (
        f"Word errors in % of streams of {UTTERANCES} utterances with pauses of {PAUSES_S[0]} to "
        f"{PAUSES_S[1]} s, most of which end a segment; the encoder starts from zeros after such "
        "a pause, or its context goes on."
    )
    yield ""
    yield from report.origin.lines()
    yield ""
    titles = ("set", "search", "words", "fresh, WER %", "goes on, WER %")
    yield from table(
        titles,
        (
            (r.set_name, r.search, str(r.words), f"{r.fresh_wer:.2f}", f"{r.kept_wer:.2f}")
            for r in report.rows
        ),
    )


@errors_as_lines("benchmark.captions.contexts")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.captions.contexts", __doc__)
    add_package(parser)
    add_recordings(parser)
    options = parser.parse_args(argv)
    recognizer = edge_asr.load(options.package, second_pass=False)
    origin = Origin.of(recognizer, command_line(parser.prog, argv), shared=False)
    rows: list[Row] = []
    for path in options.recordings:
        utterances = read_recordings(path)
        texts = [utterance.text for utterance in utterances]
        recordings = joined(read_clips(utterances), texts)
        rows += compare(recognizer, set_name(path), recordings)
    report = Report(origin, rows)
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
