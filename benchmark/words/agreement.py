"""``python -m benchmark.words.agreement PACKAGE LIST...``: do all programs of a package say the
same?

Every program reads every utterance, streamed as a microphone would be. The table gives the word
error rate of each program and how many of its texts equal those of the first one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jiwer
from rich.console import Console
from rich.progress import track

import edge_asr
from benchmark.options import add_chunk, add_package, add_recordings
from benchmark.page import table
from edge_asr.audio.recordings import Utterance, read_recordings
from edge_asr.audio.windows import ChunkMs
from edge_asr.exits import errors_as_lines
from edge_asr.package.files import open_package
from edge_asr.package.manifest import Program


@dataclass(frozen=True)
class Agreement:
    """What one program made of one recording list. Rates in percent."""

    recordings: str
    program: str
    backend: str
    precision: str
    dispatch: str
    utterances: int
    words: int
    wer: float
    equal_texts: float  # to those of the first program


def recognise(
    package: str, program: Program, utterances: Sequence[Utterance], chunk_ms: ChunkMs
) -> list[str]:
    """The texts of all utterances.

    Raises:
        EdgeAsrError: the package, the backend or a recording cannot be used.
    """
    recognizer = edge_asr.load(
        package,
        backend=program.backend,
        precision=program.precision,
        dispatch=program.dispatch,
        second_pass=False,  # which not every backend of a package may have
    )
    label = f"{program.backend} {program.precision} {program.dispatch}"
    return [
        recognizer.transcribe(utterance.path, chunk_ms).text
        for utterance in track(utterances, label, console=Console(stderr=True), transient=True)
    ]


def compare(package: str, recordings: Sequence[Path], chunk_ms: ChunkMs) -> list[Agreement]:
    """All programs on all lists; the first program of the package is the reference.

    Raises:
        EdgeAsrError: see ``recognise``; also for a list that cannot be read.
    """
    programs = [p for p in open_package(package).manifest.programs if p.role == "encoder"]
    rows = []
    for path in recordings:
        utterances = read_recordings(path)
        truth = [utterance.text for utterance in utterances]
        first: list[str] | None = None
        for program in programs:
            texts = recognise(package, program, utterances, chunk_ms)
            first = first or texts
            equal = sum(ours == reference for ours, reference in zip(texts, first, strict=True))
            rows.append(
                Agreement(
                    recordings=f"{path.parent.name}/{path.name}",
                    program=program.file,
                    backend=program.backend,
                    precision=program.precision,
                    dispatch=program.dispatch,
                    utterances=len(texts),
                    words=sum(len(text.split()) for text in truth),
                    wer=100 * float(jiwer.wer(truth, texts)),
                    equal_texts=100 * equal / len(texts),
                )
            )
    return rows


TITLES = (
    "recordings", "backend", "precision", "dispatch", "utterances", "words", "WER %", "equal %",
)  # fmt: skip


def cells(row: Agreement) -> tuple[str, ...]:
    """Those of ``TITLES``."""
    figures = (str(row.utterances), str(row.words), f"{row.wer:.2f}", f"{row.equal_texts:.2f}")
    return (row.recordings, row.backend, row.precision, row.dispatch, *figures)


@errors_as_lines("benchmark.words.agreement")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.words.agreement", description=__doc__
    )
    add_package(parser)
    add_recordings(parser)
    add_chunk(parser)
    parser.add_argument("--whole", action="store_true", help="whole utterances, not streamed")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    options = parser.parse_args(argv)
    rows = compare(
        options.package, options.recordings, "whole" if options.whole else options.chunk_ms
    )
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(*table(TITLES, map(cells, rows)), sep="\n", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
