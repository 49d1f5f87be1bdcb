"""benchmark.shortage: how trials are judged, and a few of them for each backend."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmark.shortage import HANGS, RIGHT, WRONG, limit_memory, main, outcome, row, used_bytes
from edge_asr.backends import BACKENDS
from edge_asr.native import library
from edge_asr.package.files import Package
from tests.paths import DATA

FORKS, POINTS = 15, 10


def test_how_a_trial_ends() -> None:
    assert outcome(lambda: RIGHT) == RIGHT
    assert outcome(lambda: str(1 // 0)) == "ZeroDivisionError"
    assert outcome(lambda: str(time.sleep(60)), limit_s=0.1) == HANGS
    assert outcome(lambda: str(os.kill(os.getpid(), signal.SIGKILL))) == "dies: status 9,"

    def say_and_die() -> str:
        os.write(2, b"terminate called\n  what(): bad_alloc\n")
        os._exit(3)

    assert outcome(say_and_die) == "dies: status 768, what(): bad_alloc"


def test_an_error_without_memory_arrives() -> None:
    def take_all() -> str:
        limit_memory(used_bytes() + (8 << 20))
        pieces = []
        while True:
            pieces.append(bytearray(1 << 12))

    assert outcome(take_all) == "MemoryError"


def test_what_is_bad_is_told_from_errors() -> None:
    ends = [RIGHT, "MemoryError", RIGHT, HANGS, WRONG, "dies: status 6, ", "MemoryError"]
    found = row("onnx", "forks", iter(ends))
    assert (found.trials, found.right, found.errors) == (7, 2, {"MemoryError": 2})
    assert found.bad == {HANGS: 1, WRONG: 1, "dies: status 6, ": 1}


def test_a_package_without_native_programs_is_refused(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_package.root)]) == 64
    assert "has no native encoder; export it" in capsys.readouterr().err
    assert main([str(tiny_package.root), "--forks", "0"]) == 64
    assert "--forks and --points must be 1 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_command_finds_nothing_bad(tmp_path: Path) -> None:
    backends = [name for name, one in BACKENDS.items() if library.built(str(one.operator_library))]
    if not library.built() or not library.built("torch"):
        pytest.skip("not built; run: make native")
    from export.__main__ import main as export  # torch

    package, out = tmp_path / "moe", tmp_path / "shortage.md"
    wanted = ["--roles", "encoder", "--dispatch", "native", "--backends", ",".join(backends)]
    assert export([str(DATA / "wenet-moe"), "-o", str(package), *wanted]) == 0
    limits = ["--forks", str(FORKS), "--points", str(POINTS), "-o", str(out)]
    assert main([str(package), *limits]) == 0
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [one["backend"] for one in rows] == [name for name in backends for _ in range(4)]
    assert [one["trials"] for one in rows] == [FORKS, 64, POINTS, POINTS] * len(backends)
    assert all(one["right"] == one["trials"] for one in rows if one["kind"] in ("forks", "threads"))
    assert sum(one["right"] for one in rows if one["kind"].startswith("RLIMIT")) > 0
