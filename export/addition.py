"""Programs for a package that exists: what is in it stays as it is, byte for byte.

So a package gets a decoder without new encoder weights, and what was measured with its encoder
stays true.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_asr.errors import InputMissingError, PackageError, UsageError
from edge_asr.package.files import PARITY, Package, open_package
from edge_asr.package.manifest import BackendName, Dispatch, Manifest, Precision, Role, Strict
from edge_asr.package.writer import NewProgram


def open_base(
    out: Path,
    roles: Sequence[Role],
    precisions: Sequence[Precision],
    backends: Sequence[BackendName],
    dispatches: Sequence[Dispatch],
) -> Package:
    """The package that gets programs of these kinds.

    Raises:
        InputMissingError: there is no such directory.
        PackageError: it is no package, or a damaged one.
        UsageError: it has one of these programs.
    """
    if not out.is_dir():
        raise InputMissingError(f"{out}: no such package to --add to; make it without --add first")
    base = open_package(out)
    base.check_files()
    for program in base.manifest.programs:
        if (
            program.role in roles
            and program.precision in precisions
            and program.backend in backends
            and program.dispatch in dispatches
        ):
            raise UsageError(
                f"{out}: has {program.file} already; ask for other --backends, --precision or "
                "--dispatch, or export the whole package with --replace"
            )
    return base


def open_whole(directory: Path) -> Package:
    """A package to write again with something changed, every file of it checked.

    Raises:
        InputMissingError: there is no such directory.
        PackageError: it is no package, or a damaged one.
    """
    if not directory.is_dir():
        raise InputMissingError(f"{directory}: no such package; export it first")
    package = open_package(directory)
    package.check_files()
    return package


def join_manifests(base: Package, made: Manifest, units: bytes) -> Manifest:
    """The manifest of ``base`` with the decoder's interface of ``made``, its metrics and what is
    new in its provenance. Versions of a library that both name are those of the base.

    Raises:
        PackageError: the two are not of one checkpoint, one set of units or one interface.
    """
    ours = base.manifest
    found, digest = (m.provenance.checkpoint_sha256 for m in (ours, made))
    if found != digest:
        raise PackageError(
            f"{base.root}: was made from a final.pt of sha256 {found[:12]}…, the checkpoint's is "
            f"{digest[:12]}…; add to a package of this checkpoint, or --replace this one"
        )
    digests = ours.provenance.decoder_sha256, made.provenance.decoder_sha256
    if ours.decoder is not None and digests[0] != digests[1]:
        raise PackageError(
            f"{base.root}: its decoders are others than the checkpoint's; --replace the package"
        )
    if base.read(ours.units.file) != units:
        raise PackageError(
            f"{base.root}: its units are not the checkpoint's; --replace the package"
        )
    for name in ("features", "encoder", "units", "decoder"):
        there, here = getattr(ours, name), getattr(made, name)
        if there is not None and there != here:
            raise PackageError(
                f"{base.root}: {name}.{_difference(there, here)}; give the options that it was "
                "made with, or --replace it"
            )
    quantization = (m.provenance.quantization.split("; ") for m in (ours, made))
    return msgspec.structs.replace(
        ours,
        decoder=made.decoder,
        metrics=ours.metrics | made.metrics,
        provenance=msgspec.structs.replace(
            ours.provenance,
            quantization="; ".join(dict.fromkeys(part for parts in quantization for part in parts)),
            versions=made.provenance.versions | ours.provenance.versions,
            decoder_sha256=made.provenance.decoder_sha256,
        ),
    )


def join_programs(base: Package, made: Sequence[NewProgram]) -> list[NewProgram]:
    """The programs of ``base``, then those made now."""
    kept = [
        NewProgram(
            program.role,
            program.backend,
            program.precision,
            program.file,
            base.read(program.file),
            program.native_ops,
            program.weights,
            program.group,
        )
        for program in base.manifest.programs
    ]
    return [*kept, *made]


def join_files(base: Package, made: Mapping[str, bytes]) -> dict[str, bytes]:
    """The other files of ``base`` and those made now.

    Raises:
        PackageError: a file would change under the programs that read it.
    """
    kept = {entry.file: base.read(entry.file) for entry in base.manifest.files}
    for name, data in made.items():
        if kept.get(name, data) != data:
            raise PackageError(
                f"{base.root / name}: programs of the package read it, and those made now would "
                "have another; --replace the package"
            )
    return kept | dict(made)


def join_parity(base: Package, made: Mapping[str, Any]) -> dict[str, Any]:
    """The content of parity.json: what ``base`` says, and what it does not speak of."""
    ours = json.loads(base.read(PARITY))
    return {**made, **ours, "programs": base.parity | made["programs"]}


def _difference(there: Strict, here: Strict) -> str:
    """The first field in which two records differ."""
    for name in there.__struct_fields__:
        values = getattr(there, name), getattr(here, name, None)
        if values[0] != values[1]:
            return f"{name} is {values[0]!r:.60} there and {values[1]!r:.60} here"
    raise AssertionError("equal records")
