"""What is said about the processor."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge_asr.machine import (
    cpu_features,
    cpu_model,
    installed,
    parse_cpuinfo,
    peak_memory_bytes,
    python_command,
    python_environment,
)

X86 = """processor\t: 0
model name\t: Fast 9000
flags\t\t: fpu avx2 avx512_vnni

processor\t: 1
model name\t: Fast 9000
"""
ARM = """processor\t: 0
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Small Board 5
"""


def test_x86_has_a_name() -> None:
    facts = parse_cpuinfo(X86)
    assert cpu_model(facts) == "Fast 9000"
    assert cpu_features(facts) == ("avx2", "avx512_vnni")


def test_arm_has_numbers_and_a_board() -> None:
    facts = parse_cpuinfo(ARM)
    assert cpu_model(facts).endswith("part 0xd0b of implementer 0x41, Small Board 5")
    assert cpu_features(facts) == ("asimd", "asimddp")


def test_a_kernel_that_says_nothing() -> None:
    assert cpu_model(parse_cpuinfo("")) != ""
    assert cpu_features({}) == ()


def test_a_library_that_is_not_there() -> None:
    assert installed("no-such-library-of-edge-asr") is None


def test_peak_memory_grows_by_what_is_used() -> None:
    before = peak_memory_bytes()
    used = bytearray(b"x") * (64 << 20)
    after = peak_memory_bytes()
    assert before is not None and after is not None
    assert after >= len(used)


@pytest.mark.parametrize("paths", [None, "", ":", "/nonexistent:"])
def test_a_process_of_python_finds_edge_asr_and_nothing_in_its_working_folder(
    paths: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if paths is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", paths)
    for name in ("numpy", "typing", "edge_asr"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger')\n")
    done = subprocess.run(
        python_command("edge_asr", "--version"),
        cwd=tmp_path, env=python_environment(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert os.environ.get("PYTHONPATH") == paths, "the own environment stays"
