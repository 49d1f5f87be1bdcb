"""Right packages are not refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmark.proof.right import RightPackage, main
from benchmark.proof.work import work_folder


@pytest.mark.slow
def test_a_random_network_is_exported_and_checked_with_every_kernel(tmp_path: Path) -> None:
    arguments = ["--packages", "1", "--executorch", "0", "--work", str(tmp_path)]
    known = RightPackage("random-0", "sizes", ("onnx",), ("avx2",), 1, ())
    file = work_folder(tmp_path) / "right.json"
    file.write_bytes(msgspec.json.encode([known]))
    assert main(arguments) == 0  # known already
    assert main(["--packages", "2", *arguments[2:]]) == 0
    found = msgspec.json.decode(file.read_bytes(), type=list[RightPackage])
    assert [one.name for one in found] == ["random-0", "random-1"]
    assert found[1].alarms == () and found[1].checks > 10
