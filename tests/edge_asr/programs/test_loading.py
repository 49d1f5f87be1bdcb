"""Which program of a package runs here."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_asr.backends import onnx_runtime
from edge_asr.backends.table import BACKENDS
from edge_asr.errors import BackendError, PackageError, UsageError
from edge_asr.native import library
from edge_asr.native.library import Levers
from edge_asr.package.files import Package, open_package
from edge_asr.package.writer import NewProgram, write_package
from edge_asr.programs import loading
from edge_asr.programs.loading import (
    choose_program,
    load_encoder,
    load_operators,
    preferred_dispatch,
    set_levers,
)
from edge_asr.streams.recognizer import load
from tests.edge_asr.native.weights_file import Maker, pack_file
from tests.tiny import MANIFEST, sealed, tiny_files, tiny_onnx

NATIVE = ("edge_asr::linear",), "encoder.weights"


def heavy(backend: str) -> Any:
    """A backend whose library takes seconds to import."""
    return pytest.param(backend, marks=pytest.mark.slow)


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
    pretend_built(monkeypatch, "avx2")
    monkeypatch.setattr(loading, "missing_library", lambda backend: missing)
    return bool(request.param)


def pretend_built(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """All that native programs need, with this kernel."""
    monkeypatch.setattr(loading, "missing_library", lambda backend: None)
    monkeypatch.setattr(loading, "load_operators", lambda backend: None)
    monkeypatch.setattr(library, "library", lambda: None)
    monkeypatch.setattr(library, "running_kernel", lambda: kernel)


def test_portable_is_taken_where_kernels_are_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_built(monkeypatch, library.PLAIN_KERNEL)
    both = package(tmp_path / "a", "int8 portable", "int8 native")
    assert kind_of(both) == "int8 portable"
    assert kind_of(both, dispatch="native") == "int8 native"
    assert kind_of(package(tmp_path / "b", "int8 native")) == "int8 native"
    assert preferred_dispatch("onnx")[1].startswith("no kernel is made for this processor")


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own with the native libraries, to break as the test likes."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    for name in ("kernels", *(backend.operator_library for backend in BACKENDS.values())):
        if library.built(str(name)):
            shutil.copy(library.library_path(str(name)), folder)
    monkeypatch.setattr(library, "FOLDER", folder)
    monkeypatch.setattr(onnx_runtime, "_operators", set())
    library.library.cache_clear()
    yield folder
    library.library.cache_clear()


def is_passed_over(tmp_path: Path, backend: str, why: str) -> None:
    """Native programs of a backend are, and say why to who asks for them."""
    dispatch, reason = preferred_dispatch(backend)
    assert dispatch == "portable" and re.search(why, reason) and reason.endswith("make native")
    if backend == "onnx":
        both = package(tmp_path, "fp32 portable", "fp32 native")
        assert kind_of(both) == kind_of(both, dispatch="portable") == "fp32 portable"
        load_encoder(both, choose_program(both, "encoder"))
        with pytest.raises(BackendError, match=f"needs the native operators, and .*{why}"):
            kind_of(both, dispatch="native")


def test_portable_is_taken_where_the_kernels_cannot_be_opened(
    tmp_path: Path, libraries: Path
) -> None:
    for name in ("kernels", "onnx"):
        (libraries / f"libedge_asr_{name}.so").write_bytes(b"of another system")
    is_passed_over(tmp_path, "onnx", "cannot be opened")


@pytest.mark.parametrize("backend", ["onnx", *map(heavy, ("executorch", "torchscript"))])
def test_portable_is_taken_where_the_operators_cannot_be_opened(
    tmp_path: Path, libraries: Path, backend: str
) -> None:
    if not library.built():
        pytest.skip("the kernels are not built; run: make native")
    name = f"libedge_asr_{BACKENDS[backend].operator_library}.so"
    (libraries / name).write_bytes(b"of another system")
    is_passed_over(tmp_path, backend, name)


@pytest.mark.slow
@pytest.mark.parametrize("abi", ["", "int edge_asr_operators_abi() { return 99; }"])
def test_portable_is_taken_where_the_operators_are_of_another_age(
    tmp_path: Path, libraries: Path, abi: str
) -> None:
    if not library.built() or not (compiler := shutil.which("g++")):
        pytest.skip("no kernels, or no g++ to build other operators with")
    path = libraries / "libedge_asr_onnx.so"
    source = f'extern "C" {{ void* RegisterCustomOps() {{ return nullptr; }} {abi} }}'
    build = [compiler, "-x", "c++", "-", "-shared", "-fPIC", "-o", str(path)]
    subprocess.run(build, input=source, text=True, check=True)
    is_passed_over(tmp_path, "onnx", "onnx.so: of (a version before 1|version 99, 1 is needed);")


def test_a_backend_that_is_not_installed_is_for_who_opens_a_program_to_tell(
    built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(BACKENDS["onnx"], module="edge_asr.backends.no_such_runtime")
    monkeypatch.setitem(BACKENDS, "onnx", gone)
    assert preferred_dispatch("onnx")[0] == ("native" if built else "portable")


def test_the_preferred_dispatch_says_why(built: bool) -> None:
    expected = "native", "kernels run with avx2"
    if not built:
        expected = "portable", f"libedge_asr_onnx.so is not built; {library.BUILD}"
    assert preferred_dispatch("onnx") == expected


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


def newer(package: Package, *changes: dict[str, str]) -> Package:
    """With other fields for its programs, as a newer exporter might write them."""
    path = package.root / "manifest.json"
    fields = json.loads(path.read_text())
    for program, change in zip(fields["programs"], changes, strict=True):
        program |= change
    path.write_bytes(sealed(fields))
    return open_package(package.root)


def test_a_backend_not_known_here_is_passed_over(tmp_path: Path) -> None:
    found = newer(package(tmp_path, "int8 portable", "fp32 portable"), {"backend": "from-2030"}, {})
    assert kind_of(found) == "fp32 portable"
    with pytest.raises(UsageError, match="'from-2030' is unknown; choose one of: onnx, "):
        choose_program(found, "encoder", "from-2030")
    with pytest.raises(UsageError, match="'from-2030' is unknown; choose one of: onnx, "):
        load(found.root, backend="from-2030")


def test_backends_not_known_here_alone_cannot_run(tmp_path: Path) -> None:
    found = newer(package(tmp_path, "int8 portable"), {"backend": "from-2030"})
    with pytest.raises(PackageError, match="for onnx; the package offers: from-2030 int8 portable"):
        load(found.root)


def test_a_precision_not_known_here_is_for_who_asks_for_it(tmp_path: Path) -> None:
    found = newer(package(tmp_path, "int8 portable", "int4 portable"), {"precision": "int2"}, {})
    assert kind_of(found) == "int4 portable"
    assert kind_of(found, precision="int2") == "int2 portable"


def test_a_backend_without_native_operators_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "onnx", replace(BACKENDS["onnx"], operator_library=None))
    assert kind_of(package(tmp_path / "both", "int8 native", "int8 portable")) == "int8 portable"
    found = package(tmp_path / "native", "int8 native")
    with pytest.raises(BackendError) as caught:
        choose_program(found, "encoder")
    assert str(caught.value) == (
        f"{found.root}/encoder.int8.native.onnx: needs the native operators, and backend 'onnx' "
        "has no native operators; choose another backend, or export the package with "
        "--dispatch both"
    )
    with pytest.raises(BackendError, match="'onnx' has no native operators; choose another"):
        load_operators("onnx")


def test_a_portable_program_has_no_levers(tmp_path: Path) -> None:
    found = package(tmp_path, "int8 portable")
    program = choose_program(found, "encoder")
    set_levers(found, program, Levers())
    with pytest.raises(UsageError, match="portable programs have no levers"):
        set_levers(found, program, Levers(top_k=1))


def test_a_program_made_for_other_weights_is_refused(tmp_path: Path) -> None:
    """They may be in memory, for a stream of another package; it must not run with those."""
    if not (library.built() and library.built("onnx")):
        pytest.skip("not built; run: make native")
    maker = Maker(np.random.default_rng(0))
    own, other = (pack_file([maker.linear(8, 8)[0]]) for _ in range(2))
    number = library.weights_id(hashlib.sha256(other).hexdigest())
    program = NewProgram("encoder", "onnx", "int8", "encoder.onnx", linear_onnx(number), *NATIVE)
    for file, message in ((own, "other weights than encoder.weights; export"), (other, "fit the")):
        files = tiny_files(tiny_onnx()) | {"encoder.weights": file}
        found = write_package(tmp_path / message[:3], MANIFEST, [program], files)
        with pytest.raises((PackageError, BackendError), match=message):
            load_encoder(found, found.manifest.programs[0])


@pytest.mark.parametrize("number", [0, 127, 128, 2**63 - 1, -(2**63), -1])
def test_a_number_of_weights_is_found_in_each_backends_program(number: int) -> None:
    assert library.names_weights(b"weights=" + str(number).encode() + b",", number)
    assert library.names_weights(b"__" + struct.pack("<q", number) + b"__", number)
    assert library.names_weights(linear_onnx(number), number)
    assert not library.names_weights(linear_onnx(987_654_321_987), number ^ 1 << 40)


def linear_onnx(number: int) -> bytes:
    """A program with one of our operators, which names these weights."""
    node = helper.make_node("linear", ["x"], ["y"], domain="edge_asr", weights=number, layer=0)
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([node], "one", sides[:1], sides[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("edge_asr", 1)]
    return bytes(helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString())
