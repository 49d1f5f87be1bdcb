"""``python -m benchmark.proof.right CHECKPOINT...``: packages that are right, and whether the
exporter, ``verify`` or ``load`` refuses one: of these checkpoints, and of random networks of many
sizes up to ``--packages``.

Every other package is exported with another kernel, and each is checked with all of them. What is
known so far is kept in ``--work``, where the next run goes on, and the page of ``python -m
benchmark.proof`` tells of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import msgspec
import yaml

from benchmark.proof.judges import refusals
from benchmark.proof.networks import in_words, write_random
from benchmark.proof.work import CLIPS, work_folder
from edge_asr.errors import EdgeAsrError
from edge_asr.exits import errors_as_lines
from edge_asr.native.library import kernels, library
from edge_asr.package.files import Package
from edge_asr.package.manifest import BackendName, Precision, Program
from edge_asr.programs.golden import check_golden
from edge_asr.programs.golden_decoder import check_decoder_golden
from edge_asr.programs.loading import load_decoder, load_encoder
from export.package import export_package
from export.source import ExportConfig
from export.verify import VacuousTextsError


@dataclass(frozen=True)
class RightPackage:
    """A package that is right, and who says that it is not.

    Attributes:
        network: its sizes in words.
        kernels: those it was checked with; it was exported with the first.
        checks: how many judgements were passed on its programs; none of a random network that says
            too little for any to be proven.
        alarms: which of them were refusals, and what they say.
    """

    name: str
    network: str
    backends: tuple[str, ...]
    kernels: tuple[str, ...]
    checks: int
    alarms: tuple[str, ...]


@errors_as_lines("benchmark.proof.right")
def main(argv: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(argv)
    options.work = work_folder(options.work)
    file = options.work / "right.json"
    known = msgspec.json.decode(file.read_bytes(), type=list[RightPackage]) if file.exists() else []
    done = {one.name for one in known}
    for name, checkpoint, seed in _checkpoints(options):
        if sum(one.checks > 0 for one in known) >= options.packages:
            break
        if name in done:
            continue
        backends: tuple[BackendName, ...] = ("onnx", "torchscript")
        if seed is not None and seed < options.executorch:
            backends = (*backends, "executorch")
        known.append(_try(name, checkpoint, options.work / "right", backends, seed))
        file.write_bytes(msgspec.json.encode(known))
        words = list(known[-1].alarms) or ("right" if known[-1].checks else "says too little")
        print(f"{len(known)}: {name}, {words}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark.proof.right", description=__doc__)
    add = parser.add_argument
    add("checkpoints", nargs="*", type=Path, help="directories of trained networks")
    add("--packages", type=int, default=50, help="how many in all (default: %(default)s)")
    add("--executorch", type=int, default=4, metavar="N",
        help="of N random networks programs for ExecuTorch too (default: %(default)s)")  # fmt: skip
    add("--work", type=Path, default=Path("out/proof"), help="folder for what is made and found")
    return parser


def export_config(
    checkpoint: Path,
    out: Path,
    backends: tuple[BackendName, ...],
    precisions: tuple[Precision, ...],
    seed: int,
) -> ExportConfig:
    """An export of everything, with contexts and chunks that differ from package to package."""
    left, chunk = ((64, 16), (32, 8), (16, 4), (48, 12))[seed % 4]
    return ExportConfig(
        checkpoint, out, checkpoint.resolve().name, ("encoder", "decoder"),
        precisions, backends, ("portable", "native"), left, chunk, 64, "en",
        "Apache-2.0", CLIPS, {}, None, replace=True,
    )  # type: ignore[arg-type]  # fmt: skip


def _checkpoints(options: argparse.Namespace) -> Iterator[tuple[str, Path, int | None]]:
    """Names, directories, and the seeds of those that are random."""
    for path in options.checkpoints:
        yield path.resolve().name, path, None
    for seed in count():
        name = f"random-{seed}"
        yield name, write_random(seed, options.work / "right" / name), seed


def _try(
    name: str,
    checkpoint: Path,
    work: Path,
    backends: tuple[BackendName, ...],
    seed: int | None,
) -> RightPackage:
    tree = yaml.safe_load((checkpoint / "train.yaml").read_text(encoding="utf-8"))
    # Random networks in turn with other kernels, precisions, contexts and chunks.
    turn = seed or 0
    able = [kernel for kernel, supported in kernels().items() if supported]
    able = able[turn % len(able) :] + able[: turn % len(able)]
    precisions: tuple[Precision, ...] = (("int8", "int8", "fp32")[turn % 3],)
    if turn % 5 == 4 and "n_expert" in tree["encoder_conf"]:
        precisions = ("int4",)
    right = RightPackage(name, in_words(tree, precisions[0]), backends, tuple(able), 0, ())
    fastest = library().edge_asr_kernel()
    out = work / f"{name}-package"
    try:
        library().edge_asr_set_kernel(able[0].encode())
        config = export_config(checkpoint, out, backends, precisions, turn)
        return _checked(right, export_package(config, lambda line: None))
    except VacuousTextsError:
        return right
    except EdgeAsrError as error:
        return replace(right, checks=1, alarms=(f"export: {error}",))
    finally:
        library().edge_asr_set_kernel(fastest)
        shutil.rmtree(out, ignore_errors=True)


def _checked(right: RightPackage, package: Package) -> RightPackage:
    """After an export that refused no program."""
    checks, alarms = len(package.manifest.programs), []
    for program in package.manifest.programs:
        for kernel in right.kernels if program.dispatch == "native" else right.kernels[:1]:
            library().edge_asr_set_kernel(kernel.encode())
            found = _refusals(package, program)
            checks += 2
            where = f"{package.root}/"
            alarms += [
                f"{judge} with {kernel}: {said.removeprefix(where)}"
                for judge, said in found.items()
            ]
    return replace(right, checks=checks, alarms=tuple(alarms))


def _refusals(package: Package, program: Program) -> dict[str, str]:
    if program.role == "decoder":
        decoder = load_decoder(package, program)
        checks = dict.fromkeys(
            ("load", "verify"), lambda: check_decoder_golden(package, decoder, program)
        )
        return refusals(checks, all_of_them=True)  # type: ignore[arg-type]
    encoder = load_encoder(package, program)
    return refusals(
        {
            "load": lambda: check_golden(package, encoder, program),
            "verify": lambda: check_golden(package, encoder, program, steps=None),
        },
        all_of_them=True,
    )


if __name__ == "__main__":
    sys.exit(main())
