"""Options that several commands have, with what they allow."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.page import page_path
from edge_asr.errors import UsageError

_SPEED = "--rounds must be 0 or more and --audio-s 1 to 3600"


def page_parser(
    module: str, description: str | None, out: str | None = None
) -> argparse.ArgumentParser:
    """The parser of a command that writes a page: to ``--out``, or by default to ``out``.

    Parsing raises OutputError where the page cannot be written.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("-o", "--out", type=page_path, default=out,
                        help="the page; its figures go next to it as JSON")  # fmt: skip
    return parser


def add_package(parser: argparse.ArgumentParser) -> None:
    """Which package is measured."""
    parser.add_argument("package", help="package: name or directory")


def add_recordings(parser: argparse.ArgumentParser, what: str = "test sets") -> None:
    """On which sets."""
    parser.add_argument("recordings", nargs="+", type=Path, metavar="list",
                        help=f"recording lists (TSV) of {what}")  # fmt: skip


def add_chunk(parser: argparse.ArgumentParser) -> None:
    """How streams are cut."""
    parser.add_argument("--chunk-ms", type=int, help="audio per step (default: the package's)")


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Whether speeds can be trusted."""
    parser.add_argument("--shared", action="store_true",
                        help="say that others use this machine meanwhile")  # fmt: skip


def add_speed(parser: argparse.ArgumentParser, rounds: int, audio_s: float) -> None:
    """How a comparison of speed is done, with its defaults. Parsing raises UsageError."""
    add = parser.add_argument
    add("--rounds", type=_rounds, default=rounds,
        help="of the comparison of speed; 0: none (default: %(default)s)")  # fmt: skip
    add("--audio-s", type=_audio_s, default=audio_s,
        help="audio of a round (default: %(default)g)")  # fmt: skip
    add_shared(parser)


def _rounds(text: str) -> int:
    if (rounds := int(text)) < 0:
        raise UsageError(_SPEED)
    return rounds


def _audio_s(text: str) -> float:
    if not 1 <= (audio_s := float(text)) <= 3600:
        raise UsageError(_SPEED)
    return audio_s
