"""The benchmark as a command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edge_asr.__main__ import main
from edge_asr.bench.report import BenchReport
from edge_asr.native import library as native
from edge_asr.package.files import Package

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
def test_a_report_as_json_and_as_a_table(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "--package", str(tiny_package.root), "--runs", "2"]
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert list(found) == [field.name for field in dataclasses.fields(BenchReport)]
    assert (found["package"], found["backend"], found["precision"]) == ("tiny", "onnx", "fp32")
    assert (found["dispatch"], found["kernel"], found["experts"]) == ("portable", None, None)
    assert not any(found["levers"].values())
    assert found["runs"] == 2
    assert found["audio_s"] >= 4.0, "repeated until it is enough"
    assert found["rtf"]["min"] <= found["rtf"]["median"] <= found["rtf"]["max"]
    shares = found["encoder_share"]["max"], found["python_share"]["min"]
    assert sum(shares) == pytest.approx(1)
    assert 0 < shares[0] < 1
    assert found["load"]["memory_before_bytes"] <= found["load"]["memory_loaded_bytes"]
    assert found["endpoint_ms"]["p50"] > 900, (
        "a second of silence, and the speech has 80 ms of tail"
    )
    # The golden samples are one segment without a pause, so each clip ends with a flush.
    assert found["first_partial_ms"]["count"] == found["final_after_flush_ms"]["count"] == 4
    assert found["word_errors"] is None
    assert (found["second_pass"], found["decoder_share"]["max"]) == (False, 0.0), "no decoder here"
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "\nsecond pass      off\n" in table
    for title in ("RTF", "python", "final, endpoint", "memory"):
        assert f"\n{title}" in table


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--runs 0", "--runs is 0; allowed are 1 to 1000"),
        ("--threads 0", "--threads is 0; allowed are 1 to 64"),
        ("--chunk-ms -1", "--chunk-ms is -1; allowed are multiples of 40"),
        ("--recordings a.tsv --audio a.wav", "--recordings and --audio exclude each other"),
    ],
)
def test_what_is_wrong_is_named_as_its_option(
    line: str, part: str, tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--package", str(tiny_package.root), *line.split()]) == 64
    assert capsys.readouterr().err.startswith(f"edge-asr: {part}")


@pytest.fixture(scope="module")
def native_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one of experts, with native and portable programs of its encoder."""
    if not (native.built() and native.built("onnx")):
        pytest.skip("not built; run: make native")
    from export.__main__ import main as export  # torch

    out = tmp_path_factory.mktemp("bench") / "moe"
    options = ["--roles", "encoder", "--backends", "onnx", "--dispatch", "both"]
    assert export([str(ROOT / "tests/data/wenet-moe"), "-o", str(out), *options]) == 0
    return out


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
def test_experts_and_levers_of_native_programs(
    native_package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench(*options: str) -> dict[str, Any]:
        arguments = ["bench", "--package", str(native_package), "--runs", "1", "--json"]
        assert main([*arguments, *options]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    plain = bench()
    assert (plain["dispatch"], plain["levers"]["top_k"]) == ("native", 0)
    assert plain["kernel"] in native.kernels()
    assert plain["experts"]["per_frame"] == 2.0 <= plain["experts"]["per_call"]
    weights = (native_package / "encoder.int8.weights").stat().st_size
    assert weights < plain["program_bytes"] < 2 * weights
    levered = bench("--levers", "top_k=1,max_experts=2")
    assert levered["levers"] == {"top_k": 1, "min_weight": 0.0, "max_experts": 2}
    assert levered["experts"]["per_frame"] == 1.0 <= levered["experts"]["per_call"] <= 2.0
    assert bench()["experts"] == plain["experts"], "levers do not stay"
    portable = bench("--dispatch", "portable")
    assert (portable["kernel"], portable["experts"]) == (None, None)
    # What is refused, whatever the command.
    options = ["--package", str(native_package), "--dispatch", "portable", "--levers", "top_k=1"]
    assert main(["bench", *options]) == 64
    assert main(["transcribe", str(ROOT / "README.md"), *options]) == 64
    assert capsys.readouterr().err.count("portable programs have no levers") == 2
