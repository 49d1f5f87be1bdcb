"""benchmark.captions.picture with the tiny package."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from benchmark.captions.picture import main
from edge_asr.package.files import Package
from tests import tiny


def test_final_and_open_words_are_in_the_picture(tiny_package: Package, tmp_path: Path) -> None:
    clips = []
    for name, units in {"first": "▁one ▁one ty", "last": "▁two 400 ▁one s 700"}.items():
        clips.append(str(tmp_path / f"{name}.wav"))
        soundfile.write(clips[-1], tiny.tones(units), tiny.RATE)
    picture = tmp_path / "picture.svg"
    assert main([*clips, "-o", str(picture), "--package", str(tiny_package.root)]) == 0
    drawn = picture.read_text().replace("&#160;", " ")
    assert "one onety" in drawn
    assert "two" in drawn
    assert "USB microphone" in drawn


def test_a_missing_file_is_one_line(
    tiny_package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.svg"
    assert main(["nowhere.wav", "-o", str(picture), "--package", str(tiny_package.root)]) == 66
    assert capsys.readouterr().err.count("\n") == 1
    assert not picture.exists()
