"""Packages with every kind of damage: each is refused in one line with exit code 78."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr.errors import PackageError
from edge_asr.package import BUNDLED_PACKAGES, DEFAULT_PACKAGE
from edge_asr.package.files import GOLDEN, PARITY, Package, open_package
from edge_asr.package.writer import NewProgram, write_package
from tests.tiny import MANIFEST, SYMBOLS, sealed, tiny_files, tiny_onnx, write_tiny_package

PROGRAM = "encoder.fp32.onnx"


def refused(root: Path) -> str:
    """The message with which the package in ``root`` is refused, at the latest when it is read."""
    with pytest.raises(PackageError) as caught:
        package = open_package(root)
        package.check_files()
        package.golden()
        package.parity  # noqa: B018
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and len(message) < 600
    assert caught.value.exit_code == 78
    return message


def rewritten(package: Package, change: Callable[[dict[str, Any]], None]) -> None:
    path = package.root / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(sealed(manifest))


def test_a_good_package_opens(tiny_package: Package) -> None:
    tiny_package.check_files()
    assert tiny_package.units.symbols == SYMBOLS
    assert tiny_package.read(tiny_package.program("encoder", "onnx").file) == tiny_onnx()
    assert {"samples", "log_probs_fp32", "text_fp32"} < set(tiny_package.golden())
    assert set(tiny_package.parity) == {PROGRAM}
    assert open_package(os.fspath(tiny_package.root)).manifest == tiny_package.manifest


def test_a_hard_link_is_a_file(tiny_package: Package, tmp_path: Path) -> None:
    os.link(tiny_package.root / PROGRAM, tmp_path / "cache")
    open_package(tiny_package.root).check_files()


def files_of(package: Package) -> list[str]:
    return sorted(path.name for path in package.root.iterdir())


ALL = ["README.md", PROGRAM, "golden.npz", "manifest.json", "parity.json", "units.txt"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("damage", ["missing", "renamed", "empty", "half", "short", "long"])
def test_a_file_of_another_size_is_refused(tiny_package: Package, name: str, damage: str) -> None:
    assert files_of(tiny_package) == ALL
    path = tiny_package.root / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "renamed":
        path.rename(path.with_name("other.bin"))
    else:
        sizes = {
            "empty": b"",
            "half": data[: len(data) // 2],
            "short": data[:-1],
            "long": data + b"\n",
        }
        path.write_bytes(sizes[damage])
    assert str(tiny_package.root) in refused(tiny_package.root)


@pytest.mark.parametrize("name", ALL)
def test_each_flipped_bit_is_found(tiny_package: Package, name: str) -> None:
    path = tiny_package.root / name
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(data), 64):
        path.write_bytes(
            data[:place] + bytes([data[place] ^ 1 << random.integers(8)]) + data[place + 1 :]
        )
        assert name in refused(tiny_package.root)


def test_an_unlisted_file_is_refused(tiny_package: Package) -> None:
    (tiny_package.root / "extra\n\x1b[31m").write_text("")
    assert "not in the manifest" in refused(tiny_package.root)


def test_the_hash_of_another_file_is_refused(tiny_package: Package) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        manifest["programs"][0]["sha256"] = manifest["files"][0]["sha256"]

    rewritten(tiny_package, swap)
    assert "sha256" in refused(tiny_package.root)


def as_link(path: Path, target: Path) -> None:
    shutil.move(path, target)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ALL)
def test_a_link_is_refused_though_its_target_is_right(
    tiny_package: Package, tmp_path: Path, name: str
) -> None:
    as_link(tiny_package.root / name, tmp_path / "outside")
    assert name in refused(tiny_package.root)


@pytest.mark.parametrize("name", ["manifest.json", "units.txt", PROGRAM])
def test_a_link_of_the_listed_size_is_refused(
    tiny_package: Package, tmp_path: Path, name: str
) -> None:
    def shrink(manifest: dict[str, Any]) -> None:
        for entry in (*manifest["files"], *manifest["programs"]):
            if entry["file"] == name:
                entry["bytes"] = len(str(tmp_path / "outside"))  # what lstat says of the link

    rewritten(tiny_package, shrink)
    as_link(tiny_package.root / name, tmp_path / "outside")
    assert "regular file" in refused(tiny_package.root)


@pytest.mark.parametrize("name", ["manifest.json", "units.txt", PROGRAM])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_directory_is_refused_at_once(
    tiny_package: Package, name: str, make: Callable[[Path], None]
) -> None:
    path = tiny_package.root / name
    path.unlink()
    make(path)
    size = path.lstat().st_size

    def fit(manifest: dict[str, Any]) -> None:
        for entry in (*manifest["files"], *manifest["programs"]):
            if entry["file"] == name:
                entry["bytes"] = size

    if name != "manifest.json":
        rewritten(tiny_package, fit)
    assert "regular file" in refused(tiny_package.root)


def test_a_huge_manifest_is_not_read(tiny_package: Package) -> None:
    with open(tiny_package.root / "manifest.json", "ab") as file:
        file.truncate(10 << 30)  # sparse
    assert "at most" in refused(tiny_package.root)


def test_a_file_that_shrinks_after_opening_is_refused(tiny_package: Package) -> None:
    (tiny_package.root / PROGRAM).write_bytes(b"")
    with pytest.raises(PackageError):
        tiny_package.read(PROGRAM)
    with pytest.raises(PackageError):
        tiny_package.read_into(PROGRAM, memoryview(bytearray(len(tiny_onnx()))))


@pytest.mark.parametrize("count", [len(SYMBOLS) - 1, len(SYMBOLS) + 1])
def test_units_that_do_not_fit_the_program_are_refused(tmp_path: Path, count: int) -> None:
    lines = [f"{symbol} {unit}\n" for unit, symbol in enumerate([*SYMBOLS, "▁more"])]
    with pytest.raises(PackageError, match=f"expected {len(SYMBOLS)} units.*found {count}"):
        write_tiny_package(tmp_path / "new", files={"units.txt": "".join(lines[:count]).encode()})


@pytest.mark.parametrize("name", ["units.txt", GOLDEN, PARITY])
def test_a_package_lacks_no_file_that_the_runtime_needs(tiny_package: Package, name: str) -> None:
    def unlist(manifest: dict[str, Any]) -> None:
        manifest["files"] = [entry for entry in manifest["files"] if entry["file"] != name]

    rewritten(tiny_package, unlist)
    (tiny_package.root / name).unlink()
    assert f"does not list '{name}'" in refused(tiny_package.root)


@pytest.mark.parametrize("path", ["", "no-such-package", "nul\0", "line\nbreak", "/dev/null"])
def test_no_package_is_there(path: str) -> None:
    with pytest.raises(PackageError) as caught:
        open_package(path)
    assert str(caught.value).isprintable() and "make export-int8" in str(caught.value)


def test_an_empty_directory_is_no_package(tmp_path: Path) -> None:
    assert "manifest.json" in refused(tmp_path)


def test_a_file_that_is_not_listed_is_not_read(tiny_package: Package) -> None:
    for name in ("../secret", "manifest.json", "nothing"):
        with pytest.raises(PackageError, match="does not list"):
            tiny_package.read(name)


@pytest.mark.parametrize(
    ("role", "backend", "precision"),
    [("decoder", "onnx", None), ("encoder", "executorch", None), ("encoder", "onnx", "int8")],
)
def test_a_program_that_is_not_offered(
    tiny_package: Package, role: str, backend: str, precision: str | None
) -> None:
    offers = "none" if role == "decoder" else "onnx fp32"
    with pytest.raises(PackageError, match=f"offers: {offers}"):
        tiny_package.program(role, backend, precision)


def test_int8_comes_before_fp32(tmp_path: Path) -> None:
    program = tiny_onnx()
    programs = [
        NewProgram("encoder", "onnx", precision, f"encoder.{precision}.onnx", program)
        for precision in ("fp32", "int8")
    ]
    package = write_package(tmp_path / "both", MANIFEST, programs, tiny_files(program))
    assert package.program("encoder", "onnx").precision == "int8"
    assert package.program("encoder", "onnx", "fp32").precision == "fp32"


def test_native_programs_are_taken_where_asked_for(tmp_path: Path) -> None:
    program = tiny_onnx()
    native = ("edge_asr::linear",), "encoder.weights"
    programs = [
        NewProgram("encoder", "onnx", "int8", "encoder.native.onnx", program, *native),
        NewProgram("encoder", "onnx", "int8", "encoder.onnx", program),
    ]
    files = tiny_files(program) | {"encoder.weights": b"weights"}
    package = write_package(tmp_path / "both", MANIFEST, programs, files)
    assert package.program("encoder", "onnx").dispatch == "portable"
    assert package.program("encoder", "onnx", dispatch="native").weights == "encoder.weights"
    memory = bytearray(7)
    package.read_into("encoder.weights", memoryview(memory))
    assert memory == b"weights"
    (package.root / "encoder.weights").write_bytes(b"weight!")
    with pytest.raises(PackageError, match="sha256"):
        package.read_into("encoder.weights", memoryview(memory))


def npz(**arrays: object) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


def zipped(member: bytes, **options: Any) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **options) as archive:
        archive.writestr("samples.npy", member)
    return data.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def claims(shape: str, descr: str = "<f4") -> bytes:
    return zipped(npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}", b"1234"))


def damaged_deflate() -> bytes:
    data = bytearray(zipped(bytes(range(256)) * 9, compression=zipfile.ZIP_DEFLATED))
    data[60:80] = bytes(20)
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(
        zipped(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"1234"))
    )
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    return bytes(data)


BAD_GOLDEN = {
    "empty": b"",
    "not an archive": b"hello",
    "an array, not an archive": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"1234"
    ),
    "an array with an archive behind it": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"1234"
    )
    + npz(samples=np.zeros(1)),
    "pickle": npz(samples=np.array([{}], dtype=object)),
    "header without end": zipped(b"\x93NUMPY\x01\x00\xff\xff{"),
    "header is code": zipped(npy("__import__('os').abort()")),
    "more than there is": claims("(1000,)"),
    "terabytes": claims("(1000000000000,)"),
    "negative": claims("(-1,)"),
    "overflow": claims("(9223372036854775807, 9223372036854775807)"),
    "damaged": damaged_deflate(),
    "encrypted": encrypted(),
    "bomb": zipped(bytes(65 << 20), compression=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("kind", BAD_GOLDEN)
def test_a_bad_golden_archive_with_the_right_hash_is_refused(tmp_path: Path, kind: str) -> None:
    package = write_tiny_package(tmp_path / "new", files={GOLDEN: BAD_GOLDEN[kind]})
    assert GOLDEN in refused(package.root)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"programs": 3}',
        b'{"programs": {"a": 1}}',
        b"\xff",
        b'{"\xff": 1}',
        b'{"a": ' + b"[" * 100_000,
    ],
    ids=range(8),
)
def test_a_bad_certificate_with_the_right_hash_is_refused(tmp_path: Path, text: bytes) -> None:
    package = write_tiny_package(tmp_path / "new", files={PARITY: text})
    assert PARITY in refused(package.root)


def test_the_package_that_comes_along() -> None:
    package = open_package()
    package.check_files()
    manifest = package.manifest
    assert {program.role for program in manifest.programs} == {"encoder", "decoder"}
    sizes = [entry.bytes for entry in (*manifest.programs, *manifest.files)]
    assert sum(sizes) <= 15_000_000, "it is in every wheel and every clone"


def test_packages_of_the_checkout_have_names_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled, larger = tmp_path / "edge_asr" / "packages", tmp_path / "packages"
    for folder in (bundled / "small", larger / "big", larger / "small"):
        write_tiny_package(folder)
    monkeypatch.setattr("edge_asr.package.files.BUNDLED_PACKAGES", bundled)
    monkeypatch.setattr("edge_asr.package.files._LARGER", larger)
    monkeypatch.setattr("edge_asr.package.files._CHECKOUT", tmp_path)
    with pytest.raises(PackageError, match=r"\(small\)"):  # installed: nothing beside it is ours
        open_package("big")
    (tmp_path / "pyproject.toml").touch()
    assert open_package("big").root == larger / "big"
    assert open_package("small").root == bundled / "small"
    with pytest.raises(PackageError, match="big, small"):
        open_package("none")


def test_a_folder_in_the_working_directory_is_a_package_only_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (DEFAULT_PACKAGE, "mine"):
        write_tiny_package(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for given in ((), (DEFAULT_PACKAGE,)):
        assert open_package(*given).root == BUNDLED_PACKAGES / DEFAULT_PACKAGE
    with pytest.raises(PackageError, match=r"^'mine' is no package .*write \./mine$"):
        open_package("mine")
    for path in (
        f"./{DEFAULT_PACKAGE}",
        f"{DEFAULT_PACKAGE}/",
        Path(DEFAULT_PACKAGE),
        Path("mine"),
    ):
        assert open_package(path).root == Path(path)
    monkeypatch.chdir("mine")
    assert open_package(".").root == Path(".")
    # Nor where the bundled package is missing.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edge_asr.package.files.BUNDLED_PACKAGES", tmp_path / "none")
    with pytest.raises(PackageError, match=r"write \./commands-en$"):
        open_package()


def test_a_path_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(DEFAULT_PACKAGE), f"./{DEFAULT_PACKAGE}"):
        with pytest.raises(PackageError, match="neither a directory"):
            open_package(path)
