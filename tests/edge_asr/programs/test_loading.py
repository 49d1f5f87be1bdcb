"""Which program of a package runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr.errors import BackendError, PackageError, UsageError
from edge_asr.native.library import Levers
from edge_asr.package.files import Package
from edge_asr.package.writer import NewProgram, write_package
from edge_asr.programs import loading
from edge_asr.programs.loading import choose_program, set_levers
from tests.tiny import MANIFEST, tiny_files, tiny_onnx

NATIVE = ("edge_asr::linear",), "encoder.weights"


def package(folder: Path, *kinds: str) -> Package:
    """A package with an ONNX encoder of each kind, as "int8 native"."""
    program = tiny_onnx()
    programs = []
    for kind in kinds:
        precision, dispatch = kind.split()
        file = f"encoder.{precision}.{dispatch}.onnx"
        needs = NATIVE if dispatch == "native" else ()
        programs.append(NewProgram("encoder", "onnx", precision, file, program, *needs))  # type: ignore[arg-type]
    files = tiny_files(program) | {"encoder.weights": b"weights"}
    return write_package(folder / "package", MANIFEST, programs, files)


def kind_of(found: Package, **wish: str) -> str:
    program = choose_program(found, "encoder", **wish)
    return f"{program.precision} {program.dispatch}"


@pytest.fixture(params=[True, False], ids=["built", "not built"])
def built(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    missing = None if request.param else "libedge_asr_onnx.so"
    monkeypatch.setattr(loading, "missing_library", lambda backend: missing)
    return bool(request.param)


def test_native_is_taken_where_it_can_run(tmp_path: Path, built: bool) -> None:
    both = package(tmp_path, "int8 portable", "int8 native")
    assert kind_of(both) == ("int8 native" if built else "int8 portable")
    assert kind_of(both, dispatch="portable") == "int8 portable"


def test_portable_is_taken_where_there_is_nothing_else(tmp_path: Path, built: bool) -> None:
    assert kind_of(package(tmp_path, "int8 portable")) == "int8 portable"


def test_precision_comes_before_dispatch(tmp_path: Path, built: bool) -> None:
    found = package(tmp_path, "int4 native", "fp32 portable")
    assert kind_of(found) == "fp32 portable"  # int4 only for who asks for it


def test_native_alone_needs_the_libraries(tmp_path: Path, built: bool) -> None:
    found = package(tmp_path, "int8 native")
    for wish in ({}, {"dispatch": "native"}):
        if built:
            assert kind_of(found, **wish) == "int8 native"
            continue
        with pytest.raises(BackendError, match=r"onnx\.so is not built; build them"):
            kind_of(found, **wish)


def test_what_is_not_there(tmp_path: Path, built: bool) -> None:
    with pytest.raises(PackageError, match="onnx native; the package offers: onnx int8 portable"):
        kind_of(package(tmp_path, "int8 portable"), dispatch="native")


def test_a_portable_program_has_no_levers(tmp_path: Path) -> None:
    found = package(tmp_path, "int8 portable")
    program = choose_program(found, "encoder")
    set_levers(found, program, Levers())
    with pytest.raises(UsageError, match="portable programs have no levers"):
        set_levers(found, program, Levers(top_k=1))
