"""A page of figures: when, where and by which command, tables, and the same figures as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_asr.backends.table import backend_libraries
from edge_asr.errors import OutputError
from edge_asr.machine import Machine, describe_machine
from edge_asr.streams.recognizer import Recognizer

_LONG = 50  # numbers in a list
_PERCENTILES = (0, 5, 10, 25, 50, 75, 90, 95, 100)
_LIBRARIES = ("numpy", *backend_libraries())


def today() -> str:
    """The date that figures bear, as 2026-01-31."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


@dataclass(frozen=True)
class Origin:
    """Where figures come from."""

    package: str
    backend: str
    precision: str
    command: str
    shared: bool  # others used the machine meanwhile
    machine: Machine = field(default_factory=describe_machine)
    date: str = field(default_factory=today)

    @classmethod
    def of(cls, recognizer: Recognizer, command: str, *, shared: bool) -> Origin:
        """Of what is measured now."""
        manifest, program = recognizer.package.manifest, recognizer.program
        return cls(manifest.name, program.backend, program.precision, command, shared)

    def measured_on(self, libraries: Sequence[str] = _LIBRARIES) -> str:
        """Date, machine and the versions of these libraries; the backend where it has none."""
        machine = self.machine
        versions = ", ".join(f"{k} {v}" for k, v in machine.libraries.items() if k in libraries)
        return (
            f"Measured on {self.date}: {machine.cpu}, {machine.usable_cores} of {machine.cores} "
            f"cores, {machine.system}, Python {machine.python}, {versions or self.backend}"
        )

    def lines(self) -> Iterator[str]:
        """For the top of a page."""
        yield (
            f"{self.measured_on()}; the package `{self.package}`, {self.backend} "
            f"{self.precision}, one thread, no text normalisation."
        )
        if self.shared:
            yield "Others used the machine meanwhile: what is said of speed is preliminary."
        yield ""
        yield "```bash"
        yield self.command
        yield "```"


def command_line(program: str, argv: Sequence[str] | None) -> str:
    """What was called, without the folders of this machine; ``program`` as python -m MODULE."""
    words = sys.argv[1:] if argv is None else argv
    return " ".join([program, *map(_short, words)])


def _short(word: str) -> str:
    path = Path(word)
    if len(path.parts) < 2:
        return word
    # Test sets are told apart by their folder.
    return f"{path.parent.name}/{path.name}" if path.suffix == ".tsv" else path.name


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """In Markdown, and an empty line."""
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def page_path(text: str | Path) -> Path:
    """The path of a page that can be written, with its figures next to it: asked before minutes
    of measuring.

    Raises:
        OutputError: it cannot.
    """
    out = Path(text)
    if out.suffix in (".json", ".svg"):
        raise OutputError(f"{out}: figures and picture go there; give --out the page, as page.md")
    for path in (out, _figures_path(out)):
        existed = path.exists()
        try:
            with path.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise _not_written(path, error) from error
        if not existed:
            path.unlink()
    return out


def page_in(folder: Path, name: str) -> Path:
    """``page_path`` in a folder, which is made.

    Raises:
        OutputError: it cannot be made, or nothing written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from error
    return page_path(folder / name)


def write(
    lines: Iterable[str],
    figures: object,
    out: Path | None,
    draw: Callable[[Path], None] | None = None,
) -> None:
    """The page to a file, with its figures and its picture next to it; or the page to stdout.

    Args:
        figures: dataclasses, lists and dicts; numbers are rounded to six digits.
        out: where; None for stdout, and then there is neither figures nor picture.
        draw: writes the picture, an SVG.

    Raises:
        OutputError: a file cannot be written.
    """
    text = "\n".join(lines).rstrip("\n") + "\n"
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
        found = json.dumps(_plain(msgspec.to_builtins(figures)), indent=1)
        _figures_path(out).write_text(found + "\n", encoding="utf-8")
        if draw is not None:
            draw(picture_path(out))
    except OSError as error:
        raise _not_written(out, error) from error
    print(out)


def picture_path(out: Path) -> Path:
    """Where the picture of a page is."""
    return out.with_suffix(".svg")


def save_svg(figure: Any, path: Path) -> None:
    """A figure of matplotlib as SVG: the same figure, the same file."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _figures_path(out: Path) -> Path:
    return out.with_suffix(".json")


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: {error.strerror}; choose another --out")


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers with six digits, which is more than any of them is worth, no
    infinity, and of a long list of numbers its percentiles."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if len(value) > _LONG and all(isinstance(one, int | float) for one in value):
        found = np.percentile(value, _PERCENTILES).tolist()
        named = {f"p{percent}": one for percent, one in zip(_PERCENTILES, found, strict=True)}
        return _plain({"count": len(value), **named})
    return [_plain(one) for one in value]
