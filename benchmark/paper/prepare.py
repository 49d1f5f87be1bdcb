"""Makes what the benchmark loads, each in a process of its own that gives its memory back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.paper.rounds import Say
from benchmark.paper.variants import Variant, package_folder, wenet_file
from edge_asr.errors import EdgeAsrError
from edge_asr.machine import python_command, python_environment

_ROOT = Path(__file__).resolve().parents[2]


class PreparationError(EdgeAsrError):
    """A checkpoint, package or export that could not be made."""


def make_model(work: Path, scale: str, model: str, say: Say) -> None:
    """The random checkpoint of a model, if the folder lacks it.

    Raises:
        PreparationError: it could not be made.
    """
    if not (work / model).exists():
        say(f"writing the random checkpoint {model}")
        arguments = ["--work", str(work), "--scale", scale, "--models", model]
        _run("benchmark.paper.models", arguments)


def make_wenet(work: Path, model: str, wenet: Path, say: Say) -> dict[str, Any]:
    """WeNet's scripted model, if the folder lacks it; what exporting took.

    Raises:
        PreparationError: it could not be made.
    """
    out = wenet_file(work, model)
    facts = out.with_suffix(".json")
    if not (out.exists() and facts.exists()):
        say(f"exporting {model} with WeNet")
        arguments = ["export", str(work / model), str(out), "--wenet", str(wenet)]
        facts.write_text(_run("benchmark.paper.wenet_today", arguments).splitlines()[-1] + "\n")
    figures: dict[str, Any] = json.loads(facts.read_text())
    return figures


def make_package(work: Path, programs: Sequence[Variant], say: Say) -> None:
    """Our package of some programs of one model and dispatch, if the folder lacks it or has one
    with other programs.

    Raises:
        PreparationError: it could not be made.
    """
    model, dispatch = programs[0].model, programs[0].dispatch
    out = package_folder(work, model, dispatch)
    arguments = export_arguments(work / model, out, programs)
    # What is in a package follows from these, and one with other programs is made again.
    made_with = out.with_suffix(".json")
    known = json.loads(made_with.read_text()) if made_with.exists() else None
    if not out.exists() or known != arguments:
        say(f"exporting the {dispatch} programs of {model} with edge_asr")
        _run("benchmark.paper.unverified", arguments)
        made_with.write_text(json.dumps(arguments) + "\n")


def export_arguments(checkpoint: Path, out: Path, programs: Sequence[Variant]) -> list[str]:
    """The arguments of ``python -m benchmark.paper.unverified``."""
    backends = dict.fromkeys(variant.backend for variant in programs)
    precisions = dict.fromkeys(variant.precision for variant in programs)
    arguments = [str(checkpoint), "--out", str(out), "--backends", ",".join(backends)]
    return [*arguments, "--dispatch", programs[0].dispatch, "--precision", ",".join(precisions)]


def _run(module: str, arguments: Sequence[str]) -> str:
    """Standard output of ``python -m module``."""
    result = subprocess.run(
        python_command(module, *arguments),
        cwd=_ROOT,
        env=python_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        said = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise PreparationError(f"python -m {module} {' '.join(arguments)}: {said}")
    return result.stdout
