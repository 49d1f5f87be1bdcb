"""benchmark.speed.levers_report: the page says what was kept, and its picture is repeatable."""

from __future__ import annotations

from pathlib import Path

from benchmark.page import Origin
from benchmark.speed.levers_report import Report, Row, draw, page
from edge_asr.bench.report import ExpertFigures
from edge_asr.native.library import Levers


def report(int8: float, fp32: float) -> Report:
    rows = [
        Row("int8 native", Levers(), 2_000_000, {"an4 test": int8}, {"an4 test": 200}),
        Row("fp32 portable", Levers(), 8_000_000, {"an4 test": fp32}, {"an4 test": 200}),
        Row("int8 native", Levers(2, 0.3, 4), 2_000_000, {"an4 test": 20.0}, {"an4 test": 200}),
    ]
    for row in (rows[0], rows[2]):
        row.experts = ExpertFigures(5.25, 2.0)
    origin = Origin("tiny", "onnx", "int8", "levers", shared=False)
    return Report(origin, 640, 0, 0.0, rows)


def text_of(shown: Report) -> str:
    return "\n".join(page(shown, "levers.svg"))


def test_the_page_says_what_was_kept_and_what_was_missed(tmp_path: Path) -> None:
    text = text_of(report(int8=15.5, fp32=15.0))
    assert "one word is 0.50 points" in text and "+0.50 (an4 test); asked for" in text
    assert "at most 0.5: kept" in text and "Speed" not in text
    assert "missed" in text_of(report(int8=15.51, fp32=15.0))
    assert "| top-2, at most 4 experts, weight >= 0.3 | 2.0 | 20.00 | 5.25 | 2.00 |" in text
    once, again = tmp_path / "levers.svg", tmp_path / "again" / "levers.svg"
    again.parent.mkdir()
    draw(report(15.5, 15.0), once)
    draw(report(15.5, 15.0), again)
    assert once.read_bytes() == again.read_bytes()
