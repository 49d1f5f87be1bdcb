"""benchmark.page: a page with its figures and picture, and paths that are wrong before the work."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmark.page import Origin, command_line, page_in, page_path, save_svg, table, write
from edge_asr.errors import OutputError


def test_a_page_has_its_figures_and_its_picture_next_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.md"
    origin = Origin("tiny", "onnx", "int8", "python -m one", shared=False)
    figures = {"origin": origin, "rate": 1 / 3, "worst": math.inf, "times_ms": list(range(101))}
    lines = ["# One", "", *table(["a", "b"], [["1", "2"]])]
    write(lines, figures, out, lambda path: path.write_text("a picture") and None)
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text() == "# One\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    kept = json.loads((tmp_path / "page.json").read_text())
    assert (kept["rate"], kept["worst"]) == (0.333333, "inf")
    assert (kept["times_ms"]["count"], kept["times_ms"]["p95"]) == (101, 95)
    assert kept["origin"]["date"] in origin.measured_on()
    assert (tmp_path / "page.svg").read_text() == "a picture"


def test_without_a_file_the_page_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    write(["# One"], {}, None, lambda path: pytest.fail("nothing to draw for"))
    assert capsys.readouterr().out == "# One\n"


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert page_path(str(out)) == out
    assert list(tmp_path.iterdir()) == []
    out.write_text("before")
    assert page_path(str(out)).read_text() == "before"
    assert page_in(tmp_path / "new" / "folder", "page.md").parent.is_dir()


@pytest.mark.parametrize("wrong", ["none/page.md", "folder", "file/page.md", "a.json", "taken.md"])
def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(OutputError, match="--out"):
        page_path(tmp_path / wrong)
    assert not (tmp_path / "taken.md").exists()
    with pytest.raises(OutputError, match="--out"):
        page_in(tmp_path / "file", "page.md")


def test_commands_have_no_folders_of_this_machine() -> None:
    words = ["/somewhere/pkg", "/data/an4/test.tsv", "--rounds", "3", "-o", "/tmp/page.md"]
    expected = "python -m one pkg an4/test.tsv --rounds 3 -o page.md"
    assert command_line("python -m one", words) == expected


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    (tmp_path / "again").mkdir()
    paths = [tmp_path / "one.svg", tmp_path / "again" / "one.svg"]
    for path in paths:
        figure = Figure()
        figure.subplots().plot([1, 2], [3, 4])
        save_svg(figure, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
