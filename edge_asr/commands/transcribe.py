"""``edge-asr transcribe``: audio files to text, JSON lines or subtitles, segment by segment."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asr.commands.decoding_arguments import add_decoding_arguments
from edge_asr.commands.model_options import (
    add_model_arguments,
    load_recognizer,
    named_as_options,
)
from edge_asr.commands.output_file import Put, is_same_file, names_stdout, open_output
from edge_asr.commands.stream_options import stream_options, warn_of_hotwords
from edge_asr.console import complain
from edge_asr.errors import (
    AudioError,
    InputMissingError,
    OutputError,
    TruncatedError,
    UsageError,
)

if TYPE_CHECKING:
    from edge_asr.audio.raw import RawFormat
    from edge_asr.search.decoding import SecondPassMode
    from edge_asr.streams.stream import Stream

FORMATS = {"text": ".txt", "jsonl": ".jsonl", "srt": ".srt", "vtt": ".vtt"}
BLOCK_S = 1.0
STDIN = "-"
SECOND_PASS: SecondPassMode = "inline"  # nobody waits for what comes next
_UNKNOWN_S = 1e9  # as of a header that does not know
_LONG_S = 20.0  # from here on a progress bar is worth its line

OpenStream = Callable[[], "Stream"]
Advance = Callable[[float], None]  # told the seconds of audio that are done


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr transcribe``."""
    parser.usage = "%(prog)s [OPTION ...] FILE ..."  # all of them would be a page before the page
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="audio: WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, CAF, RF64, W64; with "
        "PyAV (pip install av) also M4A, MP4, WebM, MKV; - is standard input",
    )
    parser.add_argument(
        "--raw",
        metavar="RATE[:CHANNELS]",
        help="every FILE has no header, only 16-bit little-endian samples",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE|DIR",
        help="write to this file, or one file per input to this folder (default, and -: "
        "standard output)",
    )
    add_model_arguments(parser)
    add_decoding_arguments(parser, SECOND_PASS)


def run(arguments: argparse.Namespace) -> int:
    """Transcribe every file; the exit code of the first that could not be read.

    Raises:
        EdgeAsrError: nothing at all could be transcribed, or the output cannot be written.
    """
    files: list[str] = arguments.files
    targets = plan_outputs(files, arguments.format, arguments.output)

    from edge_asr.audio.raw import parse_raw  # numpy, which --help need not wait for

    with named_as_options({"raw": "--raw"}):
        raw = None if arguments.raw is None else parse_raw(arguments.raw)
    recognizer = load_recognizer(arguments)
    options, style = stream_options(arguments, recognizer, SECOND_PASS), arguments.format
    with options.open() as stream:  # refuses wrong values before any file is opened
        warn_of_hotwords(stream)
    first_code = 0
    for file, target in zip(files, targets, strict=True):
        try:
            with contextlib.ExitStack() as stack:
                if target is None:
                    put = _stdout()
                    if len(files) > 1 and style == "text":
                        _put_heading(put, file)
                else:
                    put = stack.enter_context(open_output(target))
                advance = stack.enter_context(_progress(file, stdout_is_used=target is None))
                cut = transcribe_file(options.open, file, style, put, advance, raw)
            if cut is not None:
                raise cut
        except (AudioError, InputMissingError) as error:
            complain(error)
            first_code = first_code or error.exit_code
    return first_code


def transcribe_file(
    open_stream: OpenStream,
    file: str,
    style: str,
    put: Put,
    advance: Advance,
    raw: RawFormat | None = None,
) -> TruncatedError | None:
    """Write the segments of one file, each as soon as it ends; what is missing of it, if anything.

    Raises:
        InputMissingError, AudioError: the file cannot be read; what came before was written.
    """
    from edge_asr.audio.read import read_blocks
    from edge_asr.captions.lines import remark
    from edge_asr.captions.subtitles import open_writer
    from edge_asr.events import Event, Final, Status

    writer = open_writer(style, put, file)

    def show(events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Final):
                writer.push(event)
            elif isinstance(event, Status):
                complain(f"{file}: {remark(event)}")

    with open_stream() as stream:
        try:
            cut = None
            try:
                for block, sample_rate in read_blocks(file, BLOCK_S, raw):
                    show(stream.push(block, sample_rate))
                    advance(stream.position_ms / 1000)
            except TruncatedError as error:
                cut = error
            show(stream.flush())
        except Exception:
            show(stream.push([]))  # what the call that failed could not return
            raise
        finally:
            writer.flush()
    return cut


def plan_outputs(files: Sequence[str], style: str, output: str | None) -> list[Path | None]:
    """Where the captions of each file go; None is standard output.

    Raises:
        UsageError: several files would end up in one, or an input would be overwritten.
        OutputError: the folder does not exist.
    """
    if output is None or names_stdout(output):
        if len(files) > 1 and style in ("srt", "vtt"):
            raise UsageError(f"{style} of {len(files)} files needs a folder: -o DIR")
        return [None] * len(files)
    place = Path(output)
    if not place.is_dir():
        if len(files) > 1:
            raise UsageError(
                f"-o {output!r} is no folder, which {len(files)} files need; make one with mkdir"
            )
        if output.endswith(os.sep) or not place.parent.is_dir():
            folder = place if output.endswith(os.sep) else place.parent
            raise OutputError(f"{str(folder)!r} is no folder; make it with mkdir")
        targets = [place]
    else:
        stems = [Path(file).stem if file != STDIN else "stdin" for file in files]
        targets = [place / f"{stem}{FORMATS[style]}" for stem in stems]
    for index, target in enumerate(targets):
        if target in targets[:index]:
            other = files[targets.index(target)]
            raise UsageError(
                f"{other!r} and {files[index]!r} would both be written to {str(target)!r}; "
                "transcribe them into different folders"
            )
        for file in files:
            if is_same_file(target, _path(file)):
                raise UsageError(f"{str(target)!r} is an input; choose another output")
    return list(targets)


def _stdout() -> Put:
    from edge_asr.captions.lines import write_caption

    return lambda line: write_caption(sys.stdout, line)


def _put_heading(put: Put, file: str) -> None:
    from edge_asr.console import clean

    put(f"==> {clean(file)} <==")  # as head and tail do


def _path(file: str) -> str:
    return "/dev/stdin" if file == STDIN else file


@contextlib.contextmanager
def _progress(file: str, *, stdout_is_used: bool) -> Iterator[Advance]:
    """A bar on stderr for a long file, where it is a terminal that nothing else writes to."""
    duration_s = _duration_s(file) if sys.stderr.isatty() else 0.0
    if duration_s < _LONG_S or (stdout_is_used and sys.stdout.isatty()):
        yield lambda done_s: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from edge_asr.console import clean, open_terminal

    progress = Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[minutes]} min"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=open_terminal(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    task = progress.add_task("", total=duration_s, name=clean(file)[-40:], minutes="", speed="")
    began = time.monotonic()

    def advance(done_s: float) -> None:
        speed = done_s / max(time.monotonic() - began, 1e-3)
        minutes = f"{done_s / 60:.1f} / {duration_s / 60:.1f}"
        progress.update(task, completed=done_s, minutes=minutes, speed=f"{speed:.1f} x real time")

    with progress:
        yield advance


def _duration_s(file: str) -> float:
    """The length of the audio, or 0 where that is not easily known."""
    if not os.path.isfile(_path(file)):  # asking a pipe would wait for it
        return 0.0
    import soundfile

    try:
        found = float(soundfile.info(_path(file)).duration)
        return found if found < _UNKNOWN_S else 0.0
    except (soundfile.SoundFileError, OSError):
        return 0.0
