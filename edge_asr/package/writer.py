"""Write a package whole or not at all."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_asr.errors import OutputError, PackageError
from edge_asr.package.files import MANIFEST, Package, open_package
from edge_asr.package.manifest import (
    BackendName,
    FileEntry,
    Manifest,
    PrecisionName,
    Program,
    Role,
    decode_manifest,
    encode_manifest,
)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class NewProgram(NamedTuple):
    """A program to write; its size and checksum follow from ``data``."""

    role: Role
    backend: BackendName
    precision: PrecisionName
    file: str
    data: bytes
    native_ops: tuple[str, ...] = ()
    weights: str | None = None
    group: int | None = None


def write_package(
    directory: str | os.PathLike[str],
    manifest: Manifest,
    programs: Sequence[NewProgram],
    files: Mapping[str, bytes],
    *,
    replace: bool = False,
) -> Package:
    """Write ``directory`` and open it.

    Everything is written and flushed to the disk in a hidden directory beside it, read back as a
    package, and renamed: a reader sees the whole package or none.

    Args:
        manifest: its ``programs`` and ``files`` are ignored and made from the other arguments.
        files: everything but the programs and the manifest: units, golden.npz, parity.json, ...
        replace: an existing package is replaced instead of refused.

    Raises:
        OutputError: ``directory`` exists, or cannot be written.
        PackageError: what was written is no valid package; nothing is left behind.
    """
    target = Path(directory)
    complete = _complete(manifest, programs, files, str(target))
    contents = {program.file: program.data for program in programs} | dict(files)
    contents[MANIFEST] = encode_manifest(complete)
    if target.exists() and not (replace and (target / MANIFEST).is_file()):
        raise OutputError(f"{target} exists; choose another directory or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Without the name of the package, which may be as long as a name can be.
        staging = Path(tempfile.mkdtemp(prefix=".package.new.", dir=target.parent))
        try:
            _write_files(staging, contents)
            open_package(staging).check_files()
            _rename(staging, target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    return open_package(target)


def _complete(
    manifest: Manifest, programs: Sequence[NewProgram], files: Mapping[str, bytes], where: str
) -> Manifest:
    """``manifest`` with all files listed, held to the rules that a reader holds it to."""
    try:
        complete = msgspec.structs.replace(
            manifest,
            programs=tuple(
                Program(
                    role=program.role,
                    backend=program.backend,
                    precision=program.precision,
                    file=program.file,
                    bytes=len(program.data),
                    sha256=_sha256(program.data),
                    native_ops=program.native_ops,
                    weights=program.weights,
                    group=program.group,
                )
                for program in programs
            ),
            files=tuple(
                FileEntry(file=name, bytes=len(data), sha256=_sha256(data))
                for name, data in sorted(files.items())
            ),
        )
    except ValueError as error:
        raise PackageError(f"{where}: {error}") from error
    return decode_manifest(encode_manifest(complete), where)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_files(directory: Path, contents: Mapping[str, bytes]) -> None:
    directory.chmod(0o755)  # mkdtemp makes it private
    for name, data in contents.items():
        with open(directory / name, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _flush_directory(directory)


def _rename(staging: Path, target: Path) -> None:
    """Put ``staging`` in the place of ``target``; an old package goes away last.

    At each moment there is a package in ``target``, where the system and the file system can
    exchange two names. Elsewhere there is none for a moment, and a kill in it leaves the old one
    under the name ``.package.old.*`` next to it.
    """
    if target.is_dir() and not target.is_symlink() and _exchange(staging, target):
        _flush_directory(target.parent)
        shutil.rmtree(staging, ignore_errors=True)
        return
    old = None
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=".package.old.", dir=target.parent))
        try:
            os.rename(target, old)
        except BaseException:
            old.rmdir()
            raise
    try:
        os.rename(staging, target)
    except BaseException:
        if old is not None:
            os.rename(old, target)
        raise
    try:
        _flush_directory(target.parent)
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; whether that is possible here."""
    try:
        rename = ctypes.CDLL(None).renameat2  # Linux
    except (OSError, AttributeError):
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    failed: int = rename(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
    return not failed


def _flush_directory(directory: Path) -> None:
    """Make the names of a directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
