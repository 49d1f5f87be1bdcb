"""The report: every figure with its floor, the same from its JSON, and a picture."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.paper.report import (
    LimitsRow,
    LoadRow,
    ModelRatio,
    ModelRow,
    PaperReport,
    Row,
    _three,
    figures,
    page,
)
from edge_asr.machine import Machine
from tests.benchmark.paper.reports import read_report

WENET = "WeNet, TorchScript, quantize_dynamic"
OURS = "onnx, native, int8"


def row(variant: str, task: str, threads: int = 1, **changes: object) -> Row:
    plain = Row(
        model="moe-1b", variant=variant, threads=threads, task=task, median_s=0.064, min_s=0.05,
        audio_s=0.64, floor_s=0.048, overlapped_floor_s=0.032, weight_bytes=8.3e8, macs=5.8e9,
        experts_touched=7.9,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


REPORT = PaperReport(
    created="2026-01-02",
    commit="abc1234",
    command="python -m benchmark.paper --wenet wenet",
    scale="paper",
    rounds=5,
    machine=Machine("A Processor", ("avx2",), 4, 2, "Linux", "3.11.7", {"torch": "2.13.0"}),
    limits=(LimitsRow(1, 25e9, 234e9),),
    models=(ModelRow("moe-1b", 1_068_000_000, 1.07e9, {"feed_forward": 3.02e9}),),
    rows=(
        row(WENET, "stream", median_s=0.128),
        row(OURS, "stream", wenet=0.5, wenet_low=0.48, wenet_high=0.55),
        row(OURS, "stream", threads=2),
        row(WENET, "chunk 1", median_s=0.02, experts_touched=2.0),
        row(OURS, "chunk 1", median_s=0.01, wenet=0.5, wenet_low=0.5, wenet_high=0.5),
        row(OURS, "chunk 499", median_s=1.0),
    ),
    loads=(LoadRow("moe-1b", OURS, 1, 1.5, 60_000_000, 10**9, 1_200_000_000, 1.07e9, 0.05),),
    ratios=(ModelRatio("stream", 1, "moe-1b: a", "dense-1b: b", 0.4, 0.39, 0.41),),
    left_out=("executorch: not exported",),
    exports={"moe-1b": {"export_s": 61.0, "export_peak_bytes": 10**10, "engine": "x86"}},
)


def test_json_keeps_everything() -> None:
    kept = figures(REPORT)
    assert read_report(json.dumps(kept)) == REPORT
    assert (kept["rows"][1]["rtf"], kept["rows"][1]["floor_share"]) == (0.1, 0.75)


def test_the_page_has_each_figure_with_its_floor() -> None:
    lines = list(page(REPORT))
    ours = "| moe-1b | onnx, native, int8 | 64.0 | 50.0 | 0.100 | 48.0 | 75% | 830 | 7.9 "
    assert f"{ours}| 0.50 (0.48 to 0.55) |" in lines
    assert f"{ours}|  |" in lines  # at two threads, without WeNet's row
    assert "| moe-1b | onnx, native, int8 | 10.0 (0.50) | 1000 |" in lines
    assert f"| moe-1b | {WENET} | 20.0 |  |" in lines
    assert "| 1 | 25.0 GB/s | 234 G multiply-adds/s |" in lines
    assert "| stream | 1 | moe-1b: a | dense-1b: b | 0.40 (0.39 to 0.41) |" in lines
    assert "| moe-1b | onnx, native, int8 | 1 | 1.50 | 60 | 1000 | 1200 | 1070 | 0.050 |" in lines
    assert "* executorch: not exported" in lines
    titles = [line for line in lines if line.startswith("## ")]
    assert len([title for title in titles if title.endswith("2 threads")]) == 1


def test_every_line_of_a_table_has_its_columns() -> None:
    columns = 0
    for line in list(page(REPORT)):
        if not line.startswith("|"):
            columns = 0
            continue
        columns = columns or line.count("|")
        assert line.count("|") == columns, line


def test_an_empty_report_is_a_page_too(tmp_path: Path) -> None:
    empty = dataclasses.replace(REPORT, rows=(), loads=(), ratios=(), left_out=())
    assert "## Left out" not in list(page(empty))
    assert read_report(json.dumps(figures(empty))) == empty


@given(st.floats(1e-9, 1e9))
def test_three_digits_are_close(value: float) -> None:
    assert float(_three(value)) == pytest.approx(value, rel=0.006)
    assert "e" not in _three(value)
