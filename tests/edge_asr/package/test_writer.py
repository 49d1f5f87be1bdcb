"""A package is written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_asr.errors import OutputError, PackageError
from edge_asr.package import writer
from edge_asr.package.files import Package, open_package
from edge_asr.package.writer import NewProgram, write_package
from tests.tiny import MANIFEST, tiny_files, tiny_onnx, write_tiny_package

ENCODER = NewProgram("encoder", "onnx", "fp32", "encoder.fp32.onnx", tiny_onnx())
FILES = tiny_files(ENCODER.data)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_what_is_written_is_a_package(tmp_path: Path) -> None:
    package = write_package(tmp_path / "deep" / "new", MANIFEST, [ENCODER], FILES)
    assert contents(package.root).keys() == {"manifest.json", ENCODER.file, *FILES}
    assert [path.name for path in package.root.parent.iterdir()] == ["new"]
    assert package.root.stat().st_mode & 0o777 == 0o755
    assert open_package(package.root).manifest == package.manifest


@pytest.mark.parametrize(
    ("call", "calls_before"),
    [
        ("mkdir", 1),
        ("fsync", 0),
        ("fsync", 5),
        ("open", 5),
        ("rename", 0),
        ("rename", 1),
        ("fsync", 7),
    ],
)
@pytest.mark.parametrize("replace", ["no", "by exchange", "by two renames"])
def test_a_failing_disk_leaves_nothing_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, calls_before: int, replace: str
) -> None:
    target = tmp_path / "home" / "tiny"
    if replace == "by two renames":
        monkeypatch.setattr(writer, "_exchange", lambda one, other: False)
    if replace != "no":
        write_package(target, MANIFEST, [ENCODER], FILES | {"note.md": b"the old one"})
    before = contents(tmp_path)
    real: Callable[..., Any] = getattr(os, call)
    calls = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == calls_before + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, fail)
    failed = False
    try:
        write_package(target, MANIFEST, [ENCODER], FILES, replace=replace != "no")
    except (OutputError, PackageError) as error:  # the latter while it is read back
        assert "No space left" in str(error) and "\n" not in str(error)
        failed = True
    monkeypatch.undo()
    assert failed == (calls > calls_before) or call != "fsync"  # pathlib bears some
    if not failed or contents(tmp_path) != before:
        # All of it, though the disk failed when it was in place already.
        assert contents(target).keys() == {"manifest.json", ENCODER.file, *FILES}
        open_package(target).check_files()
    left = [path.name for path in target.parent.iterdir()] if target.parent.exists() else []
    assert left in ([], ["tiny"])


def test_a_kill_at_any_moment_leaves_a_package(
    tiny_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = 0

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal moments
            moments += 1
            assert (tiny_package.root / "manifest.json").is_file()
            return real(*arguments, **options)

        return call

    for module, names in (
        (os, ("rename", "replace", "fsync", "unlink", "rmdir")),
        (shutil, ("rmtree",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, watched(getattr(module, name)))
    write_package(tiny_package.root, MANIFEST, [ENCODER], FILES | {"note.md": b""}, replace=True)
    assert moments > len(FILES) and "note.md" in contents(tiny_package.root)


def test_a_name_may_be_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    target = tmp_path / ("語" * 85)
    for _ in range(2):
        write_package(target, MANIFEST, [ENCODER], FILES, replace=True)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_package_is_never_replaced(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.md").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    before = contents(tmp_path)
    for name in ("thesis", "file"):
        with pytest.raises(OutputError, match="exists"):
            write_package(tmp_path / name, MANIFEST, [ENCODER], FILES, replace=replace)
    assert contents(tmp_path) == before


def test_a_package_is_replaced_only_when_asked(tiny_package: Package) -> None:
    files = FILES | {"note.md": b"new"}
    with pytest.raises(OutputError, match="exists"):
        write_package(tiny_package.root, MANIFEST, [ENCODER], files)
    assert "note.md" not in contents(tiny_package.root)
    replaced = write_package(tiny_package.root, MANIFEST, [ENCODER], files, replace=True)
    assert replaced.read("note.md") == b"new"
    assert [path.name for path in tiny_package.root.parent.iterdir()] == [tiny_package.root.name]


def test_a_link_to_a_package_is_not_replaced_by_halves(tmp_path: Path) -> None:
    write_tiny_package(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    before = contents(tmp_path)
    with pytest.raises(OutputError):
        write_package(tmp_path / "link", MANIFEST, [ENCODER], FILES, replace=True)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


BAD: dict[str, tuple[list[NewProgram], dict[str, bytes]]] = {
    "name outside": ([ENCODER], FILES | {"../evil.md": b""}),
    "absolute name": ([ENCODER], FILES | {"/tmp/evil.md": b""}),
    "the manifest": ([ENCODER], FILES | {"manifest.json": b"{}"}),
    "one name for two": ([ENCODER], FILES | {ENCODER.file: b"x"}),
    "two programs of one kind": ([ENCODER, ENCODER._replace(file="b.onnx")], FILES),
    "no units": ([ENCODER], {name: FILES[name] for name in FILES if name != "units.txt"}),
    "bad units": ([ENCODER], FILES | {"units.txt": b"a 0\na 1\n"}),
    "program in a folder": ([ENCODER._replace(file="a/b.onnx")], FILES),
    "backend in capitals": ([ENCODER._replace(backend="ONNX")], FILES),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_a_reader_would_refuse_is_not_written(tmp_path: Path, kind: str) -> None:
    programs, files = BAD[kind]
    with pytest.raises(PackageError) as caught:
        write_package(tmp_path / "new", MANIFEST, programs, files)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_a_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    other = msgspec.structs.replace(MANIFEST, schema_version=99)
    with pytest.raises(PackageError, match="schema_version"):
        write_package(tmp_path / "new", other, [ENCODER], FILES)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_package(tmp_path / "file" / "new", MANIFEST, [ENCODER], FILES)
