"""What ways of decoding do and cost, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmark.page import Origin, table
from benchmark.search.decoding_speed import Speed
from benchmark.words.errors import Interval, UtteranceErrors


@dataclass(frozen=True)
class Rate:
    """Word errors of one way on one test set; rates in percent, differences in points."""

    wer: float
    interval: Interval
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int
    to_greedy: float
    to_greedy_interval: Interval

    @classmethod
    def of(cls, errors: UtteranceErrors, greedy: UtteranceErrors) -> Rate:
        """``greedy`` is of the same utterances in the same chunk."""
        lost, interval = errors.difference(greedy)
        return cls(
            wer=errors.wer,
            interval=errors.interval(),
            substitutions=int(errors.substitutions.sum()),
            deletions=int(errors.deletions.sum()),
            insertions=int(errors.insertions.sum()),
            words=int(errors.words.sum()),
            utterances=len(errors.words),
            to_greedy=lost,
            to_greedy_interval=interval,
        )

    @property
    def worse(self) -> bool:
        """Than greedy search, by more than noise."""
        return self.to_greedy_interval.low > 0


@dataclass
class Row:
    """One way of decoding in one chunk."""

    name: str
    chunk: str
    rates: dict[str, Rate] = field(default_factory=dict)  # by test set
    speed: Speed | None = None


@dataclass(frozen=True)
class Report:
    """All rows, chunk by chunk."""

    origin: Origin
    rounds: int
    audio_s: float
    weights: str  # of the language model, in words
    rows: list[Row]

    @property
    def sets(self) -> list[str]:
        """The names of the test sets."""
        return list(self.rows[0].rates)


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    sizes = [
        f"{name}: {rate.utterances} utterances with {rate.words} words"
        for name, rate in report.rows[0].rates.items()
    ]
    yield from (
        "# What the search is worth",
        "",
        "Word errors of greedy search, prefix beam search (beam 10), the second pass over its "
        "n-best texts and a language model, in chunks of so many encoder frames of 40 ms, whole "
        "streams from samples to `Final`.",
        "",
        *report.origin.lines(),
        "",
        "; ".join(sizes) + ".",
        "WER % has substitutions/deletions/insertions after it. `to greedy` is the difference "
        "to greedy search in the same chunk, in points, with the middle 95 % of 10,000 draws of "
        "utterances with replacement (the same draws for both): where that lies above 0, a way "
        "is worse by more than noise.",
    )
    if report.weights:
        yield report.weights
    if report.rounds:
        yield (
            f"Speed: {report.rounds} rounds after one thrown away, in each of which every row "
            f"plays the same {report.audio_s:.0f} s of {report.sets[0]} in turn, in blocks of "
            "50 ms, second pass in the same thread. RTF is work over audio, features to `Final`; "
            "`Final` is the work from the end of the last push to it, median and 95 %; the "
            "largest push is that of the median round."
        )
    yield ""
    titles = ["chunk", "way"]
    for name in report.sets:
        titles += [f"{name}, WER %", "to greedy"]
    titles += ["RTF", "`Final`, ms", "largest push, ms"] if report.rounds else []
    yield from table(titles, map(_cells, report.rows))
    yield from _findings(report)


def _cells(row: Row) -> list[str]:
    cells = [row.chunk, row.name]
    for rate in row.rates.values():
        cells.append(f"{rate.wer:.2f} ({rate.substitutions}/{rate.deletions}/{rate.insertions})")
        low, high = rate.to_greedy_interval.low, rate.to_greedy_interval.high
        greedy = row.name == "greedy"
        cells.append("" if greedy else f"{rate.to_greedy:+.2f} ({low:+.2f} to {high:+.2f})")
    if row.speed is not None:
        cells += [
            f"{row.speed.rtf:.4f}",
            f"{row.speed.final_ms(50):.1f} / {row.speed.final_ms(95):.1f}",
            f"{row.speed.largest_push_ms:.1f}",
        ]
    return cells


def _findings(report: Report) -> Iterator[str]:
    yield "Asked for: the second pass is never worse than greedy search by more than noise."
    second = [row for row in report.rows if "second pass" in row.name]
    worse = [
        f"* {row.name}, chunk {row.chunk}, {name}: {rate.to_greedy:+.2f} points"
        for row in second
        for name, rate in row.rates.items()
        if rate.worse
    ]
    count = sum(len(row.rates) for row in second)
    yield f"Of {count} comparisons, {len(worse)} are worse by more than noise{':' * bool(worse)}"
    yield from (["", *worse] if worse else [])
