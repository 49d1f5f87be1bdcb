"""benchmark.words.agreement on the tiny package, with a second program that is deaf to one unit."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmark.words.agreement import compare, main
from edge_asr.package.writer import NewProgram, write_package
from tests import tiny

TEXTS = {"first.wav": "▁one ▁two", "second.wav": "▁one s"}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    rows = ["path\tseconds\tspeaker\ttext"]
    for name, units in TEXTS.items():
        samples = tiny.tones(units)
        soundfile.write(tmp_path / name, samples, tiny.RATE)
        text = units.replace(" s", "s").replace("▁", "")
        rows.append(f"{name}\t{len(samples) / tiny.RATE:.2f}\tsomebody\t{text}")
    path = tmp_path / "said.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A right fp32 program, and an "int8" one that is deaf to "two"."""
    right = tiny.tiny_onnx()
    files = tiny.tiny_files(right)
    scores, bias = tiny.unit_scores()
    deaf = scores.copy()
    deaf[1] = 0.0
    monkeypatch.setattr(tiny, "unit_scores", lambda: (deaf, bias))
    wrong = tiny.tiny_onnx()
    golden = dict(np.load(io.BytesIO(files["golden.npz"])))
    with np.load(io.BytesIO(tiny.tiny_files(wrong)["golden.npz"])) as other:
        names = [name for name in other.files if name.endswith("_fp32")]
        golden |= {name.replace("_fp32", "_int8"): other[name] for name in names}
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **golden)
    parity = {"encoder.fp32.onnx": dict.fromkeys(tiny.BOUNDS, 1e-3)}
    parity["encoder.int8.onnx"] = parity["encoder.fp32.onnx"]
    files |= {
        "golden.npz": archive.getvalue(),
        "parity.json": json.dumps({"programs": parity}).encode(),
    }
    programs = [
        NewProgram("encoder", "onnx", "fp32", "encoder.fp32.onnx", right),
        NewProgram("encoder", "onnx", "int8", "encoder.int8.onnx", wrong),
    ]
    return write_package(tmp_path / "package", tiny.MANIFEST, programs, files).root


def test_a_program_that_misses_a_word_shows(package: Path, recordings: Path) -> None:
    right, wrong = compare(str(package), [recordings], 640)
    assert (right.precision, right.utterances, right.words) == ("fp32", 2, 3)
    assert (right.wer, right.equal_texts) == (0.0, 100.0)
    assert wrong.precision == "int8"
    assert wrong.wer == pytest.approx(100 / 3)
    assert wrong.equal_texts == 50.0


def test_json_and_table(
    package: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(package), str(recordings), "--json"]) == 0
    assert [row["equal_texts"] for row in json.loads(capsys.readouterr().out)] == [100.0, 50.0]
    assert main([str(package), str(recordings), "--whole"]) == 0
    assert "33.33" in capsys.readouterr().out


def test_a_missing_recording_list_is_one_line(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(package), "nowhere.tsv"]) == 66
    assert capsys.readouterr().err.count("\n") == 1
