"""A fourth backend: one file, one record, one lowering.

1. The file: a module in ``edge_asr/backends`` with ``load_method(program, threads)``, which gives a
   ``Method`` of ``edge_asr.backends.program``: what goes in and comes out, and ``run``. Here that
   is ``NumpyMethod``.
2. The record: a ``Backend`` in ``edge_asr/backends/table.py``. Here that is ``RECORD``.
3. The lowering, so that packages have programs for it: a module in ``export`` with
   ``lower(program, interface)``, and its record in ``export/lowerings.py``.

All else reads these records, as the tests below show.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_asr.__main__ import main
from edge_asr.backends import open_decoder
from edge_asr.backends.program import Arrays, Declared
from edge_asr.backends.table import BACKENDS, Backend
from edge_asr.commands.doctor import examine
from edge_asr.errors import BackendError, PackageError
from edge_asr.machine import describe_machine
from edge_asr.package.files import Package
from edge_asr.package.writer import NewProgram, write_package
from edge_asr.programs.loading import choose_program
from edge_asr.streams.recognizer import load
from tests.tiny import (
    BOUNDS,
    DECODER,
    MANIFEST,
    TONES_HZ,
    encode_tones,
    play,
    tiny_files,
    tiny_onnx,
    tones,
)

FILE = "encoder.fp32.tones"
PROGRAM = b"tones"
RECORD = Backend(
    name="fourth",
    title="Fourth",
    module="edge_asr.backends.fourth_runtime",
    install="pip install the-fourth",
    libraries=("pytest",),
)


class NumpyMethod:
    """The encoder of ``tests.tiny`` in numpy, as a backend runs it."""

    def __init__(self, program: bytes) -> None:
        if program != PROGRAM:
            raise BackendError("the fourth refuses the program; export the package again")
        last = Declared("last", "float32", (1, 1, len(TONES_HZ)))
        self.inputs = [
            Declared("feats", "float32", (1, None, 16)),
            Declared("offset", "int64", (1,)),
            last,
        ]
        self.outputs = [Declared("encoder_out"), Declared("log_probs"), Declared("next_last")]

    def run(self, arrays: Arrays) -> Sequence[np.ndarray]:
        feats, _, last = arrays
        return encode_tones(feats, last)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(RECORD.module)
    module.load_method = lambda program, threads: NumpyMethod(program)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, RECORD.module, module)
    monkeypatch.setitem(BACKENDS, RECORD.name, RECORD)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """A package whose only program is for the fourth backend."""
    files = tiny_files(tiny_onnx())
    files["parity.json"] = json.dumps({"programs": {FILE: dict.fromkeys(BOUNDS, 1e-3)}}).encode()
    program = NewProgram("encoder", RECORD.name, "fp32", FILE, PROGRAM)
    return write_package(tmp_path / "packages/fourth-only", MANIFEST, [program], files)


def test_it_runs(package: Package) -> None:
    recognizer = load(package.root)
    assert recognizer.backend == "fourth"
    finals = play(recognizer.stream(), tones("▁one ▁two s"), 16000)
    assert finals[-1].text == "one twos"  # type: ignore[union-attr]


def test_it_is_verified(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(package.root), "--backend", "fourth"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith(f"passed   {FILE}")
    assert "fourth fp32" in line


def test_it_is_inspected(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(package.root)]) == 0
    table = capsys.readouterr().out
    assert "encoder, fourth fp32" in table
    assert "not known" not in table


@pytest.mark.parametrize("command", ["transcribe", "bench"])
def test_help_names_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "onnx, executorch, torchscript or fourth" in said


def test_errors_offer_it(
    package: Package, tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(package.root), "--backend", "fifth"]) == 64
    assert "choose one of: onnx, executorch, torchscript, fourth" in capsys.readouterr().err
    with pytest.raises(PackageError, match="no encoder program for fourth"):
        choose_program(tiny_package, "encoder", "fourth")


def test_the_doctor_looks_for_it(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings() -> dict[str, tuple[str, str]]:
        found = examine(package.root.parent, list)
        return {finding.subject: (finding.found, finding.advice) for finding in found}

    assert findings()["fourth"] == (f"pytest {pytest.__version__}", "")
    assert findings()["fourth-only"][0] == (
        "opens; runs on fourth; takes the portable program "
        "(backend 'fourth' has no native operators; choose another backend)"
    )
    monkeypatch.setitem(sys.modules, "pytest", None)
    missing = findings()
    assert missing["fourth"] == ("pytest not installed", "pip install the-fourth")
    assert missing["fourth-only"][0] == "opens, but needs fourth"


def test_reports_name_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_machine().libraries["pytest"] == pytest.__version__
    monkeypatch.delitem(BACKENDS, RECORD.name)
    assert "pytest" not in describe_machine().libraries


def test_where_it_is_not_installed_that_is_said(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, RECORD.module, None)
    with pytest.raises(BackendError, match=r"'fourth' is not installed .*; run: pip install the-f"):
        load(package.root)


def test_its_programs_are_held_to_the_manifest() -> None:
    with pytest.raises(BackendError, match="the Fourth program does not fit the manifest: inputs"):
        open_decoder("fourth", PROGRAM, DECODER)
