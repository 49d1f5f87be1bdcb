"""The golden vectors again, on this machine."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_asr.__main__ import main
from edge_asr.backends.table import BACKENDS
from edge_asr.commands.verification import verify
from edge_asr.errors import PackageError
from edge_asr.package.files import Package, open_package
from edge_asr.package.writer import NewProgram, write_package
from edge_asr.streams.recognizer import load
from tests.tiny import BOUNDS, DECODER, MANIFEST, sealed, tiny_files, tiny_onnx


@pytest.fixture
def two_backends(tmp_path: Path) -> Package:
    """The tiny package, with a program for a backend that refuses it."""
    program = tiny_onnx()
    files = tiny_files(program)
    parity = json.loads(files["parity.json"])
    parity["programs"]["encoder.fp32.pt"] = dict.fromkeys(BOUNDS, 1e-3)
    files["parity.json"] = json.dumps(parity).encode()
    programs = [
        NewProgram("encoder", "onnx", "fp32", "encoder.fp32.onnx", program),
        NewProgram("encoder", "torchscript", "fp32", "encoder.fp32.pt", b"no program"),
        NewProgram("decoder", "onnx", "fp32", "decoder.fp32.onnx", b"no program either"),
    ]
    manifest = msgspec.structs.replace(MANIFEST, decoder=DECODER)
    return write_package(tmp_path / "two", manifest, programs, files)


def without(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(
        BACKENDS[backend],
        module="edge_asr.backends.not_there",
        install=f"pip install the-{backend}",
    )
    monkeypatch.setitem(BACKENDS, backend, missing)


def test_a_whole_package_passes(tiny_package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tiny_package.root)]) == 0
    files, program = capsys.readouterr().out.splitlines()
    assert "all 5 files" in files
    assert program.startswith("passed")
    assert str(tiny_package.golden()["text_fp32"]) in program, "all steps, text included"


def test_a_backend_that_is_missing_is_said_and_the_rest_counts(
    two_backends: Package, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without("torchscript", monkeypatch)
    assert main(["verify", str(two_backends.root)]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines] == ["passed", "not run", "not run"]
    assert "pip install the-torchscript" in lines[1]
    assert "golden vector for decoders" in lines[2]


@pytest.fixture
def newer(two_backends: Package) -> Package:
    """Of which one program is for a backend and of a precision that have no name here."""
    path = two_backends.root / "manifest.json"
    fields = json.loads(path.read_text())
    fields["programs"][1] |= {"backend": "from-2030", "precision": "int2"}
    path.write_bytes(sealed(fields))
    return open_package(two_backends.root)


def test_a_backend_not_known_here_is_said_and_the_rest_counts(
    newer: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(newer.root, second_pass=False).backend == "onnx"
    assert main(["verify", str(newer.root)]) == 0
    _, first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("passed")
    assert second.startswith("not run  encoder.fp32.pt")
    assert "backend 'from-2030' is not known to this edge_asr, so it is not checked" in second


def test_backends_not_known_here_alone_verify_nothing(
    newer: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    path = newer.root / "manifest.json"
    path.write_bytes(sealed(json.loads(path.read_text().replace('"onnx"', '"from-2031"'))))
    assert main(["verify", str(newer.root)]) == 78
    out, err = capsys.readouterr()
    assert out.count("not known to this edge_asr") == 3
    assert "nothing is verified" in err
    assert err.count("\n") == 1


def test_a_backend_not_known_here_cannot_be_asked_for(
    newer: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(newer.root), "--backend", "from-2030"]) == 64
    assert "'from-2030' is unknown; choose one of: onnx, executorch" in capsys.readouterr().err


def test_nothing_run_is_nothing_verified(
    tiny_package: Package, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without("onnx", monkeypatch)
    assert main(["verify", str(tiny_package.root)]) == 78
    assert "nothing is verified" in capsys.readouterr().err


def test_what_loading_does_not_reach_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tiny_onnx()
    files = tiny_files(program)
    with np.load(io.BytesIO(files["golden.npz"])) as archive:
        golden = dict(archive)
    golden["log_probs_fp32"][-1] += 1.0  # whole by its checksums: only running it can tell
    changed = io.BytesIO()
    np.savez(changed, **golden)
    files["golden.npz"] = changed.getvalue()
    programs = [NewProgram("encoder", "onnx", "fp32", "encoder.fp32.onnx", program)]
    package = write_package(tmp_path / "changed", MANIFEST, programs, files)
    load(package.root)
    assert main(["verify", str(package.root)]) == 78
    out, err = capsys.readouterr()
    assert out.splitlines()[1].startswith("failed")
    assert err.startswith("edge-asr: ") and "1 of 1 programs failed" in err


@pytest.mark.slow
def test_a_program_that_its_library_refuses_fails(two_backends: Package) -> None:
    outcomes = {verdict.file: verdict.outcome for verdict in verify(two_backends)}
    assert outcomes["encoder.fp32.onnx"] == "passed"
    assert outcomes["encoder.fp32.pt"] == "failed"


def test_a_backend_that_the_package_lacks(tiny_package: Package) -> None:
    with pytest.raises(PackageError, match="offers: onnx"):
        list(verify(tiny_package, "executorch"))


def test_a_changed_file_is_found_first(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    card = tiny_package.root / "README.md"
    card.write_bytes(card.read_bytes().swapcase())
    open_package(tiny_package.root)  # sizes are right
    assert main(["verify", str(tiny_package.root)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert "README.md" in err
