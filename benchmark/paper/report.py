"""What the benchmark found, as JSON and as a page: every figure with its floor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmark.page import table
from edge_asr.machine import Machine

REPORT_VERSION = 1
SWEPT = "chunk "  # how the names of these tasks begin
_TASKS = {
    "stream": "Streaming: encoder and CTC head, chunks of 16 frames (640 ms) after 64",
    "whole": "Whole utterance: encoder and CTC head, 20 s in one call",
    "second": "Second pass: both decoders, 10 hypotheses of 30 units over 10 s",
}


@dataclass(frozen=True)
class Row:
    """One task of one variant. ``floor_share`` is the floor over the median; ``wenet`` this time
    over WeNet's in the same rounds."""

    model: str
    variant: str
    threads: int
    task: str
    median_s: float
    min_s: float
    audio_s: float
    floor_s: float
    overlapped_floor_s: float
    weight_bytes: float
    macs: float
    experts_touched: float | None  # in the mean of the expert layers
    wenet: float | None = None
    wenet_low: float | None = None
    wenet_high: float | None = None

    @property
    def rtf(self) -> float:
        """Processing time over audio time."""
        return self.median_s / self.audio_s

    @property
    def floor_share(self) -> float:
        """1 where the call is as fast as the machine can be."""
        return self.floor_s / self.median_s


@dataclass(frozen=True)
class LoadRow:
    """Loading one variant, and its memory when everything was done."""

    model: str
    variant: str
    threads: int
    load_s: float
    memory_before_bytes: int
    memory_loaded_bytes: int
    peak_bytes: int
    weight_bytes: float  # of everything that the variant loads
    difference: float | None  # mean difference of its log_probs from WeNet's, first chunk


@dataclass(frozen=True)
class ModelRatio:
    """Two variants of different models, in the same rounds."""

    task: str
    threads: int
    variant: str
    beside: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelRow:
    """One model."""

    name: str
    parameters: int
    int8_bytes: float
    chunk_macs: dict[str, float]  # by kind of part


@dataclass(frozen=True)
class LimitsRow:
    """The machine, at a number of threads."""

    threads: int
    read_bytes_per_s: float
    int8_macs_per_s: float


@dataclass(frozen=True)
class PaperReport:
    """Speed, loading and memory of every program, the limits of the machine, and what was left
    out and why."""

    created: str
    commit: str
    command: str
    scale: str
    rounds: int
    machine: Machine
    limits: tuple[LimitsRow, ...]
    models: tuple[ModelRow, ...]
    rows: tuple[Row, ...]
    loads: tuple[LoadRow, ...]
    ratios: tuple[ModelRatio, ...]
    left_out: tuple[str, ...]
    exports: dict[str, dict[str, Any]] = field(default_factory=dict)
    report_version: int = REPORT_VERSION


def figures(report: PaperReport) -> dict[str, Any]:
    """What JSON keeps: the fields, and each row's RTF and share of the floor."""
    fields = dataclasses.asdict(report)
    for row, shown in zip(report.rows, fields["rows"], strict=True):
        shown |= {"rtf": row.rtf, "floor_share": row.floor_share}
    return fields


def page(report: PaperReport) -> Iterator[str]:
    """The lines of the page, with a link to the picture next to it."""
    yield from (
        "# Models of the paper's sizes",
        "",
        "Random weights, int8, the same checkpoint for every program. A floor is the least time "
        "that this machine can take: for each layer the larger of weight bytes over read bandwidth "
        "and multiply-adds over int8 peak ([formulas](../../benchmark/paper/floors.py)). Programs "
        f"ran in turns, {report.rounds} rounds; medians, and ratios within a round.",
        "",
        f"* {report.machine.cpu}, {report.machine.usable_cores} of {report.machine.cores} cores, "
        f"{' '.join(report.machine.cpu_features)}; {report.machine.system}",
        f"* {report.created}, commit {report.commit}; "
        + ", ".join(f"{name} {version}" for name, version in report.machine.libraries.items()),
        f"* `{report.command}`",
        "",
        "![Speed, compared with its floor](paper.svg)",
        "",
    )
    yield from _limits(report)
    threads = sorted({row.threads for row in report.rows})
    for count in threads:
        for task in _TASKS:
            yield from _task(report, task, count)
        yield from _sweep(report, count)
    yield from _ratios(report)
    yield from _loads(report)
    if report.left_out:
        yield from ("## Left out", "", *(f"* {reason}" for reason in report.left_out), "")


def _limits(report: PaperReport) -> Iterator[str]:
    yield from table(
        ("threads", "read bandwidth", "int8 peak"),
        (
            (
                str(limits.threads),
                f"{limits.read_bytes_per_s / 1e9:.1f} GB/s",
                f"{limits.int8_macs_per_s / 1e9:.0f} G multiply-adds/s",
            )
            for limits in report.limits
        ),
    )
    yield from table(
        ("model", "parameters", "int8 weights", "multiply-adds of a chunk"),
        (
            (
                model.name,
                f"{_three(model.parameters / 1e6)} M",
                f"{_three(model.int8_bytes / 1e6)} MB",
                ", ".join(f"{kind} {_three(n / 1e9)} G" for kind, n in model.chunk_macs.items()),
            )
            for model in report.models
        ),
    )


def _task(report: PaperReport, task: str, threads: int) -> Iterator[str]:
    rows = [row for row in report.rows if (row.task, row.threads) == (task, threads)]
    if not rows:
        return
    yield from (f"## {_TASKS[task]}, {_threads(threads)}", "")
    titles = ("model", "program", "median ms", "min ms", "RTF", "floor ms", "of the floor",
              "MB read", "experts touched", "times WeNet's time")  # fmt: skip
    yield from table(titles, map(_task_cells, rows))


def _task_cells(row: Row) -> tuple[str, ...]:
    touched = "" if row.experts_touched is None else f"{row.experts_touched:.1f}"
    return (
        row.model, row.variant, _ms(row.median_s), _ms(row.min_s), f"{row.rtf:.3f}",
        _ms(row.floor_s), f"{row.floor_share:.0%}", _three(row.weight_bytes / 1e6), touched,
        _range(row),
    )  # fmt: skip


def _sweep(report: PaperReport, threads: int) -> Iterator[str]:
    """Medians by the size of the chunk, and how many times WeNet's time they are."""
    rows = [r for r in report.rows if r.task.startswith(SWEPT) and r.threads == threads]
    if not rows:
        return
    sizes = list(dict.fromkeys(row.task for row in rows))
    yield f"## Streaming by frames of a chunk, median ms (times WeNet's time), {_threads(threads)}"
    yield ""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        times = "" if row.wenet is None else f" ({row.wenet:.2f})"
        cells.setdefault((row.model, row.variant), {})[row.task] = f"{_ms(row.median_s)}{times}"
    yield from table(
        ("model", "program", *(size.removeprefix(SWEPT) for size in sizes)),
        ((*name, *(found.get(size, "") for size in sizes)) for name, found in cells.items()),
    )


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _ms(seconds: float) -> str:
    return _three(seconds * 1e3)


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    if not 0 < value < 100:
        return f"{value:.0f}"
    return f"{value:.{2 - math.floor(math.log10(value))}f}"


def _range(row: Row) -> str:
    if row.wenet is None or row.wenet_low is None or row.wenet_high is None:
        return ""
    return f"{row.wenet:.2f} ({row.wenet_low:.2f} to {row.wenet_high:.2f})"


def _ratios(report: PaperReport) -> Iterator[str]:
    if not report.ratios:
        return
    yield from ("## Models compared with one another", "")
    yield from table(
        ("task", "threads", "", "compared with", "times"),
        (
            (
                ratio.task, str(ratio.threads), ratio.variant, ratio.beside,
                f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
            )
            for ratio in report.ratios
        ),
    )  # fmt: skip


def _loads(report: PaperReport) -> Iterator[str]:
    yield from (
        "## Loading and memory",
        "",
        "Memory is the largest resident set: with libraries, after loading, and after everything. "
        "The difference is of the log-probabilities of the first chunk from WeNet's, in the mean.",
        "",
    )
    titles = ("model", "program", "threads", "load s", "before MB", "loaded MB", "peak MB",
              "weights MB", "difference")  # fmt: skip
    yield from table(titles, map(_load_cells, report.loads))
    for model, export in report.exports.items():
        yield (
            f"WeNet's export of {model}: {export['export_s']:.0f} s, at most "
            f"{export['export_peak_bytes'] / 1e6:.0f} MB, engine {export['engine']}."
        )
        yield ""


def _load_cells(row: LoadRow) -> tuple[str, ...]:
    sizes = (row.memory_before_bytes, row.memory_loaded_bytes, row.peak_bytes, row.weight_bytes)
    difference = "" if row.difference is None else f"{row.difference:.3f}"
    megabytes = (f"{size / 1e6:.0f}" for size in sizes)
    return (row.model, row.variant, str(row.threads), f"{row.load_s:.2f}", *megabytes, difference)
