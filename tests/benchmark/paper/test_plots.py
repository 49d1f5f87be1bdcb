"""The picture of the report: every program and its floor."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmark.paper.plots import draw
from tests.benchmark.paper.test_report import OURS, REPORT, WENET


def test_the_picture_names_every_program_and_its_floor(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    for folder in (tmp_path, tmp_path / "again"):
        draw(REPORT, folder / "paper.svg")
    text = (tmp_path / "paper.svg").read_text()
    assert text == (tmp_path / "again" / "paper.svg").read_text()
    ElementTree.fromstring(text)
    for expected in (f"moe-1b, {OURS}", f"moe-1b, {WENET}", "floor", "MB of weights"):
        assert expected in text
