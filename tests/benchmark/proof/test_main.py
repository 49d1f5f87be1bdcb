"""The command: what was found is kept, and the next run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.proof.__main__ import main
from benchmark.proof.bench import NAMES
from tests.paths import DATA


@pytest.mark.slow
def test_a_run_goes_on_where_the_last_one_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.md"
    arguments = [str(DATA / "wenet-moe"), "--work", str(tmp_path / "work"), "--jobs", "1"]
    for count in (len(NAMES), len(NAMES) + 1):
        assert main([*arguments, "--mutants", str(count), "--out", str(out)]) == 0
    (findings,) = (tmp_path / "work").glob("*/findings-*.jsonl")
    assert len(findings.read_text().splitlines()) == len(NAMES) + 1
    text = out.read_text()
    assert f"{len(NAMES) + 1} mutants" in text and all(name in text for name in set(NAMES))
    assert main([str(DATA / "nowhere"), "--work", str(tmp_path / "other")]) != 0
    assert "nowhere" in capsys.readouterr().err
