"""``python -m benchmark.proof CHECKPOINT``: exports it, puts one bug at a time into its programs
and weights, and counts which of them ``load``, ``verify`` and the exporter find.

What was found so far is kept in ``--work``, where the next run goes on. The page tells of false
alarms too, where ``python -m benchmark.proof.right`` has left its figures there.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import msgspec

from benchmark.options import page_parser
from benchmark.page import command_line, write
from benchmark.proof.bench import SHARES, Finding, make_reference
from benchmark.proof.report import figures_of, page
from benchmark.proof.right import RightPackage
from benchmark.proof.work import CLIPS, work_folder
from benchmark.proof.workers import open_worker, try_seeds
from edge_asr.exits import errors_as_lines
from edge_asr.machine import describe_machine
from edge_asr.package.files import MANIFEST, Package, open_package
from export.package import export_package
from export.source import ExportConfig

TOGETHER = 10  # mutants that a process tries before it tells

REFERENCES = "references.pickle"


@errors_as_lines("benchmark.proof")
def main(argv: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(argv)
    options.work = work_folder(options.work)
    package = _package(options.checkpoint, options.work, options.jobs)
    findings = {finding.seed: finding for finding in _known(options.work, package)}
    seeds = [seed for seed in range(options.mutants) if seed not in findings]
    with _findings_file(options.work, package).open("a", encoding="utf-8") as file:
        for finding in _try_all(options, package, seeds):
            findings[finding.seed] = finding
            file.write(msgspec.json.encode(finding).decode() + "\n")
            file.flush()
            print(f"\r{len(findings)} of {options.mutants} mutants", end="", file=sys.stderr)
    print(file=sys.stderr)
    right = options.work / "right.json"
    figures = figures_of(
        [findings[seed] for seed in range(options.mutants)],
        msgspec.json.decode(right.read_bytes(), type=list[RightPackage]) if right.exists() else [],
        command_line("python -m benchmark.proof", argv),
        package.manifest.name,
        describe_machine(),
    )
    write(page(figures), figures, options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = page_parser("benchmark.proof", __doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="directory of a checkpoint")
    add("--mutants", type=int, default=2000, help="how many (default: %(default)s)")
    add("--work", type=Path, default=Path("out/proof"), help="folder for what is made and found")
    add("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    return parser


def export_config(checkpoint: Path, out: Path, **changes: object) -> ExportConfig:
    """Everything that ONNX Runtime can run of a checkpoint."""
    usual = {
        "checkpoint": checkpoint, "out": out, "name": checkpoint.resolve().name,
        "roles": ("encoder", "decoder"), "precisions": ("int8", "int4"), "backends": ("onnx",),
        "dispatches": ("portable", "native"), "left_context": 64, "default_chunk": 16,
        "max_chunk": 512, "language": "en", "license": "Apache-2.0", "speech": CLIPS,
        "metrics": {}, "card": None, "replace": True,
    }  # fmt: skip
    return ExportConfig(**(usual | changes))  # type: ignore[arg-type]


def _package(checkpoint: Path, work: Path, jobs: int) -> Package:
    """Made once."""
    out = work / "package"
    if not (out / MANIFEST).is_file():
        export_package(export_config(checkpoint, out), lambda line: print(line, file=sys.stderr))
    package, references = open_package(out), work / REFERENCES
    if not references.is_file():
        precisions = sorted({precision for _, _, precision in SHARES})
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            made = pool.map(partial(make_reference, checkpoint, out), precisions)
            references.write_bytes(pickle.dumps(dict(zip(precisions, made, strict=True))))
    return package


def _findings_file(work: Path, package: Package) -> Path:
    """Findings of another package or of other bugs are of no use."""
    digest = hashlib.sha256((package.root / MANIFEST).read_bytes())
    for name in ("weight_bugs", "tensor_bugs", "graph_bugs", "bench"):
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return work / f"findings-{digest.hexdigest()[:12]}.jsonl"


def _known(work: Path, package: Package) -> Iterator[Finding]:
    file = _findings_file(work, package)
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            yield msgspec.json.decode(line, type=Finding)


def _try_all(options: argparse.Namespace, package: Package, seeds: list[int]) -> Iterator[Finding]:
    """In several processes, each of which opens what it needs."""
    parts = [seeds[i : i + TOGETHER] for i in range(0, len(seeds), TOGETHER)]
    where = (options.checkpoint, package.root, options.work / REFERENCES)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), open_worker, where) as pool:
        for findings in pool.map(try_seeds, parts):
            yield from findings


if __name__ == "__main__":
    sys.exit(main())
