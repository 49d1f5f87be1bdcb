"""What an export takes from a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.source import ExportConfig, open_source

CHECKPOINT = Path(__file__).resolve().parents[1] / "data" / "wenet-dense"


@pytest.mark.parametrize("separator", ["\t", "  "])
def test_a_package_has_one_space_in_its_units(separator: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, folder)
    units = folder / "units.txt"
    given = units.read_text(encoding="utf-8")
    units.write_text(given.replace(" ", separator), encoding="utf-8")
    conf = ExportConfig(
        checkpoint=folder,
        out=tmp_path / "package",
        name="package",
        roles=("encoder",),
        precisions=("fp32",),
        backends=("onnx",),
        dispatches=("portable",),
        left_context=16,
        default_chunk=16,
        max_chunk=16,
        language="en",
        license="none",
        speech=tmp_path,
        metrics={},
        card=None,
        replace=False,
    )
    source = open_source(conf)
    assert source.units_text.decode() == given
    assert len(source.units) == given.count("\n")
