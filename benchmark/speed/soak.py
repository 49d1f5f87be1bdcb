"""``python -m benchmark.speed.soak FILES... --minutes 30``: one stream that does not end, as fast
as it goes.

The files are spoken again and again into one stream. Every few minutes of audio a row says how
much memory the process holds, how much the stream's state holds, what was heard, and how fast.
Memory that grows, or words that stop, show here before a board has run for weeks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import edge_asr
from benchmark.page import table
from edge_asr.audio.read import read_blocks
from edge_asr.backends.table import backend_choices
from edge_asr.exits import errors_as_lines
from edge_asr.machine import resident_memory_bytes
from edge_asr.package import DEFAULT_PACKAGE

BLOCK_S = 0.5
TITLES = ("minute", "RSS MiB", "state KiB", "words", "RTF")


@dataclass(frozen=True)
class Row:
    """One stretch of the stream."""

    minute: float  # of audio, at its end
    rss_mib: float
    state_kib: float
    words: int
    rtf: float


def soak(
    recognizer: edge_asr.Recognizer, files: Sequence[str], minutes: float, every_minutes: float
) -> Iterator[Row]:
    """A row for every ``every_minutes`` of audio, up to ``minutes``.

    Raises:
        InputMissingError, AudioError: a file cannot be read.
    """
    blocks = [block for file in files for block in read_blocks(file, BLOCK_S)]
    heard_s, words, work_s, row_s = 0.0, 0, 0.0, 0.0
    with recognizer.stream() as stream:
        for samples, rate in itertools.cycle(blocks):
            began = time.perf_counter()
            events = stream.push(samples, rate)
            work_s += time.perf_counter() - began
            words += sum(len(e.words) for e in events if isinstance(e, edge_asr.Final))
            row_s += len(samples) / rate
            if row_s < every_minutes * 60:
                continue
            heard_s += row_s
            state_kib = len(pickle.dumps(stream.state)) / 1024
            rss_mib = resident_memory_bytes() / 2**20
            yield Row(heard_s / 60, rss_mib, state_kib, words, work_s / row_s)
            if heard_s >= minutes * 60:
                return
            words, work_s, row_s = 0, 0.0, 0.0


def cells(row: Row) -> tuple[str, ...]:
    """Those of ``TITLES``."""
    figures = f"{row.rss_mib:.1f}", f"{row.state_kib:.0f}", f"{row.words}", f"{row.rtf:.4f}"
    return (f"{row.minute:.1f}", *figures)


@errors_as_lines("benchmark.speed.soak")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.speed.soak", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="file", help="audio files")
    parser.add_argument("--minutes", type=float, default=30.0, help="of audio (default: 30)")
    parser.add_argument("--every-minutes", type=float, default=5.0, help="a row (default: 5)")
    parser.add_argument("--package", default=DEFAULT_PACKAGE, help="package: name or directory")
    parser.add_argument("--backend", help=backend_choices())
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    options = parser.parse_args(argv)
    recognizer = edge_asr.load(options.package, backend=options.backend)
    rows = soak(recognizer, options.files, options.minutes, options.every_minutes)
    found = (json.dumps(asdict(row)) for row in rows)
    for line in found if options.json else table(TITLES, map(cells, rows)):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
