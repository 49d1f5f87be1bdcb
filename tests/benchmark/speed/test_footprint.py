"""benchmark.speed.footprint with the tiny package."""

from __future__ import annotations

import json

import pytest

from benchmark.speed.footprint import main, rows
from edge_asr.machine import resident_memory_bytes
from edge_asr.package.files import Package


def test_one_program_is_opened_and_stepped(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tiny_package.manifest.programs[0]
    assert main([str(tiny_package.root), "--one", program.file]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["weights_mb"] == program.bytes / 1e6
    assert 0 < found["process_mb"] <= resident_memory_bytes() / 1e6 + 50
    assert found["load_s"] > 0 and found["step_s"] > 0


@pytest.mark.slow
def test_every_encoder_has_a_row(tiny_package: Package) -> None:
    found = list(rows(tiny_package.root))
    programs = [p for p in tiny_package.manifest.programs if p.role == "encoder"]
    assert [row[0] for row in found] == [p.backend for p in programs]
    assert all(row[-1] == "no" for row in found)  # ONNX Runtime, in a process of its own
