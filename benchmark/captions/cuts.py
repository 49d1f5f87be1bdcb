"""``python -m benchmark.captions.cuts PACKAGE LIST...``: does a cut lose or double a word?

Utterances are joined to recordings with pauses between them, which endpoints cut into segments.
The text of all segments is compared with that of the same recording decoded whole, without any
endpoint, at the same context of the encoder. So a difference is one that a cut makes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import edge_asr
from benchmark.options import add_package, add_recordings, page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.replay import join, read_clips, set_name
from benchmark.streams import segment_texts
from benchmark.words.errors import aligned
from edge_asr.audio.recordings import read_recordings
from edge_asr.bench.play import Clip
from edge_asr.exits import errors_as_lines
from edge_asr.search.commit import NEVER
from edge_asr.search.decoding import Decoding, SearchName
from edge_asr.search.endpoint import EndpointRule
from edge_asr.streams.recognizer import Recognizer

PAUSES_S = (0.9, 1.8)  # most of them end a segment
LONGEST_S = 28.0  # what can be decoded whole: rules end a segment at 30 s
_LIMIT_MS = 30_000
NO_ENDPOINT = EndpointRule(
    nothing_said_ms=_LIMIT_MS,
    silence_ms=_LIMIT_MS,
    min_silence_ms=_LIMIT_MS,
    relax_from_ms=_LIMIT_MS - 1,
    max_segment_ms=_LIMIT_MS,
    cut_words_from_ms=_LIMIT_MS,
)


@dataclass
class Row:
    """What cuts did to the recordings of one set."""

    set_name: str
    search: SearchName
    recordings: int = 0
    cuts: int = 0
    equal: int = 0  # recordings
    words: int = 0  # decoded whole
    unlike: int = 0  # words substituted, lost or doubled by cuts


@dataclass(frozen=True)
class Report:
    """Where it was measured, and what cuts changed in each set and search."""

    origin: Origin
    rows: list[Row]


def recordings(clips: Sequence[Clip], seed: int = 0) -> Iterator[Clip]:
    """The clips, shuffled and joined with pauses, in pieces of at most ``LONGEST_S``."""
    rng = random.Random(seed)
    left = list(clips)
    rng.shuffle(left)
    while left:
        group: list[Clip] = []
        pauses_s: list[float] = []
        room_s = LONGEST_S
        while left and room_s >= (length_s := len(left[-1].samples) / left[-1].rate + PAUSES_S[1]):
            group.append(left.pop())
            pauses_s.append(rng.uniform(*PAUSES_S))
            room_s -= length_s
        if not group:
            left.pop()  # longer than all that can be decoded whole
            continue
        yield join(group, pauses_s)


def segments(
    recognizer: Recognizer, clip: Clip, search: SearchName, rule: EndpointRule
) -> list[str]:
    """The texts of all segments, by the first pass with a context that goes on."""
    decoding = Decoding(
        search=search, second_pass="off", endpoint=rule, commit=NEVER, fresh_context=False
    )
    return segment_texts(recognizer, clip, decoding)


def compare(recognizer: Recognizer, name: str, clips: Sequence[Clip], search: SearchName) -> Row:
    """All recordings of one set, cut and whole."""
    row = Row(name, search)
    for clip in recordings(clips):
        cut = segments(recognizer, clip, search, EndpointRule())
        whole = " ".join(segments(recognizer, clip, search, NO_ENDPOINT))
        row.recordings += 1
        row.cuts += max(0, len(cut) - 1)
        row.equal += " ".join(cut) == whole
        row.words += len(whole.split())
        row.unlike += sum(meant != said for meant, said in aligned(whole, " ".join(cut)))
    return row


def page(report: Report) -> Iterator[str]:
    """The report in Markdown."""
    yield "# What cuts do to the text"
    yield ""
    yield (
        "Utterances joined with pauses of "
        f"{PAUSES_S[0]} to {PAUSES_S[1]} s, cut by the endpoint rules into segments, compared "
        f"with the same recordings of at most {LONGEST_S:.0f} s decoded whole; the encoder's "
        "context goes on in both (`fresh_context=False`), first pass only."
    )
    yield ""
    yield from report.origin.lines()
    yield ""
    titles = ("set", "search", "recordings", "cuts", "equal", "words", "words that differ")
    yield from table(
        titles,
        (
            (
                row.set_name,
                row.search,
                *map(str, (row.recordings, row.cuts, row.equal, row.words, row.unlike)),
            )
            for row in report.rows
        ),
    )
    yield (
        "Greedy search must be equal in all. In prefix search the hypotheses of an open segment "
        "share the beam with those of what follows, so that rivals may be given up earlier."
    )


@errors_as_lines("benchmark.captions.cuts")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.captions.cuts", __doc__)
    add_package(parser)
    add_recordings(parser)
    options = parser.parse_args(argv)
    recognizer = edge_asr.load(options.package, second_pass=False)
    origin = Origin.of(recognizer, command_line(parser.prog, argv), shared=False)
    rows = []
    for path in options.recordings:
        clips = read_clips(read_recordings(path))
        name = set_name(path)
        for search in ("greedy", "prefix"):
            rows.append(compare(recognizer, name, clips, search))
    report = Report(origin, rows)
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
