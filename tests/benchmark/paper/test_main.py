"""The whole benchmark at the tiny scale, and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.paper import __main__ as paper
from benchmark.paper.__main__ import PaperConfig, main
from edge_asr.errors import UsageError
from tests.benchmark.paper.reports import read_report


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "moe-2b"], "--models has 'moe-2b'"),
        (["--threads", "1,none"], "--threads is '1,none'"),
        (["--threads", "0"], "--threads is '0'"),
        (["--rounds", "0"], "--rounds is 0"),
    ],
)
def test_wrong_options(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert said in capsys.readouterr().err


def test_pages_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "file")]
    assert main([*arguments, "--scale", "tiny"]) == 73
    assert not (tmp_path / "work").exists()


def test_the_report_has_the_command_without_the_folders_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[PaperConfig] = []

    def measure(conf: PaperConfig, say: object) -> None:
        asked.append(conf)
        raise UsageError("enough")

    monkeypatch.setattr(paper, "measure", measure)
    arguments = ["--wenet", str(tmp_path / "wenet"), "--threads", "2", "--dispatch", "native"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 64
    (conf,) = asked
    assert conf.command == (
        "python -m benchmark.paper --wenet wenet --threads 2 --dispatch native --out out"
    )
    assert (conf.threads, conf.dispatches, conf.sweep) == ((2,), ("native",), False)
    assert conf.work == Path("out/paper").resolve()


@pytest.mark.slow
def test_everything_at_the_tiny_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--scale", "tiny", "--models", "dense-225m,moe-1b", "--rounds", "2"]
    arguments += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--threads", "1"]) == 0
    assert "give a checkout of it with --wenet" in capsys.readouterr().err
    report = read_report((tmp_path / "out" / "paper.json").read_text())
    streaming = {row.model: row for row in report.rows if row.task == "stream"}
    assert set(streaming) == {"dense-225m", "moe-1b"}
    for row in report.rows:
        assert 0 < row.min_s <= row.median_s
        assert 0 < row.floor_share < 1
    assert streaming["dense-225m"].experts_touched is None
    assert 7 < (streaming["moe-1b"].experts_touched or 0) <= 8
    assert streaming["moe-1b"].weight_bytes > streaming["dense-225m"].weight_bytes
    assert {ratio.task for ratio in report.ratios} >= {"stream", "whole"}
    for load in report.loads:
        assert load.memory_before_bytes < load.memory_loaded_bytes <= load.peak_bytes
    assert (tmp_path / "out" / "paper.svg").stat().st_size > 1000
    assert str(tmp_path) not in (tmp_path / "out" / "paper.md").read_text().split("## Left out")[0]
