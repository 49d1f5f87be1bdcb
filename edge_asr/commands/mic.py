"""``python -m edge_asr.mic``: captions from a microphone, or of a file as if it were one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from edge_asr.audio.raw import parse_raw
from edge_asr.captions.captioner import Captioner
from edge_asr.captions.view import open_captions
from edge_asr.commands.decoding_arguments import add_decoding_arguments
from edge_asr.commands.interruption import Interruption
from edge_asr.commands.model_options import (
    Parser,
    add_model_arguments,
    load_recognizer,
    named_as_options,
)
from edge_asr.commands.stream_options import stream_options, warn_of_hotwords
from edge_asr.console import clean, complain
from edge_asr.errors import UsageError
from edge_asr.exits import exit_code
from edge_asr.microphone.capture import Microphone
from edge_asr.microphone.file import AudioFile
from edge_asr.microphone.process import list_devices
from edge_asr.search.decoding import SecondPassMode

SECOND_PASS: SecondPassMode = "background"  # captions of the next segment do not wait for it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr mic``."""
    parser.usage = "%(prog)s [OPTION ...]"  # all of them would be a page before the page
    parser.add_argument("--device", help="number, name or part of a name (default: the system's)")
    parser.add_argument("--list-devices", action="store_true", help="list the microphones and exit")
    parser.add_argument("--no-wait", action="store_true", help="exit if there is no microphone now")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="caption an audio file instead (formats: as of transcribe); - is standard input, "
        "captioned while it comes",
    )
    parser.add_argument(
        "--raw",
        metavar="RATE[:CHANNELS]",
        help="FILE has no header, only 16-bit little-endian samples",
    )
    parser.add_argument("--realtime", action="store_true", help="read FILE in real time")
    parser.add_argument(
        "--format",
        choices=("live", "plain", "jsonl"),
        help="live view, one line per caption, or one JSON object per event "
        "(default: live on a terminal, plain elsewhere)",
    )
    add_model_arguments(parser)
    add_decoding_arguments(parser, SECOND_PASS, follows_file=True)


def run(arguments: argparse.Namespace) -> int:
    """Caption; the exit code.

    Raises:
        EdgeAsrError: with its own exit code.
    """
    from_file = arguments.input is not None
    if from_file and (arguments.device or arguments.list_devices):
        raise UsageError("--input FILE takes the place of a microphone; leave --device out")
    if arguments.realtime and not from_file:
        raise UsageError("--realtime is for --input FILE; a microphone is always real time")
    if arguments.raw is not None and not from_file:
        raise UsageError("--raw is for --input FILE; a microphone says its own rate")
    with named_as_options({"raw": "--raw"}):
        raw = None if arguments.raw is None else parse_raw(arguments.raw)
    if arguments.device == "":
        raise UsageError("--device is empty; give a number or a name of --list-devices")
    if arguments.list_devices:
        return print_devices()

    if sys.stderr.isatty():
        complain(f"loading {arguments.package}")
    options = stream_options(arguments, load_recognizer(arguments), SECOND_PASS)
    with options.open() as stream, Interruption() as interruption:
        warn_of_hotwords(stream)
        captions = open_captions(arguments.format)
        captioner = Captioner(stream, captions, options.hotwords)
        try:
            if from_file:
                captioner.run(
                    AudioFile(arguments.input, realtime=arguments.realtime, raw=raw),
                    interruption.came,
                )
            else:
                with Microphone(arguments.device, wait=not arguments.no_wait) as microphone:
                    captioner.run(microphone, interruption.came)
        finally:
            captions.close()
        if not from_file:
            complain(captioner.summary())
    return 0 if interruption.signum is None else 128 + interruption.signum


def print_devices() -> int:
    """List the microphones on stdout."""
    devices = list_devices()
    for device in devices:
        mark = "*" if device["is_default"] else " "
        channels = f"{device['channels']} channel{'' if device['channels'] == 1 else 's'}"
        name = clean(str(device["name"]))
        print(f"{mark} {device['index']:>2}  {name}  ({channels}, {device['rate']} Hz)")
    if not devices:
        complain("no microphone is present")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The program: errors become one line and an exit code."""
    parser = Parser(prog="python -m edge_asr.mic", description=__doc__)
    add_arguments(parser)
    return exit_code(lambda: run(parser.parse_args(argv)))
