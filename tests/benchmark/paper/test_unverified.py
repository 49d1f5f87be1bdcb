"""Packages to measure with open as any other, and are of no other use."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_asr
from benchmark.paper.models import main as write_models
from benchmark.paper.unverified import main
from benchmark.paper.variants import Variant
from benchmark.paper.worker import load
from edge_asr.package.files import open_package


@pytest.mark.slow
def test_a_package_runs_and_is_refused_by_the_runtime(tmp_path: Path) -> None:
    assert write_models(["--work", str(tmp_path), "--scale", "tiny", "--models", "moe-1b"]) == 0
    out = tmp_path / "package"
    options = ["--backends", "onnx", "--dispatch", "portable", "--precision", "int8"]
    assert main([str(tmp_path / "moe-1b"), "--out", str(out), *options]) == 0
    assert {p.role for p in open_package(out).manifest.programs} == {"encoder", "decoder"}
    variant = Variant("moe-1b", backend="onnx", dispatch="portable")
    _, handlers = load(out, variant, 1)
    assert len(handlers["second"]({"count": 1})["times_s"]) == 1
    with pytest.raises(edge_asr.PackageError, match="golden"):
        edge_asr.load(out)
