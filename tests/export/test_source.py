"""What an export takes from a checkpoint."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from export.source import ExportConfig, open_source

CHECKPOINT = Path(__file__).resolve().parents[1] / "data" / "wenet-dense"


def config(checkpoint: Path, out: Path) -> ExportConfig:
    return ExportConfig(
        checkpoint=checkpoint,
        out=out / "package",
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
        speech=out,
        metrics={},
        card=None,
        replace=False,
    )


@pytest.mark.parametrize("separator", ["\t", "  "])
def test_a_package_has_one_space_in_its_units(separator: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, folder)
    units = folder / "units.txt"
    given = units.read_text(encoding="utf-8")
    units.write_text(given.replace(" ", separator), encoding="utf-8")
    source = open_source(config(folder, tmp_path))
    assert source.units_text.decode() == given
    assert len(source.units) == given.count("\n")


@pytest.mark.parametrize("fresh", [True, False])
def test_what_streams_do_after_silence_is_in_the_manifest(fresh: bool, tmp_path: Path) -> None:
    conf = dataclasses.replace(config(CHECKPOINT, tmp_path), fresh_context=fresh)
    assert open_source(conf).manifest("package").fresh_context is fresh
