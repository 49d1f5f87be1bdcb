"""benchmark.speed.soak with the tiny package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from benchmark.speed.soak import main
from edge_asr.package.files import Package
from tests import tiny


def test_rows_follow_the_audio(
    tiny_package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, tiny.tones("▁one ▁two 1300"), tiny.RATE)
    seconds = soundfile.info(clip).duration
    options = ["--minutes", "0.5", "--every-minutes", "0.25", "--package", str(tiny_package.root)]
    assert main([str(clip), *options, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [round(row["minute"], 1) for row in rows] == [0.3, 0.5]
    for row in rows:
        assert row["words"] == pytest.approx(2 * 15 / seconds, abs=3)
        assert row["rss_mib"] > 10 and row["state_kib"] > 0 and row["rtf"] > 0


def test_a_missing_file_is_one_line(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nowhere.wav", "--package", str(tiny_package.root)]) == 66
    assert capsys.readouterr().err.count("\n") == 1
