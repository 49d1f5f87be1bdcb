"""Open a package and hand out its bytes, trusting nothing that was not checked.

Most damaged model files load without an error and give wrong answers, so every byte that leaves
this module was compared with the size and SHA-256 in the manifest: the very bytes handed out,
read once. Files are opened without following links and must be regular.

A hard link is allowed: installers link files out of their caches, and a link to a file outside
the package brings in nothing that the manifest does not pin. A checksum proves integrity, not
who made the package: only ``manifest.json`` itself has to come from somebody you trust.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from edge_asr.errors import PackageError
from edge_asr.package import BUNDLED_PACKAGES, DEFAULT_PACKAGE
from edge_asr.package.manifest import (
    BackendName,
    Dispatch,
    FileEntry,
    Manifest,
    Precision,
    Program,
    decode_manifest,
)
from edge_asr.package.stripped import restore
from edge_asr.package.units import Units

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
PARITY = "parity.json"

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_GOLDEN_BYTES = 64 << 20
_READ_BYTES = 1 << 24
# Packages too large for the wheel, in a checkout.
_CHECKOUT = Path(__file__).parents[2]
_LARGER = _CHECKOUT / "packages"
# Which precision is meant where none is asked for; the last are those not known here.
_PREFERRED: dict[str, int] = {"int8": 0, "fp32": 1, "int4": 2}


def open_package(path_or_name: str | os.PathLike[str] = DEFAULT_PACKAGE) -> Package:
    """Open the package in a directory, or the one of that name that came with edge_asr or lies in
    ``packages`` of its checkout.

    Text without a ``/`` is a name and never a directory, so that what lies in the working
    directory does not take the place of a package: write ``./NAME``, or give a ``Path``.

    The manifest, the units and the names and sizes of all files are checked now; contents when
    they are handed out.

    Raises:
        PackageError: there is none, or it is damaged or of another schema version.
    """
    root = _find(path_or_name)
    text = _read_file(root, MANIFEST, None)
    manifest = decode_manifest(text, str(root / MANIFEST))
    entries = _listed(manifest)
    _check_directory(root, entries)
    model = manifest.language_model
    for name in (manifest.units.file, GOLDEN, PARITY, *([model.file] if model else [])):
        if name not in entries:
            raise PackageError(f"{root / MANIFEST}: does not list {name!r}; export it again")
    entry = entries[manifest.units.file]
    units = Units.parse(_read_file(root, entry.file, entry), str(root / entry.file))
    if len(units) != manifest.encoder.vocab_size:
        raise PackageError(
            f"{root / entry.file}: expected {manifest.encoder.vocab_size} units as the manifest's "
            f"vocab_size says, found {len(units)}; export the package again"
        )
    return Package(root, manifest, units)


@dataclass(frozen=True)
class Package:
    """An opened package."""

    root: Path
    manifest: Manifest
    units: Units

    def program(
        self,
        role: str,
        backend: BackendName | str,
        precision: Precision | str | None = None,
        dispatch: Dispatch | str | None = None,
        preferred: Dispatch = "portable",
    ) -> Program:
        """The program for ``role``. Where no precision is asked, int8 before the others; where no
        dispatch is asked, the preferred one if there are both.

        Raises:
            PackageError: there is no such program.
        """
        programs = [program for program in self.manifest.programs if program.role == role]
        fitting = [
            program
            for program in programs
            if program.backend == backend
            and precision in (None, program.precision)
            and dispatch in (None, program.dispatch)
        ]
        if not fitting:
            offered = [f"{p.backend} {p.precision} {p.dispatch}" for p in programs]
            wanted = " ".join(word for word in (backend, precision, dispatch) if word)
            raise PackageError(
                f"{self.root}: no {role} program for {wanted}; the package offers: "
                f"{', '.join(offered) or 'none'}"
            )
        last = len(_PREFERRED)
        return min(
            fitting, key=lambda p: (_PREFERRED.get(p.precision, last), p.dispatch != preferred)
        )

    def read(self, name: str) -> bytes:
        """The checked bytes of a file that the manifest lists.

        Raises:
            PackageError: it is not listed, or is missing, damaged or not a regular file.
        """
        return _read_file(self.root, name, self.entry(name))

    def read_program(self, program: Program) -> bytes:
        """The bytes of a program as its backend reads it, with its integers where these are in a
        file of their own.

        Raises:
            PackageError: see ``read``, or its integers are not in that file.
        """
        data, integers = self.read(program.file), program.cut_out
        if integers is None:
            return data
        digest = self.entry(integers).sha256
        return restore(data, self.read(integers), digest, str(self.root / program.file))

    def read_into(self, name: str, memory: memoryview) -> None:
        """Fill ``memory``, of the size that the manifest says, with the checked bytes of a file.

        Raises:
            PackageError: see ``read``.
        """
        entry = self.entry(name)
        _read_file(self.root, name, entry, memory)

    def entry(self, name: str) -> Program | FileEntry:
        """What the manifest says of a file.

        Raises:
            PackageError: it is not listed.
        """
        entry = _listed(self.manifest).get(name)
        if entry is None:
            raise PackageError(f"{self.root / MANIFEST}: does not list {name!r}; export it again")
        return entry

    def lists(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in _listed(self.manifest)

    def check_files(self) -> None:
        """Read and check every file.

        Raises:
            PackageError: a file is missing or damaged.
        """
        for name in _listed(self.manifest):
            self.read(name)
        for program in self.manifest.programs:
            self.read_program(program)

    def golden(self, name: str = GOLDEN) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a golden vector.

        Of golden.npz: ``samples`` (N,) float32 at the rate of the features, and for every
        precision p ``log_probs_p`` (T', V) float32, ``text_p`` (a 0-d string) and the arrays
        ``steps_..._p`` of ``edge_asr.programs.golden_steps``.

        Raises:
            PackageError: the file is damaged or no such archive.
        """
        where, data = self.root / name, self.read(name)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inflated = sum(member.file_size for member in archive.infolist())
            if inflated > _MAX_GOLDEN_BYTES:
                raise PackageError(f"{where}: unpacks to {inflated} bytes; export it again")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except PackageError:
            raise
        except Exception as error:  # zipfile, zlib and numpy each have several
            raise PackageError(
                f"{where}: not an archive of arrays ({type(error).__name__}); export it again"
            ) from error

    @cached_property
    def parity(self) -> dict[str, dict[str, Any]]:
        """``programs`` of parity.json: what the exporter measured, by program file.

        Raises:
            PackageError: the file is damaged or has no such table.
        """
        where = self.root / PARITY
        try:
            found = msgspec.json.decode(self.read(PARITY), type=dict[str, Any]).get("programs")
            return msgspec.convert(found, dict[str, dict[str, Any]])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise PackageError(f"{where}: 'programs': {error}; export it again") from error


def _find(path_or_name: str | os.PathLike[str]) -> Path:
    text = os.fspath(path_or_name)
    is_folder = os.path.isdir(text)
    if is_folder and not _is_name(path_or_name):
        return Path(text)
    shelves = [BUNDLED_PACKAGES]
    if (_CHECKOUT / "pyproject.toml").is_file():
        shelves.append(_LARGER)
    named = {
        found.parent.name: found.parent
        for shelf in reversed(shelves)  # what came with edge_asr counts first
        for found in sorted(shelf.glob(f"*/{MANIFEST}"))
    }
    if text in named and _is_name(path_or_name):
        return named[text]
    listed = ", ".join(sorted(named)) or "none did"
    if is_folder:
        raise PackageError(
            f"{text!r} is no package that came with edge_asr ({listed}); "
            f"for the directory of that name write ./{text}"
        )
    raise PackageError(
        f"{text!r} is neither a directory nor a package that came with edge_asr "
        f"({listed}); make one with: make export-int8 CKPT=..."
    )


def _is_name(path_or_name: str | os.PathLike[str]) -> bool:
    """Whether a package is looked for by name: text that cannot be anything but one name."""
    if not isinstance(path_or_name, str) or path_or_name in (os.curdir, os.pardir):
        return False
    return os.sep not in path_or_name and not (os.altsep and os.altsep in path_or_name)


def _listed(manifest: Manifest) -> dict[str, Program | FileEntry]:
    entries: list[Program | FileEntry] = [*manifest.programs, *manifest.files]
    return {entry.file: entry for entry in entries}


def _check_directory(root: Path, entries: dict[str, Program | FileEntry]) -> None:
    """Compare names and sizes with the manifest."""
    try:
        with os.scandir(root) as listing:
            found = {e.name: e.stat(follow_symlinks=False).st_size for e in listing}
    except OSError as error:
        raise PackageError(f"{root}: {error.strerror}; make it readable") from error
    if unlisted := sorted(found.keys() - entries.keys() - {MANIFEST}):
        raise PackageError(f"{root}: {unlisted[0]!r} is not in the manifest; remove it")
    for name, entry in entries.items():
        _check_size(root, entry, found.get(name))


def _check_size(root: Path, entry: Program | FileEntry, size: int | None) -> None:
    if size != entry.bytes:
        shown = "no such file" if size is None else f"{size} bytes"
        raise PackageError(
            f"{root / entry.file}: expected {entry.bytes} bytes, found {shown}; "
            "copy or export the package again"
        )


def _read_file(
    root: Path, name: str, entry: Program | FileEntry | None, memory: memoryview | None = None
) -> bytes:
    """The bytes of one file, or of none where they go into ``memory``; checked against ``entry``,
    or but for a cap where there is none."""
    path = root / name
    # NONBLOCK, because opening a pipe would wait for ever. Not every system has these flags.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PackageError(f"{path}: expected a regular file; copy the package again")
            if entry is None and status.st_size > _MAX_MANIFEST_BYTES:
                raise PackageError(
                    f"{path}: expected at most {_MAX_MANIFEST_BYTES} bytes, found "
                    f"{status.st_size}; export the package again"
                )
            if entry is not None:
                _check_size(root, entry, status.st_size)
            data = file.read(status.st_size) if memory is None else b""
            if memory is not None:
                _fill(file, memory)
    except OSError as error:
        raise PackageError(
            f"{path}: {os.strerror(error.errno or 0)}; expected a regular file; "
            "copy or export the package again"
        ) from error
    if entry is not None:
        found = hashlib.sha256(data if memory is None else memory).hexdigest()
        if found != entry.sha256:
            raise PackageError(
                f"{path}: expected sha256 {entry.sha256[:12]}…, found {found[:12]}…; "
                "the file is damaged or was changed: copy or export the package again"
            )
    return data


def _fill(file: BinaryIO, memory: memoryview) -> None:
    """Read until ``memory`` is full or the file ends; its checksum tells which."""
    done = 0
    while done < len(memory):
        count = file.readinto(memory[done : done + _READ_BYTES])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
