"""How long a package takes to load, in a process that has loaded nothing yet.

``measure_load`` starts this module as a program, which prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from edge_asr.errors import EdgeAsrError, PackageError
from edge_asr.machine import peak_memory_bytes, python_command, python_environment

_LIMIT_S = 300


@dataclass(frozen=True)
class LoadFigures:
    """One load. Files were read before, so they come from memory and not from the disk."""

    import_s: float  # of edge_asr and of the backend's library
    load_s: float  # opening, checksums, and the golden check
    memory_before_bytes: int  # largest resident set when everything is imported
    memory_loaded_bytes: int  # ... and when the package is loaded


def measure_load(
    package: str | os.PathLike[str],
    backend: str,
    precision: str,
    dispatch: str,
    threads: int,
    second_pass: bool = True,
) -> LoadFigures:
    """Load in a fresh process.

    Raises:
        PackageError: it does not load there.
    """
    arguments = [os.path.abspath(package), backend, precision, dispatch, str(threads)]
    arguments += ["second-pass"] * second_pass
    try:
        child = subprocess.run(
            python_command("edge_asr.bench.load", *arguments),
            stdin=subprocess.DEVNULL,
            env=python_environment(),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=True,
        )
        return LoadFigures(**json.loads(child.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise PackageError(f"{package}: does not load in a fresh process: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"{package}: did not load within {_LIMIT_S} s") from error


def _load(
    package: str, backend: str, precision: str, dispatch: str, threads: int, second_pass: bool
) -> LoadFigures:
    import importlib

    began = time.perf_counter()
    from edge_asr.backends import BACKENDS
    from edge_asr.streams.recognizer import load

    importlib.import_module(BACKENDS[backend].module)
    imported = time.perf_counter()
    before = peak_memory_bytes() or 0
    load(
        package,
        backend=backend,
        precision=precision,
        dispatch=dispatch,
        threads=threads,
        second_pass=second_pass,
    )
    loaded = time.perf_counter()
    return LoadFigures(imported - began, loaded - imported, before, peak_memory_bytes() or 0)


if __name__ == "__main__":
    import dataclasses

    _package, _backend, _precision, _dispatch, _threads, *_rest = sys.argv[1:]
    try:
        _figures = _load(_package, _backend, _precision, _dispatch, int(_threads), bool(_rest))
        print(json.dumps(dataclasses.asdict(_figures)))
    except EdgeAsrError as error:
        sys.exit(str(error))
