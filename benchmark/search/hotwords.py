"""``python -m benchmark.search.hotwords PACKAGE --dev TSV... --test TSV...``: what listing words
does.

On the dev set of each pair, words that the model gets wrong are listed, and one bonus is chosen
for all pairs. Then errors on listed words and on all others are counted on the test sets, without
and with the list, of single utterances and of streams of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import edge_asr
from benchmark.options import add_chunk, add_package, add_speed, page_parser
from benchmark.page import Origin, command_line, write
from benchmark.replay import Recording, read_clips, record_all, texts
from benchmark.search.decoding_speed import Played, measure_speed
from benchmark.search.hotword_lists import ListRule, Split, made_up_phrases, split_errors
from benchmark.search.hotword_report import Report, Row, SpeedRow, Sweep, page
from benchmark.streams import record_streams
from edge_asr.audio.recordings import read_recordings
from edge_asr.bench.play import choose_clips
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer

BONUSES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
PHRASES = (0, 10, 1000, 10_000)


@dataclass(frozen=True)
class Pair:
    """A corpus."""

    name: str
    dev: list[Recording]
    test: list[Recording]
    streams: list[Recording]  # of the test set


def read_pair(recognizer: Recognizer, dev: Path, test: Path, chunk_ms: int | None) -> Pair:
    """Read and encode.

    Raises:
        EdgeAsrError: a recording list or a recording cannot be used.
    """
    name = test.parent.name
    sets = [read_recordings(path) for path in (dev, test)]
    clips = [read_clips(utterances) for utterances in sets]
    return Pair(
        name,
        record_all(recognizer, sets[0], clips[0], chunk_ms, f"{name} dev"),
        record_all(recognizer, sets[1], clips[1], chunk_ms, f"{name} test"),
        record_streams(recognizer, sets[1], clips[1], chunk_ms),
    )


class Counting:
    """Splits of recordings, without decoding any of them twice in the same way."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._plain: dict[tuple[int, Decoding], str] = {}

    def plain(self, recordings: Sequence[Recording], way: Decoding) -> list[str]:
        """What is said without hotwords."""
        for one in recordings:
            if (id(one), way) not in self._plain:
                self._plain[id(one), way] = texts(self._recognizer, [one], way)[0]
        return [self._plain[id(one), way] for one in recordings]

    def without(
        self, recordings: Sequence[Recording], way: Decoding, listed: Sequence[str]
    ) -> Split:
        """Errors without the list."""
        return split_errors([o.text for o in recordings], self.plain(recordings, way), listed)

    def with_(self, recordings: Sequence[Recording], way: Decoding, listed: Sequence[str]) -> Split:
        """Errors with the list; the bonus is that of ``way``."""
        said = texts(self._recognizer, recordings, way, listed)
        return split_errors([o.text for o in recordings], said, listed)


def choose_bonus(tried: Sequence[Sweep]) -> float:
    """The fewest errors on all words, listed and others; the smallest of those that are equal.

    A limit on how much others may rise would be one of an error or two on sets of this size.
    """
    return min(tried, key=lambda one: (one.after.listed + one.after.others, one.bonus)).bonus


def halves(recordings: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """By speaker: every other one, in the order of their names."""
    speakers = sorted({one.speaker for one in recordings})
    first = set(speakers[::2])
    return (
        [one for one in recordings if one.speaker in first],
        [one for one in recordings if one.speaker not in first],
    )


def measure_words(
    recognizer: Recognizer, pairs: Sequence[Pair], rule: ListRule, ctc_weight: float | None
) -> tuple[list[Sweep], float, list[Row], dict[str, tuple[str, ...]]]:
    """The sweep on dev, the bonus, the rows on test, and the lists."""
    counting, prefix = Counting(recognizer), Decoding(second_pass="off")
    ways = {"prefix": prefix}
    if recognizer.decoder is not None:
        ways["prefix + second pass"] = Decoding(second_pass="inline", ctc_weight=ctc_weight)

    def choose(recordings: Sequence[Recording]) -> tuple[str, ...]:
        return rule.choose([o.text for o in recordings], counting.plain(recordings, prefix))

    lists = {pair.name: choose(pair.dev) for pair in pairs}
    before = sum((counting.without(p.dev, prefix, lists[p.name]) for p in pairs), Split())
    tried = []
    for bonus in BONUSES:
        way = replace(prefix, hotword_bonus=bonus)
        after = sum((counting.with_(p.dev, way, lists[p.name]) for p in pairs), Split())
        tried.append(Sweep(bonus, before, after))
    bonus = choose_bonus(tried)

    rows = []
    for pair in pairs:
        for kind, recordings in (("utterances", pair.test), ("streams", pair.streams)):
            for name, way in ways.items():
                with_bonus, listed = replace(way, hotword_bonus=bonus), lists[pair.name]
                without = counting.without(recordings, way, listed)
                after = counting.with_(recordings, with_bonus, listed)
                rows.append(Row(pair.name, kind, name, "dev", without, after))
        for name, way in ways.items():
            without = after = Split()
            parts = halves(pair.test)
            for part, other in zip(parts, parts[::-1], strict=True):
                listed = choose([*pair.dev, *other])
                without += counting.without(part, way, listed)
                after += counting.with_(part, replace(way, hotword_bonus=bonus), listed)
            rows.append(Row(pair.name, "utterances", name, "dev and other half", without, after))
    return tried, bonus, rows, lists


def measure_phrases(
    recognizer: Recognizer, options: argparse.Namespace, bonus: float
) -> Iterator[SpeedRow]:
    """Speed with so many phrases, and what it takes to compile them."""
    clips = choose_clips(read_recordings(options.test[0]), options.audio_s)
    phrases = made_up_phrases(recognizer.package.units, max(PHRASES))
    decoding = Decoding(second_pass="off", hotword_bonus=bonus)
    played = [Played(options.chunk_ms, decoding, phrases[:count]) for count in PHRASES]
    speeds = measure_speed(recognizer, played, clips, options.rounds)
    for count, speed in zip(PHRASES, speeds, strict=True):
        builds_s = []
        for _ in range(3):
            began = time.perf_counter()
            Hotwords.build(phrases[:count], recognizer.package.units, bonus)
            builds_s.append(time.perf_counter() - began)
        ratios = [a / b for a, b in zip(speed.rtfs, speeds[0].rtfs, strict=True)]
        yield SpeedRow(count, speed.rtf, ratios, 1000 * median(builds_s))


def measure(options: argparse.Namespace, command: str) -> Report:
    """Everything.

    Raises:
        EdgeAsrError: a package, a recording list or a recording cannot be used.
    """
    recognizer = edge_asr.load(options.package)
    rule = ListRule(options.min_errors, options.min_rate, options.min_letters)
    pairs = [
        read_pair(recognizer, dev, test, options.chunk_ms)
        for dev, test in zip(options.dev, options.test, strict=True)
    ]
    sweep, bonus, rows, lists = measure_words(recognizer, pairs, rule, options.ctc_weight)
    speed = list(measure_phrases(recognizer, options, bonus)) if options.rounds else []
    origin = Origin.of(recognizer, command, shared=options.shared)
    return Report(
        origin, rule, options.ctc_weight, lists, sweep, bonus, rows, options.rounds, speed
    )


@errors_as_lines("benchmark.search.hotwords")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.search.hotwords", __doc__)
    add_package(parser)
    add_speed(parser, rounds=5, audio_s=30)
    add = parser.add_argument
    add("--dev", nargs="+", type=Path, required=True, help="TSV files to choose on")
    add("--test", nargs="+", type=Path, required=True, help="TSV files to measure on, in pairs")
    add_chunk(parser)
    add("--ctc-weight", type=float, help="of the second pass (default: the package's)")
    add("--min-errors", type=int, default=2, help="of a listed word (default: 2)")
    add("--min-rate", type=float, default=0.5, help="of a listed word (default: 0.5)")
    add("--min-letters", type=int, default=1, help="of a listed word (default: 1)")
    options = parser.parse_args(argv)
    if len(options.dev) != len(options.test):
        raise UsageError("--dev and --test must name as many recording lists, in the same order")
    report = measure(options, command_line(parser.prog, argv))
    write(page(report), report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
