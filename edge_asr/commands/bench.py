"""``edge-asr bench``: honest figures of a package on this machine."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_asr.bench.measure import BenchConfig, Progress, measure
from edge_asr.commands.model_options import (
    MODEL_OPTIONS,
    add_model_arguments,
    load_options,
    named_as_options,
)
from edge_asr.errors import UsageError

_OPTIONS = {**MODEL_OPTIONS, "runs": "--runs"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr bench``."""
    add_model_arguments(parser)
    parser.add_argument(
        "--recordings",
        type=Path,
        metavar="TSV",
        help="measure word errors too, on a table with the columns path seconds speaker text",
    )
    parser.add_argument(  # the name until 0.1
        "--manifest",
        dest="recordings",
        type=Path,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--audio", type=Path, nargs="+", default=(), metavar="FILE", help="measure with these files"
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="runs, after a discarded first one (default: 5)"
    )
    parser.add_argument(
        "--second-pass",
        choices=("inline", "off"),
        default="inline",
        help="with the second pass, or encoder and search only (default: inline)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit code.

    Raises:
        EdgeAsrError: what ``measure`` raises.
    """
    if arguments.recordings and arguments.audio:
        raise UsageError("--recordings and --audio exclude each other; the list names its audio")
    config = BenchConfig(
        **load_options(arguments),
        recordings=arguments.recordings,
        audio=tuple(arguments.audio),
        chunk_ms=arguments.chunk_ms,
        runs=arguments.runs,
        second_pass=arguments.second_pass != "off",
    )
    with named_as_options(_OPTIONS), _progress_bar() as progress:
        report = measure(config, progress)
    print(report.as_json() if arguments.json else report.as_table())
    return 0


@contextlib.contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, of: None
        return
    from rich.progress import Progress as Bar

    from edge_asr.console import open_terminal

    # Redrawn when something is done, and not by a thread in the middle of a measurement.
    console = open_terminal(stderr=True)
    with Bar(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("")

        def show(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of, refresh=True)

        yield show
