"""Loading in a fresh process."""

from __future__ import annotations

import pytest

from edge_asr.bench.load import measure_load
from edge_asr.errors import PackageError
from edge_asr.package.files import Package


def test_what_goes_wrong_in_the_fresh_process_is_said(tiny_package: Package) -> None:
    with pytest.raises(PackageError, match="no encoder program for onnx int8"):
        measure_load(tiny_package.root, "onnx", "int8", "portable", 1)
