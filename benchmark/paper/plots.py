"""The picture of the report: speed with its floor, bytes, and times WeNet's time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.page import save_svg
from benchmark.paper.report import PaperReport, Row

_COLOURS = {"floor": "#222222", "WeNet": "#b0b0b0", "portable": "#7aa6c2", "native": "#2f6f9f"}


def draw(report: PaperReport, path: Path) -> None:
    """Write the picture of the streaming figures at the fewest threads as SVG."""
    from matplotlib.figure import Figure

    threads = min((row.threads for row in report.rows), default=1)
    rows = [row for row in report.rows if (row.task, row.threads) == ("stream", threads)][::-1]
    figure = Figure(figsize=(13, 1.2 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    _bars(panels[0], rows, [row.rtf for row in rows])
    panels[0].plot(
        [row.floor_s / row.audio_s for row in rows], range(len(rows)), "|",
        color=_COLOURS["floor"], markersize=12, markeredgewidth=2, label="floor",
    )  # fmt: skip
    panels[0].legend(frameon=False)
    panels[0].set_xlabel("RTF, streaming")
    panels[0].set_yticks(range(len(rows)), [f"{row.model}, {row.variant}" for row in rows])
    _bars(panels[1], rows, [row.weight_bytes / 1e6 for row in rows])
    panels[1].set_xlabel("MB of weights read for a chunk")
    compared = [row.wenet or float("nan") for row in rows]
    _bars(panels[2], rows, compared)
    panels[2].axvline(1.0, color=_COLOURS["WeNet"], linewidth=1)
    panels[2].set_xlabel("times the time of WeNet")
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    save_svg(figure, path)


def _bars(panel: Any, rows: list[Row], values: list[float]) -> None:
    colours = [
        next((c for word, c in _COLOURS.items() if word in row.variant), _COLOURS["native"])
        for row in rows
    ]
    panel.barh(range(len(rows)), values, color=colours, height=0.7)
