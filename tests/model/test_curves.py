"""Pictures of a training's log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.curves import main, read_log

ROWS = [
    {"step": step, "loss": 100 / step, "wer": {"an4/dev.tsv": 90 - step}}
    for step in (10, 20, 20, 30)  # killed behind the evaluation of step 20
]
ROWS[-1]["wer"]["new/dev.tsv"] = 50  # type: ignore[index]


@pytest.mark.slow
def test_the_picture_has_a_line_per_set_and_is_the_same_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    folders = [str(tmp_path / "first"), str(tmp_path / "second")]
    for out in ("a.svg", "b.svg"):
        assert main([*folders, "-o", str(tmp_path / out)]) == 0
    picture = (tmp_path / "a.svg").read_text()
    assert picture == (tmp_path / "b.svg").read_text()
    assert picture.count("first: an4/dev") == picture.count("second: an4/dev") == 1
    assert picture.count("first: new/dev") == 1
    assert [row["step"] for row in read_log(tmp_path / "first")] == [10, 20, 30]


@pytest.mark.parametrize(("log", "code"), [(None, 66), ("", 78), ("{}\n", 78), ("no json\n", 78)])
def test_no_picture_without_a_log(
    log: str | None, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if log is not None:
        (tmp_path / "log.jsonl").write_text(log)
    assert main([str(tmp_path), "-o", str(tmp_path / "a.svg")]) == code
    said = capsys.readouterr().err
    assert said.startswith("model.curves: ") and said.count("\n") == 1
    assert not (tmp_path / "a.svg").exists()
