"""The packages of the checkout: whole, as small as they are meant to be, and of use."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_asr
from benchmark.words.errors import count_errors
from edge_asr.audio.recordings import read_recordings
from edge_asr.package.files import open_package

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ROOT / "tests" / "data" / "clips.tsv"
MEGABYTES = {"edge_asr/packages/commands-en": 13, "packages/english-small": 40}


def test_there_are_no_others() -> None:
    shelves = [ROOT / "edge_asr" / "packages", ROOT / "packages"]
    found = {path.parent.relative_to(ROOT) for s in shelves for path in s.glob("*/manifest.json")}
    assert found == {Path(name) for name in MEGABYTES}


@pytest.mark.parametrize("name", MEGABYTES)
def test_a_package_is_whole_and_small(name: str) -> None:
    package = open_package(Path(name).name)
    assert package.root == ROOT / name
    package.check_files()
    size = sum(path.stat().st_size for path in package.root.iterdir())
    assert size <= MEGABYTES[name] * 1e6
    card = (package.root / "README.md").read_text(encoding="utf-8")
    origin = ROOT / "model" / "checkpoints" / package.manifest.name / "README.md"
    assert card == origin.read_text(encoding="utf-8")
    assert all(f"## {title}" in card for title in ("Data", "Errors", "Limits"))
    assert package.manifest.license == "Apache-2.0" and package.manifest.metrics


@pytest.mark.parametrize("name", MEGABYTES)
def test_a_package_has_its_integers_once_and_programs_for_every_machine(name: str) -> None:
    package = open_package(ROOT / name)
    for role in ("encoder", "decoder"):
        portable, native = (
            package.program(role, "onnx", "int8", dispatch) for dispatch in ("portable", "native")
        )
        assert portable.weights == native.weights is not None
        weights = package.entry(str(native.weights)).bytes
        assert portable.bytes + native.bytes < 0.7 * weights
        assert len(package.read_program(portable)) > weights


@pytest.mark.slow
def test_english_small_writes_what_it_hears() -> None:
    recognizer = edge_asr.load("english-small")
    assert recognizer.package.manifest.language_model is not None
    said = [row for row in read_recordings(CLIPS) if row.path.parent.name == "an4"]
    texts = []
    for row in said:
        segments = recognizer.transcribe(row.path).segments
        texts.append(" ".join(segment.text for segment in segments))
    # It heard little of what these people say, and its language model expects sentences.
    assert count_errors([row.text for row in said], texts).wer < 60
