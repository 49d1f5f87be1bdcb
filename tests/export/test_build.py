"""Every program of a role: which there are, and that native ones with int4 experts are sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edge_asr
from edge_asr.errors import UsageError
from edge_asr.native.library import built
from edge_asr.programs.golden import check_golden
from export.__main__ import main
from export.build import check_dispatches
from quant.__main__ import main as quant_main
from tests.paths import DATA


@pytest.mark.parametrize(
    ("precisions", "dispatches", "missing"),
    [
        (["int8"], ["portable"], None),
        (["int8", "int4"], ["portable", "native"], None),
        (["int4"], ["native"], None),
        (["fp32"], ["portable", "native"], None),
        (["int4"], ["portable"], "int4"),
        (["int8", "int4"], ["portable"], "int4"),
        (["fp32"], ["native"], "fp32"),
    ],
)
def test_a_precision_without_programs_is_refused(
    precisions: Any, dispatches: Any, missing: str | None
) -> None:
    if missing is None:
        check_dispatches(precisions, dispatches)
        return
    with pytest.raises(UsageError, match=missing):
        check_dispatches(precisions, dispatches)


def test_native_programs_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edge_asr.native.library.FOLDER", tmp_path)  # nothing is built there
    checkpoint, out = tmp_path / "nothing", tmp_path / "out"  # nor is this looked at
    options = ["--dispatch", "both", "--backends", "onnx"]
    assert main([str(checkpoint), "-o", str(out), *options]) == 78
    assert "need libedge_asr_kernels.so, which is not built" in capsys.readouterr().err


@pytest.mark.skipif(not built() or not built("torch"), reason="not built; run: make native")
def test_int4_of_a_dense_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--precision", "int4", "--dispatch", "native", "--backends", "onnx"]
    assert main([str(DATA / "wenet-dense"), "-o", str(tmp_path / "out"), *options]) == 78
    assert "experts" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not built() or not built("onnx"), reason="not built; run: make native")
def test_int4_from_checkpoint_and_from_integers(tmp_path: Path) -> None:
    """Both ways give the same bytes, which run, keep the bounds and are smaller."""
    options = ["--backends", "onnx", "--dispatch", "native", "--name", "tiny"]
    source = DATA / "wenet-moe"
    assert quant_main([str(source), "-o", str(tmp_path / "q"), "--precision", "int4"]) == 0
    both, alone = tmp_path / "both", tmp_path / "alone"
    assert main([str(source), "-o", str(both), "--precision", "int8,int4", *options]) == 0
    assert main([str(tmp_path / "q"), "-o", str(alone), "--precision", "int4", *options]) == 0
    for role in ("encoder", "decoder"):
        sizes = [(both / f"{role}.{p}.weights").stat().st_size for p in ("int4", "int8")]
        assert sizes[0] < sizes[1]
        file = f"{role}.int4.weights"
        assert (both / file).read_bytes() == (alone / file).read_bytes()

    parity = json.loads((both / "parity.json").read_text())
    row, bounds = parity["programs"]["encoder.int4.native.onnx"], parity["bounds"]["int4"]
    assert row["max_abs"] <= bounds["max_abs"]
    assert row["mean_abs"] <= row["allowed_mean_abs"] <= bounds["mean_abs"]
    row = parity["programs"]["decoder.int4.native.onnx"]
    assert row["max_abs"] <= parity["decoder_bounds"]["int4"]["max_abs"]

    recognizer = edge_asr.load(both, precision="int4")
    assert recognizer.program.dispatch == "native"
    result = check_golden(recognizer.package, recognizer.encoder, recognizer.program, steps=None)
    assert result.max_abs <= result.bound
    manifest = recognizer.package.manifest
    assert "groups of 32" in manifest.provenance.quantization
    assert {(program.precision, program.group) for program in manifest.programs} == {
        ("int8", None),
        ("int4", 32),
    }
    assert edge_asr.load(both).program.precision == "int8", "int4 is never taken unasked"
