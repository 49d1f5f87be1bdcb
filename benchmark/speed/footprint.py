"""``python -m benchmark.speed.footprint PACKAGE``: what it costs to open a package, in seconds and
memory of a fresh process, by backend and dispatch.

Each encoder is opened in an interpreter of its own, which runs one step of silence; ExecuTorch's
twice, through the binding built here and through the one of its own package, which brings torch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.options import add_package
from benchmark.page import table, today
from edge_asr.exits import errors_as_lines
from edge_asr.machine import (
    describe_machine,
    python_command,
    python_environment,
    resident_memory_bytes,
)
from edge_asr.package.files import Package, open_package


def open_one(package: Package, file: str, stock: bool) -> dict[str, float | bool]:
    """Open an encoder, run a step, and say what that took beyond Python and numpy."""
    before, began = resident_memory_bytes(), time.perf_counter()
    from edge_asr.backends import BACKENDS
    from edge_asr.backends.state import zero_state
    from edge_asr.programs import loading

    if stock:
        from edge_asr.backends import executorch_binding

        def refuse(folder: Path) -> None:
            raise ImportError("the package's own binding is asked for")

        executorch_binding.open_native = refuse  # type: ignore[assignment]
    program = next(one for one in package.manifest.programs if one.file == file)
    importlib.import_module(BACKENDS[program.backend].module)
    imported = time.perf_counter()
    encoder = loading.load_encoder(package, program)
    loaded = time.perf_counter()
    spec, bins = package.manifest.encoder, package.manifest.features.num_mel_bins
    feats = np.zeros((1, spec.input_frames(spec.default_chunk), bins), np.float32)
    encoder.step(feats, 0, zero_state(spec))
    weights = package.entry(program.weights).bytes if program.weights else 0
    return {
        "import_s": imported - began,
        "load_s": loaded - imported,
        "step_s": time.perf_counter() - loaded,
        "weights_mb": (program.bytes + weights) / 1e6,
        "memory_mb": (resident_memory_bytes() - before) / 1e6,
        "process_mb": resident_memory_bytes() / 1e6,
        "torch": "torch" in sys.modules,
    }


TITLES = (
    "backend", "program", "program and weights, MB", "import, s", "load, s", "first step, s",
    "memory beyond Python and numpy, MB", "process, MB", "torch",
)  # fmt: skip


def rows(package: str) -> Iterator[tuple[str, ...]]:
    """One for each encoder, with the cells of ``TITLES``."""
    for program in open_package(package).manifest.programs:
        if program.role != "encoder":
            continue
        for stock in (False, True) if program.backend == "executorch" else (False,):
            command = python_command("benchmark.speed.footprint", package)
            command += ["--one", program.file, *(["--stock"] if stock else [])]
            environment = python_environment() | {"PYTHONWARNINGS": "ignore"}
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            found = json.loads(done.stdout)
            yield (
                f"{program.backend}{', its own binding' if stock else ''}",
                f"{program.precision} {program.dispatch}",
                f"{found['weights_mb']:.1f}",
                f"{found['import_s']:.2f}",
                f"{found['load_s']:.2f}",
                f"{found['step_s']:.3f}",
                f"{found['memory_mb']:.0f}",
                f"{found['process_mb']:.0f}",
                "yes" if found["torch"] else "no",
            )


@errors_as_lines("benchmark.speed.footprint")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.speed.footprint", description=__doc__
    )
    add_package(parser)
    parser.add_argument("--one", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--stock", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(open_one(open_package(options.package), options.one, options.stock)))
        return 0
    machine = describe_machine()
    print("\n".join(table(TITLES, rows(options.package))))
    print(f"{machine.cpu}, {machine.system}, {today()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
