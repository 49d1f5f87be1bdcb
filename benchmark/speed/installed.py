"""``python -m benchmark.speed.installed PACKAGE -o PAGE``: what a package costs as it is installed.

The programs that are taken where nothing is asked for, next to the portable ones.

Every figure is of fresh processes, which take turns; ratios are of neighbours in time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmark.options import add_package, add_shared, page_parser
from benchmark.page import Origin, command_line, table, write
from edge_asr.errors import EdgeAsrError, PackageError, UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.package.files import Package, open_package
from edge_asr.streams.recognizer import load

DISPATCHES = (None, "portable")  # what is taken where nothing is asked, and the other
FLOOR = "import numpy, onnxruntime"


@dataclass(frozen=True)
class Installed:
    """The figures, one of each round where they are lists."""

    origin: Origin
    dispatch: str  # what is taken by default
    kernel: str | None
    bytes: int
    rtf: list[float]
    rtf_portable: list[float]
    rtf_ratio: list[float]
    python_share: list[float]
    load_s: list[float]
    load_portable_s: list[float]
    first_caption_s: list[float]
    first_caption_portable_s: list[float]
    floor_s: list[float]  # Python, numpy and ONNX Runtime alone
    memory_mb: list[float]
    memory_portable_mb: list[float]
    flips: int
    flips_accepted: int

    def as_json(self) -> dict[str, Any]:
        """With the median of each list, which documents quote."""
        fields = dataclasses.asdict(self)
        lists = {name: value for name, value in fields.items() if isinstance(value, list)}
        return fields | {"median": {name: median(values) for name, values in lists.items()}}


def bench(python: str, package: Path, dispatch: str | None) -> dict[str, Any]:
    """``edge-asr bench`` in a process of its own."""
    command = [python, "-P", "-m", "edge_asr", "bench", "--package", str(package), "--json"]
    command += ["--dispatch", dispatch] if dispatch else []
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def first_caption_s(python: str, package: Path, speech: Path, dispatch: str | None) -> float:
    """From the start of a process to its first caption of a file."""
    command = [python, "-P", "-m", "edge_asr", "transcribe", str(speech), "--package", str(package)]
    command += ["--dispatch", dispatch] if dispatch else []
    return _until_output_s(command)


def _until_output_s(command: Sequence[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        process.stdout.read()
    if process.returncode or not line.strip():
        raise PackageError(f"{' '.join(command)} wrote nothing")
    return took


def accepted_flips(root: Path, count: int, seed: int = 0) -> int:
    """How many of ``count`` single flipped bits, spread over all bytes of a package, nobody
    notices."""
    random, accepted = np.random.default_rng(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "package"
        shutil.copytree(root, copy)
        files = sorted(copy.iterdir())
        ends = np.cumsum([path.stat().st_size for path in files])
        for place in random.integers(0, ends[-1], count):
            index = int(np.searchsorted(ends, place, side="right"))
            path, at = files[index], int(place - (ends[index - 1] if index else 0))
            with _flipped(path, at, int(random.integers(8))):
                accepted += _accepts(copy, path.name)
    return accepted


@contextlib.contextmanager
def _flipped(path: Path, at: int, bit: int) -> Iterator[None]:
    """A file with one bit the other way round, for a while."""
    _flip(path, at, bit)
    try:
        yield
    finally:
        _flip(path, at, bit)


def _flip(path: Path, at: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def _accepts(root: Path, name: str) -> bool:
    try:
        package = open_package(root)
        if package.lists(name):
            package.read(name)
    except EdgeAsrError:
        return False
    return True


def measure(options: argparse.Namespace, command: str) -> Installed:
    """All figures.

    Raises:
        EdgeAsrError: the package cannot be loaded, or the recording gives no caption.
    """
    if options.rounds < 1:
        raise UsageError("--rounds must be 1 or more")
    package = open_package(options.package)
    python, root = options.python, package.root.resolve()
    found: dict[str, list[dict[str, Any]]] = {"default": [], "portable": []}
    captions: dict[str, list[float]] = {"default": [], "portable": []}
    floors = []
    for number in range(options.rounds + 1):
        keep = number > 0  # the first fills caches
        for name, dispatch in zip(found, DISPATCHES, strict=True):
            figures = bench(python, root, dispatch)
            caption = first_caption_s(python, root, options.speech, dispatch)
            if keep:
                found[name].append(figures)
                captions[name].append(caption)
        floor = _until_output_s([python, "-c", f"{FLOOR}; print(1)"])
        floors += [floor] if keep else []
    ours, portable = found["default"], found["portable"]
    recognizer = load(package.root)
    return Installed(
        origin=Origin.of(recognizer, command, shared=options.shared),
        dispatch=ours[0]["dispatch"],
        kernel=ours[0]["kernel"],
        bytes=_bytes(package),
        rtf=_each(ours, lambda one: one["rtf"]["median"]),
        rtf_portable=_each(portable, lambda one: one["rtf"]["median"]),
        rtf_ratio=[
            a["rtf"]["median"] / b["rtf"]["median"] for a, b in zip(ours, portable, strict=True)
        ],
        python_share=_each(ours, lambda one: one["python_share"]["median"]),
        load_s=_each(ours, lambda one: one["load"]["load_s"]),
        load_portable_s=_each(portable, lambda one: one["load"]["load_s"]),
        first_caption_s=captions["default"],
        first_caption_portable_s=captions["portable"],
        floor_s=floors,
        memory_mb=_each(ours, lambda one: one["memory_peak_bytes"] / 1e6),
        memory_portable_mb=_each(portable, lambda one: one["memory_peak_bytes"] / 1e6),
        flips=options.flips,
        flips_accepted=accepted_flips(package.root, options.flips),
    )


def _each(found: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> list[float]:
    return [of(one) for one in found]


def _bytes(package: Package) -> int:
    return sum(path.stat().st_size for path in package.root.iterdir())


def lines(found: Installed) -> Iterator[str]:
    """The page."""
    yield "# A package as it is installed"
    yield ""
    yield from found.origin.lines()
    yield ""
    kernel = f", kernels {found.kernel}" if found.kernel else ""
    yield (
        f"By default the {found.dispatch} programs are taken{kernel}; next to them the portable "
        "ones, in turns with them, each in fresh processes. Medians of "
        f"{len(found.rtf)} rounds after one thrown away, and the range."
    )
    yield ""
    yield from table(
        ("", "by default", "portable", "asked for"),
        [
            ("RTF, both passes", _spread(found.rtf, 4), _spread(found.rtf_portable, 4), ""),
            ("RTF, ratio to portable", _spread(found.rtf_ratio, 3), "1", "0.27; aim 0.2"),
            (
                "Python, features and search, share of the time",
                _spread(found.python_share, 3),
                "",
                "0.35",
            ),
            ("loading, without imports, s", _spread(found.load_s, 3),
             _spread(found.load_portable_s, 3), "0.12"),
            ("process start to the first caption of a file, s", _spread(found.first_caption_s, 2),
             _spread(found.first_caption_portable_s, 2), "0.6"),
            (f"its floor: `{FLOOR}`, s", _spread(found.floor_s, 2), "", ""),
            ("memory of `edge-asr bench` at its peak, MB", _spread(found.memory_mb, 0),
             _spread(found.memory_portable_mb, 0), "105"),
            ("package, both kinds of programs, MB", f"{found.bytes / 1e6:.1f}", "", "13"),
            (f"flipped bits accepted, of {found.flips}", str(found.flips_accepted), "", "0"),
        ],
    )  # fmt: skip


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


@errors_as_lines("benchmark.speed.installed")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.speed.installed", __doc__)
    add_package(parser)
    parser.add_argument("--speech", type=Path, required=True, help="a recording of some seconds")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--flips", type=int, default=3000, help="(default: %(default)s)")
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the environment to measure"
    )
    add_shared(parser)
    options = parser.parse_args(arguments)
    options.python = os.path.abspath(options.python)
    found = measure(options, command_line(parser.prog, arguments))
    write(lines(found), found.as_json(), options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
