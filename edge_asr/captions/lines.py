"""Where captions go: plain lines. JSON is in json_lines.py, the live view in live.py.

Captions are on stdout; everything else is on stderr. Text comes from a model package, which is
input: control and direction characters never reach a terminal.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Protocol, TextIO

from edge_asr.captions.meter import Meter
from edge_asr.console import clean
from edge_asr.errors import OutputError
from edge_asr.events import Event, Final, Gap, GapReason, Status

_GAP_CAUSES: dict[GapReason, str] = {
    "overflow": "dropped by the sound card",
    "unplugged": "microphone unplugged",
    "stalled": "microphone stalled",
    "overload": "computer too slow",
}


class Captions(Protocol):
    """A place that captions are shown in."""

    def show(self, event: Event) -> None:
        """Show one event; raises BrokenPipeError if nobody can see it any more."""

    def warn(self, message: str) -> None:
        """Say what is wrong and ends nothing; on stderr, where captions do not use it."""

    def refresh(self, meter: Meter) -> None:
        """Called ten times a second or so."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


class PlainCaptions:
    """One line per finished segment on ``out``; gaps and status on ``err``."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err

    def show(self, event: Event) -> None:
        match event:
            case Final(text=text) if text:
                write_caption(self._out, clean(text))
            case Gap() | Status():
                self.warn(remark(event))

    def warn(self, message: str) -> None:
        with contextlib.suppress(OSError):  # captions go on without remarks
            print(f"edge-asr: {clean(message)}", file=self._err, flush=True)

    def refresh(self, meter: Meter) -> None:
        pass

    def close(self) -> None:
        pass


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Tells a reader or terminal that is gone from an output that fails.

    Raises:
        BrokenPipeError: nobody reads any more: the reader or the terminal is gone.
        OutputError: it cannot be written, as on a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):
            raise BrokenPipeError(error.errno, error.strerror) from error
        raise OutputError(f"captions cannot be written to stdout: {error.strerror}") from error


def write_caption(out: TextIO, line: str) -> None:
    """Write one line at once; raises as ``writing`` does."""
    with writing():
        print(line, file=out, flush=True)


def remark(event: Gap | Status) -> str:
    """A gap or a status in words."""
    if isinstance(event, Gap):
        lost_s = (event.end_ms - event.start_ms) / 1000
        return f"[audio lost: {lost_s:.1f} s, {_GAP_CAUSES[event.reason]}]"
    return clean(event.message)
