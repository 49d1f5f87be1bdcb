"""``edge-asr verify``: does every program of a package compute here what its exporter saw?

``load`` runs the first steps of the golden vector of one program. This runs all of it, text
included, for every program whose backend is installed, and the checksum of every file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edge_asr.backends.table import BACKENDS, NOT_KNOWN, find_backend
from edge_asr.errors import ConfigError, EdgeAsrError, PackageError
from edge_asr.package import DEFAULT_PACKAGE

if TYPE_CHECKING:
    from edge_asr.package.files import Package
    from edge_asr.package.manifest import Program


@dataclass(frozen=True)
class Verdict:
    """What came of one program. ``detail`` says how close it was, or why not."""

    file: str
    backend: str
    precision: str
    outcome: Literal["passed", "failed", "not run"]
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr verify``."""
    parser.add_argument(
        "package",
        nargs="?",
        default=DEFAULT_PACKAGE,
        help=f"name or directory (default: {DEFAULT_PACKAGE})",
    )
    parser.add_argument("--backend", help="verify only programs of this backend")


def run(arguments: argparse.Namespace) -> int:
    """Verify and print; the exit code.

    Raises:
        EdgeAsrError: a file is damaged, a program failed, or none could be run.
    """
    from edge_asr.console import clean
    from edge_asr.package.files import open_package

    package = open_package(arguments.package)
    package.check_files()
    listed = len(package.manifest.programs) + len(package.manifest.files)
    print(f"{clean(str(package.root))}: all {listed} files are as the manifest says", flush=True)
    verdicts = []
    for verdict in verify(package, arguments.backend):
        kind = f"{verdict.backend} {verdict.precision}"
        detail = clean(verdict.detail)
        print(f"{verdict.outcome:<8} {verdict.file:<24} {kind:<18} {detail}", flush=True)
        verdicts.append(verdict.outcome)
    if failed := verdicts.count("failed"):
        raise PackageError(
            f"{package.root}: {failed} of {len(verdicts)} programs failed; use another backend, "
            "or export the package again"
        )
    if "passed" not in verdicts:
        raise ConfigError(
            f"{package.root}: no program could be run, so nothing is verified; install a backend "
            "as said above"
        )
    return 0


def verify(package: Package, backend: str | None = None) -> Iterator[Verdict]:
    """The verdict on each program, as soon as it is known.

    Args:
        backend: only the programs of this one.

    Raises:
        UsageError: an unknown backend.
        PackageError: the package has no program for it.
    """
    if backend is not None:
        find_backend(backend)
    programs = [p for p in package.manifest.programs if backend in (None, p.backend)]
    if not programs:
        offered = ", ".join(sorted({p.backend for p in package.manifest.programs})) or "none"
        raise PackageError(
            f"{package.root}: has no program for {backend}; the package offers: {offered}"
        )
    for program in programs:
        yield _verdict(package, program)


def _verdict(package: Package, program: Program) -> Verdict:
    from edge_asr.programs.loading import native_obstacle

    def verdict(outcome: Literal["passed", "failed", "not run"], detail: str) -> Verdict:
        return Verdict(program.file, program.backend, program.precision, outcome, detail)

    if program.backend not in BACKENDS:
        unknown = f"backend {program.backend!r} is {NOT_KNOWN}, so it is not checked"
        return verdict("not run", f"{unknown}; install a newer edge_asr")
    obstacle = native_obstacle(program.backend) if program.native_ops else None
    if obstacle:
        return verdict("not run", f"needs native operators, and {obstacle.reason}")
    try:
        found = _check(package, program)
    except EdgeAsrError as error:
        missing = isinstance(error.__cause__, ImportError)  # and not a defect of the program
        # The line already names the file.
        reason = str(error).removeprefix(f"{os.path.join(package.root, program.file)}: ")
        return verdict("not run" if missing else "failed", reason)
    if found is None:
        return verdict("not run", "this package has no golden vector for decoders; export it again")
    return verdict("passed", found)


def _check(package: Package, program: Program) -> str | None:
    """How close a program is to its golden vector; None where it has none.

    Raises:
        EdgeAsrError: it cannot be loaded, or is not close.
    """
    from edge_asr.programs.golden import check_golden
    from edge_asr.programs.golden_decoder import GOLDEN_DECODER, check_decoder_golden
    from edge_asr.programs.loading import load_decoder, load_encoder

    if program.role == "decoder":
        if not package.lists(GOLDEN_DECODER):
            return None
        scored = check_decoder_golden(package, load_decoder(package, program), program)
        assert scored is not None
        return (
            f"{scored.hypotheses} hypotheses within {scored.max_abs:.2g} of {scored.bound:.2g} "
            "allowed"
        )
    found = check_golden(package, load_encoder(package, program), program, steps=None)
    return (
        f"{found.frames} frames within {found.max_abs:.2g} of {found.bound:.2g} allowed, "
        f"text {found.text!r}"
    )
