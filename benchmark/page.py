"""A page of figures: when, where and by which command, tables, and the same figures as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
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


@dataclass(frozen=True)
class Origin:
    """Where figures come from."""

    package: str
    backend: str
    precision: str
    command: str
    shared: bool  # others used the machine meanwhile
    machine: Machine = field(default_factory=describe_machine)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d"))

    @classmethod
    def of(cls, recognizer: Recognizer, command: str, *, shared: bool) -> Origin:
        """Of what is measured now."""
        manifest, program = recognizer.package.manifest, recognizer.program
        return cls(manifest.name, program.backend, program.precision, command, shared)

    def lines(self) -> Iterator[str]:
        """For the top of a page."""
        machine = self.machine
        versions = ", ".join(f"{k} {v}" for k, v in machine.libraries.items() if k in _LIBRARIES)
        yield (
            f"Measured on {self.date}: {machine.cpu}, {machine.usable_cores} of {machine.cores} "
            f"cores, {machine.system}, Python {machine.python}, {versions}; the package "
            f"`{self.package}`, {self.backend} {self.precision}, one thread, no text "
            "normalisation."
        )
        if self.shared:
            yield "Others used the machine meanwhile: what is said of speed is preliminary."
        yield ""
        yield "```bash"
        yield self.command
        yield "```"


def command_line(module: str, argv: Sequence[str] | None) -> str:
    """What was called, without the folders of this machine."""
    words = sys.argv[1:] if argv is None else argv
    return " ".join([f"python -m {module}", *map(_short, words)])


def _short(word: str) -> str:
    path = Path(word)
    if len(path.parts) < 2:
        return word
    # Test sets are told apart by their folder.
    return f"{path.parent.name}/{path.name}" if path.suffix == ".tsv" else path.name


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """In Markdown, with an empty line behind it."""
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def write(lines: Iterable[str], figures: object, out: Path | None) -> None:
    """The page to a file, with its figures beside it, or to stdout.

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
        out.with_suffix(".json").write_text(found + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}; choose another --out") from error
    print(out)


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
