"""What listing words did, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmark.page import Origin, table
from benchmark.search.hotword_lists import ListRule, Split, change
from benchmark.streams import PAUSES_S, UTTERANCES

WANTED_FALL = 30.0  # percent of the errors on listed words
ALLOWED_RISE = 2.0  # percent of the errors on all others


@dataclass(frozen=True)
class Sweep:
    """One bonus on all dev sets together."""

    bonus: float
    before: Split
    after: Split


@dataclass(frozen=True)
class Row:
    """One measurement on test."""

    corpus: str
    kind: str  # utterances or streams
    way: str
    chosen_on: str
    before: Split
    after: Split


@dataclass(frozen=True)
class SpeedRow:
    """So many phrases; ratios to none of them, round by round."""

    phrases: int
    rtf: float
    ratios: list[float]
    build_ms: float


@dataclass(frozen=True)
class Report:
    """All of it."""

    origin: Origin
    rule: ListRule
    ctc_weight: float | None
    lists: dict[str, tuple[str, ...]]
    sweep: list[Sweep]
    bonus: float
    rows: list[Row]
    rounds: int
    speed: list[SpeedRow]


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    yield from _introduction(report)
    yield from (f"* {name}: {', '.join(words)}" for name, words in report.lists.items())
    yield ""
    titles = ["bonus (dev)", "errors on listed words", "on others", "on all"]
    before = report.sweep[0].before
    none = ["none", str(before.listed), str(before.others), str(before.listed + before.others)]
    yield from table(titles, [none, *map(_sweep_cells, report.sweep)])
    yield f"Chosen: {report.bonus:g}. With it, on test:"
    yield ""
    titles = ["set", "of", "way", "list from", "listed words", "errors on them", "change"]
    titles += ["other words", "errors on them", "change", ""]
    yield from table(titles, map(_cells, report.rows))
    yield (
        f"Asked for: {WANTED_FALL:g} % fewer errors on listed words or more, on others "
        f"{ALLOWED_RISE:g} % more or fewer."
    )
    if report.speed:
        yield ""
        yield from _speed(report)


def _introduction(report: Report) -> Iterator[str]:
    rule = report.rule
    weight = "the package's" if report.ctc_weight is None else f"{report.ctc_weight:g}"
    letters = f", {rule.min_letters} letters or more" if rule.min_letters > 1 else ""
    yield from (
        "# Hotwords",
        "",
        "Errors on listed words (substituted or deleted, and insertions of them) and on all "
        "others, without and with the list, word by word as jiwer aligns them.",
        "",
        *report.origin.lines(),
        "",
        f"The rule: words that prefix search gets wrong {rule.min_errors} times or more and in "
        f"{100 * rule.min_rate:.0f} % of their occurrences or more{letters}, on utterances that "
        "are not measured: the dev set, or the dev set and the other half of the speakers of the "
        "test set, each half in its turn. The bonus, nats per unit of a phrase, is one for all "
        "sets: the fewest errors on all words of all dev sets together, listed and others. CTC "
        f"weight of the second pass: {weight}. "
        f"Streams are {UTTERANCES} utterances with pauses of {PAUSES_S[0]:g} to {PAUSES_S[1]:g} s.",
        "",
    )


def _speed(report: Report) -> Iterator[str]:
    yield (
        f"Speed with made-up phrases of one to three words, {report.rounds} rounds after one "
        "thrown away, in each of which every row plays the same audio in turn; ratios to no "
        "phrases within a round, median and range. `compiling` is what `set_hotwords` takes."
    )
    yield ""
    yield from table(["phrases", "RTF", "ratio", "compiling, ms"], map(_speed_cells, report.speed))


def _speed_cells(row: SpeedRow) -> list[str]:
    ratio = f"{median(row.ratios):.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})"
    return [str(row.phrases), f"{row.rtf:.4f}", ratio, f"{row.build_ms:.1f}"]


def _sweep_cells(row: Sweep) -> list[str]:
    after = row.after
    counts = after.listed, after.others, after.listed + after.others
    return [f"{row.bonus:g}", *map(str, counts)]


def _cells(row: Row) -> list[str]:
    before, after = row.before, row.after
    fall, rise = change(before.listed, after.listed), change(before.others, after.others)
    kept = fall is not None and fall <= -WANTED_FALL and (rise or 0.0) <= ALLOWED_RISE
    return [
        row.corpus,
        row.kind,
        row.way,
        row.chosen_on,
        str(before.listed_words),
        f"{before.listed} to {after.listed}",
        _percent(fall),
        str(before.other_words),
        f"{before.others} to {after.others}",
        _percent(rise),
        "kept" if kept else "missed",
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f} %"
