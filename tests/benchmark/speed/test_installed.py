"""benchmark.speed.installed with the tiny package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from benchmark.speed import installed
from benchmark.speed.installed import accepted_flips, main
from edge_asr.errors import PackageError
from edge_asr.package.files import Package
from tests.tiny import RATE, tones


def test_no_flip_is_accepted_and_the_package_stays_as_it_was(tiny_package: Package) -> None:
    before = {path.name: path.read_bytes() for path in tiny_package.root.iterdir()}
    assert accepted_flips(tiny_package.root, 50) == 0
    assert before == {path.name: path.read_bytes() for path in tiny_package.root.iterdir()}


def test_a_flip_that_nobody_notices_is_counted(
    tiny_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "_accepts", lambda root, name: name.endswith(".onnx"))
    assert 0 < accepted_flips(tiny_package.root, 50) < 50


def test_a_file_without_captions_is_an_error(tiny_package: Package, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones("800"), RATE)
    with pytest.raises(PackageError, match="wrote nothing"):
        installed.first_caption_s(
            installed.sys.executable, tiny_package.root, tmp_path / "a.wav", None
        )


@pytest.mark.slow
def test_the_page(tiny_package: Package, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones("▁one ▁two"), RATE)
    page = tmp_path / "page.md"
    options = ["--speech", str(tmp_path / "a.wav"), "--rounds", "2", "--flips", "20"]
    assert main([str(tiny_package.root), *options, "-o", str(page)]) == 0
    figures = json.loads(page.with_suffix(".json").read_text())
    assert figures["dispatch"] == "portable" and figures["flips_accepted"] == 0
    assert figures["median"]["load_s"] == pytest.approx(sum(figures["load_s"]) / 2, rel=1e-4)
    assert len(figures["rtf_ratio"]) == len(figures["first_caption_s"]) == 2
    assert "| package, both kinds" in page.read_text()
