"""``python -m benchmark.captions.picture FILES... -o PICTURE.svg``: the live view as a picture.

The files are captioned one after another as if a microphone heard them; the picture is what a
terminal shows just before the last one ends, while its last words are still open.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

import edge_asr
from edge_asr.audio.read import read_blocks
from edge_asr.captions.live import LiveCaptions
from edge_asr.captions.meter import Meter
from edge_asr.exits import errors_as_lines
from edge_asr.package import DEFAULT_PACKAGE

WIDTH = 90
BLOCK_S = 0.64


def draw(recognizer: edge_asr.Recognizer, paths: Sequence[str]) -> Console:
    """A console that recorded the picture.

    Raises:
        InputMissingError, AudioError: a file cannot be read.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    view = LiveCaptions(Console(width=WIDTH, file=io.StringIO(), force_terminal=True))
    view.show(edge_asr.Status("listening", "listening to 'USB microphone', 48000 Hz", 0))
    meter = Meter()
    for path in paths:
        with recognizer.stream() as stream:
            for samples, rate in read_blocks(path, BLOCK_S):
                began = time.perf_counter()
                events = stream.push(samples, rate)
                work_s = time.perf_counter() - began
                meter.push(samples, len(samples) / rate, work_s)
                for event in events:
                    view.show(event)
            view.refresh(meter)
            for event in stream.flush() if path != paths[-1] else []:
                view.show(event)
                if isinstance(event, edge_asr.Final):
                    console.print(Text(event.text))
    console.print(view)
    return console


@errors_as_lines("benchmark.captions.picture")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.captions.picture", description=__doc__
    )
    parser.add_argument("files", nargs="+", metavar="file", help="audio files")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture")
    parser.add_argument("--package", default=DEFAULT_PACKAGE, help="package: name or directory")
    options = parser.parse_args(argv)
    console = draw(edge_asr.load(options.package), options.files)
    console.save_svg(str(options.out), title="make captions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
