"""What the benchmark loads: which programs, and why one could not be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.paper.assembly import rows_of
from benchmark.paper.prepare import PreparationError, export_arguments, make_wenet
from benchmark.paper.rounds import WHOLE
from benchmark.paper.unverified import MAX_FRAMES
from benchmark.paper.variants import programs


@pytest.mark.parametrize(
    ("dispatch", "backends", "precisions"),
    [("native", "onnx,executorch", "int8,int4"), ("portable", "onnx", "int8")],
)
def test_packages_hold_the_programs_asked_for(
    tmp_path: Path, dispatch: str, backends: str, precisions: str
) -> None:
    ours = programs("moe-1b", ["onnx", "executorch"], [dispatch], ["int8", "int4"])
    words = export_arguments(tmp_path, tmp_path / "out", ours)
    assert words[words.index("--dispatch") + 1] == dispatch
    assert words[words.index("--backends") + 1] == backends
    assert words[words.index("--precision") + 1] == precisions
    assert MAX_FRAMES >= rows_of(WHOLE)


@pytest.mark.slow
def test_a_preparation_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="no checkout of WeNet"):
        make_wenet(tmp_path, "moe-1b", tmp_path, say=lambda line: None)
