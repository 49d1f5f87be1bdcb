"""What the levers cost, as a page and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmark.page import Origin, save_svg, table
from edge_asr.bench.report import ExpertFigures
from edge_asr.native.library import Levers

ALLOWED_LOSS = 0.5  # points of WER that int8 may lose against float32
_MB = 1e6
_MARKS = {"int8 native": "o", "int4": "s"}


@dataclass
class Row:
    """One program with levers. Rates in percent; a test set is named by its recording list."""

    name: str
    levers: Levers
    bytes: int
    wer: dict[str, float] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)
    experts: ExpertFigures | None = None  # on the first test set; None where nothing counts them
    rtf: float | None = None
    work_ratios: list[float] = field(default_factory=list)  # to the first row, round by round
    encoder_ratios: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The levers in words."""
        parts = []
        if self.levers.top_k:
            parts.append(f"top-{self.levers.top_k}")
        if self.levers.max_experts:
            parts.append(f"at most {self.levers.max_experts} experts")
        if self.levers.min_weight:
            parts.append(f"weight >= {self.levers.min_weight:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Report:
    """All rows; the first is what the speed of the others is compared with."""

    origin: Origin
    chunk_ms: int
    rounds: int
    audio_s: float
    rows: list[Row]

    @property
    def sets(self) -> list[str]:
        """The names of the test sets."""
        return list(self.rows[0].wer)


def page(report: Report, picture: str) -> Iterator[str]:
    """The lines of the page; ``picture`` as ``draw`` wrote it."""
    yield from _introduction(report, picture)
    yield from _table(report)
    yield from _findings(report)


def _introduction(report: Report, picture: str) -> Iterator[str]:
    origin = report.origin
    words = " and ".join(f"{report.rows[0].words[name]} words ({name})" for name in report.sets)
    yield from (
        "# What levers cost",
        "",
        "Levers are fewer experts than the model was trained with, set while it runs "
        "(`--levers`), and fewer bits of their weights (`--precision int4`). All are off unless "
        "asked for. The table shows what they cost in word errors, and what they save.",
        "",
        f"{origin.measured_on(('onnxruntime',))}; the package "
        f"`{origin.package}`, {origin.backend}, one thread, streaming in chunks of "
        f"{report.chunk_ms} ms, greedy, without the second pass, no text normalisation, {words}, "
        f"so that one word is {' and '.join(_one_word(report))} points. No retraining. "
        "(Input channels are padded to whole groups of int4 weights, so that in a small model "
        "larger groups need not be fewer bytes.)",
        "",
        *_speed_note(report),
        "```bash",
        "python -m export model/checkpoints/commands-en -o levers --roles encoder \\",
        "  --precision fp32,int8,int4 --dispatch both --backends onnx",
        "python -m export model/checkpoints/commands-en -o levers-g64 --roles encoder \\",
        "  --precision int4 --group 64 --dispatch native --backends onnx",
        "python -m export model/checkpoints/commands-en -o levers-g128 --roles encoder \\",
        "  --precision int4 --group 128 --dispatch native --backends onnx",
        report.origin.command,
        "```",
        "",
        f"![Word errors over experts]({picture})",
        "",
    )


def _speed_note(report: Report) -> Iterator[str]:
    if not report.rounds:
        return
    yield (
        f"Speed: {report.rounds} rounds after one thrown away, in each of which every setting "
        f"plays the same {report.audio_s:.0f} s in turn; ratios to the first row within a round, "
        "their median and range. `encoder` is the program alone, `all` includes features and "
        "search."
    )
    yield (
        "A model of this size stays in the cache of a server processor, so that fewer bytes save "
        "little time here; what they save where memory is the limit, the benchmark of the "
        "paper's sizes measures (`make bench-paper`)."
    )
    if report.origin.shared:
        yield (
            "Others used the machine meanwhile, so ratios are preliminary, and RTFs are not to be "
            "compared with those of other pages."
        )
    yield ""


def _one_word(report: Report) -> Iterator[str]:
    for name in report.sets:
        yield f"{100 / report.rows[0].words[name]:.2f}"


def _table(report: Report) -> Iterator[str]:
    titles = ["program", "levers", "MB", *(f"{name}, WER %" for name in report.sets)]
    titles += ["experts a call", "experts a frame", "RTF", "encoder, ratio", "all, ratio"]
    yield from table(titles, map(_cells, report.rows))


def _cells(row: Row) -> list[str]:
    experts = ["", ""]
    if row.experts:
        experts = [f"{row.experts.per_call:.2f}", f"{row.experts.per_frame:.2f}"]
    cells = [row.name, row.label, f"{row.bytes / _MB:.1f}"]
    cells += [f"{rate:.2f}" for rate in row.wer.values()]
    cells += [*experts, f"{row.rtf:.4f}" if row.rtf else ""]
    return [*cells, _spread(row.encoder_ratios), _spread(row.work_ratios)]


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _findings(report: Report) -> Iterator[str]:
    """What the figures say of what was asked for."""
    plain = {row.name: row for row in report.rows if row.levers == Levers()}
    ours = report.rows[0]
    yield "Points of WER lost, against the first of each pair; asked for where a bound stands:"
    yield ""
    pairs = [("fp32 portable", ours.name, ALLOWED_LOSS), ("int8 portable", ours.name, None)]
    pairs += [(ours.name, name, None) for name in plain if name.startswith("int4")]
    for one, other, bound in pairs:
        if one not in plain or other not in plain:
            continue
        lost = {name: plain[other].wer[name] - plain[one].wer[name] for name in report.sets}
        figures = ", ".join(f"{points:+.2f} ({name})" for name, points in lost.items())
        verdict = ""
        if bound is not None:
            kept = max(lost.values()) <= bound
            verdict = f"; asked for at most {bound:g}: {'kept' if kept else 'missed'}"
        yield f"* {one} to {other}: {figures}{verdict}"


def draw(report: Report, path: Path) -> None:
    """Word errors over experts touched in a call, a panel for each test set, as SVG."""
    from matplotlib.figure import Figure

    rows = [row for row in report.rows if row.experts]
    figure = Figure(figsize=(6.5 * len(report.sets), 5.5), layout="constrained")
    for panel, name in zip(
        figure.subplots(1, len(report.sets), squeeze=False)[0], report.sets, strict=True
    ):
        for prefix, mark in _MARKS.items():
            found = [row for row in rows if row.name.startswith(prefix) and row.experts]
            panel.plot(
                [row.experts.per_call for row in found if row.experts],
                [row.wer[name] for row in found],
                mark, label=f"{prefix.split()[0]} experts", alpha=0.7,
            )  # fmt: skip
        for row in rows:
            if row.experts and (row.label or row.name != "int8 native"):
                where = (row.experts.per_call, row.wer[name])
                # int8 to the right of its marks and int4 to the left, where they meet less.
                small = row.name.startswith("int4")
                panel.annotate(
                    row.label or row.name, where, (-5, -8) if small else (5, 3), fontsize=7,
                    textcoords="offset points", horizontalalignment="right" if small else "left",
                )  # fmt: skip
        panel.axhline(report.rows[0].wer[name], color="#b0b0b0", linewidth=1, zorder=0)
        panel.set_xlabel("experts touched by a call of a layer")
        panel.set_ylabel(f"WER %, {name}")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    save_svg(figure, path)
