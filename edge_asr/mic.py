"""``python -m edge_asr.mic``: captions from a microphone, or of a file as if it were one."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol

from edge_asr.captions import Captions, JsonCaptions, Meter, PlainCaptions, clean
from edge_asr.capture import Microphone, Notice
from edge_asr.capture_clock import Block, Heard, Lost
from edge_asr.capture_file import AudioFile
from edge_asr.capture_process import list_devices
from edge_asr.commandline import Parser, add_model_arguments, complain, exit_code
from edge_asr.decoding_arguments import (
    add_decoding_arguments,
    stream_options,
    wants_language_model,
    warn_of_hotwords,
    warning_lines,
)
from edge_asr.errors import EdgeAsrError, UsageError
from edge_asr.events import Event, Status
from edge_asr.hotword_file import HotwordList
from edge_asr.search.decoding import SecondPassMode
from edge_asr.session import Stream

READ_S = 0.1  # also how soon a signal is noticed
REFRESH_S = 0.1
DRAIN_S = 1.0  # for what was captured before a signal and not yet decoded
EXIT_LIMIT_S = 4.0  # after a signal, in whatever state
SECOND_PASS: SecondPassMode = "background"  # captions of the next segment do not wait for it
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Source(Protocol):
    """A microphone or a file."""

    @property
    def ended(self) -> bool: ...

    @property
    def lag_ms(self) -> int: ...

    def read(self, timeout_s: float) -> list[Heard | Notice]: ...

    def close(self) -> list[Heard | Notice]: ...


class Interruption:
    """Turns a signal into a flag, so that the last words can still be written.

    A second signal, or an end that takes longer than ``EXIT_LIMIT_S``, ends the process as it is.
    Used with ``with``: afterwards signals do what they did before.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._deadline: threading.Timer | None = None

    def __enter__(self) -> Interruption:
        for signum in SIGNALS:
            self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if self._deadline is not None:
            self._deadline.cancel()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for every in SIGNALS:
            signal.signal(every, signal.SIG_DFL)
        self._deadline = threading.Timer(EXIT_LIMIT_S, os._exit, [128 + signum])
        self._deadline.daemon = True
        self._deadline.start()


class Captioner:
    """Carries audio from a source into a stream and its events to the captions.

    ``hotwords`` are those of the stream; it gets them again when their file changes.
    """

    def __init__(
        self, stream: Stream, captions: Captions, hotwords: HotwordList | None = None
    ) -> None:
        self.heard_ms = 0.0
        self.lost_ms: Counter[str] = Counter()
        self._stream = stream
        self._captions = captions
        self._hotwords = hotwords or HotwordList()
        self._meter = Meter()
        self._refresh_at = 0.0

    def run(self, source: Source, interruption: Interruption) -> None:
        """Caption until the source ends or a signal comes; the last words included.

        Raises:
            EdgeAsrError: from the source or the stream, after the last words.
            BrokenPipeError: nobody can see the captions any more.
        """
        try:
            while not source.ended and interruption.signum is None:
                self._take(source.read(READ_S), source)
            drained = time.monotonic() + DRAIN_S
            while not source.ended and time.monotonic() < drained:
                items = source.read(0)
                if not items:
                    break
                self._take(items, source)
        finally:
            self._take(source.close(), source)
            self._show(self._stream.flush())

    def _take(self, items: Iterable[Heard | Notice], source: Source) -> None:
        for item in items:
            match item:
                case Block():
                    began = time.monotonic()
                    self._show(self._stream.push(item.samples, item.rate))
                    self._meter.push(item, time.monotonic() - began)
                    self.heard_ms += item.duration_ns / 1e6
                case Lost():
                    self._show(self._stream.declare_gap(item.duration_ms, item.reason))
                    self.lost_ms[item.reason] += item.duration_ms
                case Notice():
                    if item.kind in ("lost", "stalled"):
                        self._show(self._stream.flush())  # the words before it need not wait
                    self._show([Status(item.kind, item.message, self._stream.position_ms)])
        if time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + REFRESH_S
            self._meter.lag_ms = source.lag_ms
            self._captions.refresh(self._meter)
            if self._hotwords.changed():
                self._renew_hotwords()

    def _renew_hotwords(self) -> None:
        """Read the file of hotwords again; where it is broken now, the old ones stay."""
        try:
            self._hotwords.read()
            warnings = self._stream.set_hotwords(self._hotwords.phrases)
        except EdgeAsrError as error:
            self._captions.warn(f"{error}; the old hotwords stay")
            return
        for line in warning_lines(warnings):
            self._captions.warn(line)

    def _show(self, events: Iterable[Event]) -> None:
        for event in events:
            self._captions.show(event)

    def summary(self) -> str:
        """The time account in words."""
        lost = ", ".join(f"{ms / 1000:.1f} s {why}" for why, ms in sorted(self.lost_ms.items()))
        return f"heard {self.heard_ms / 1000:.1f} s; lost {lost or 'nothing'}"


def open_captions(style: str | None) -> Captions:
    """The captions of ``--format``; a live view where stdout is a capable terminal."""
    if style == "jsonl":
        return JsonCaptions(sys.stdout)
    if style != "plain" and sys.stdout.isatty():
        from rich.console import Console  # 60 ms that a pipe need not wait for

        from edge_asr.live import LiveCaptions

        console = Console(highlight=False)
        if not console.is_dumb_terminal:
            return LiveCaptions(console)
    return PlainCaptions(sys.stdout, sys.stderr)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr mic``."""
    parser.usage = "%(prog)s [OPTION ...]"  # all of them would be a page before the page
    parser.add_argument("--device", help="number, name or part of a name (default: the system's)")
    parser.add_argument("--list-devices", action="store_true", help="show the microphones and end")
    parser.add_argument("--no-wait", action="store_true", help="end if there is no microphone now")
    parser.add_argument("--input", metavar="FILE", help="caption an audio file instead")
    parser.add_argument("--realtime", action="store_true", help="read FILE at the speed of speech")
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
    if arguments.device == "":
        raise UsageError("--device is empty; give a number or a name of --list-devices")
    if arguments.list_devices:
        return print_devices()

    import edge_asr  # the recognizer, which --list-devices does not need

    if sys.stderr.isatty():
        complain(f"loading {arguments.package}")
    recognizer = edge_asr.load(
        arguments.package,
        backend=arguments.backend,
        precision=arguments.precision,
        dispatch=arguments.dispatch,
        levers=arguments.levers,
        threads=arguments.threads,
        second_pass=arguments.second_pass != "off",
        language_model=wants_language_model(arguments),
    )
    options = stream_options(arguments, recognizer, SECOND_PASS)
    with options.open() as stream, Interruption() as interruption:
        warn_of_hotwords(stream)
        captions = open_captions(arguments.format)
        captioner = Captioner(stream, captions, options.hotwords)
        try:
            if from_file:
                captioner.run(AudioFile(arguments.input, realtime=arguments.realtime), interruption)
            else:
                with Microphone(arguments.device, wait=not arguments.no_wait) as microphone:
                    captioner.run(microphone, interruption)
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


if __name__ == "__main__":
    sys.exit(main())
