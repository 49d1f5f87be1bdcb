"""Where captions go: plain lines or JSON lines. The live view is in live.py.

Captions are on stdout; everything else is on stderr. Text comes from a model package, which is
input: control and direction characters never reach a terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import unicodedata
from dataclasses import dataclass
from typing import Protocol, TextIO

from edge_asr.capture_clock import Block
from edge_asr.errors import OutputError
from edge_asr.events import Event, Final, Gap, Status

_JOINERS = "\u200c\u200d"  # they shape letters in some scripts and move nothing
_FLOOR_DB = -90.0


def clean(text: str) -> str:
    """``text`` on one line, without control, direction and unassigned characters."""
    return "".join(
        character
        if unicodedata.category(character)[0] not in "CZ" or character in _JOINERS
        else " "
        if character.isspace()
        else ""
        for character in text
    )


@dataclass
class Meter:
    """What the live view shows besides captions."""

    level_db: float = _FLOOR_DB  # RMS of the last block relative to full scale
    clipping: bool = False
    lag_ms: int = 0  # from the microphone to the end of decoding
    rtf: float = 0.0  # seconds of work per second of audio, over the last seconds
    position_ms: int = 0

    def push(self, block: Block, work_s: float) -> None:
        """Take account of a block and of the time its decoding took."""
        if len(block.samples) == 0:
            return
        power = float((block.samples.astype("f8") ** 2).mean())
        self.level_db = max(_FLOOR_DB, 10 * math.log10(power)) if power > 0 else _FLOOR_DB
        self.clipping = bool(abs(block.samples).max() >= 0.999)
        audio_s = block.duration_ns / 1e9
        weight = min(1.0, audio_s / 3.0)  # an average over about three seconds
        self.rtf += weight * (work_s / audio_s - self.rtf)


class Captions(Protocol):
    """A place that captions are shown in."""

    def show(self, event: Event) -> None:
        """Show one event; raises BrokenPipeError if nobody can see it any more."""

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
                with contextlib.suppress(OSError):  # captions go on without remarks
                    print(f"edge-asr: {remark(event)}", file=self._err, flush=True)

    def refresh(self, meter: Meter) -> None:
        pass

    def close(self) -> None:
        pass


class JsonCaptions:
    """Every event as one JSON object per line, with its class as "type"."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: Event) -> None:
        fields = _cleaned(dataclasses.asdict(event))
        assert isinstance(fields, dict)
        write_caption(self._out, json.dumps({"type": type(event).__name__.lower(), **fields}))

    def refresh(self, meter: Meter) -> None:
        pass

    def close(self) -> None:
        pass


def write_caption(out: TextIO, line: str) -> None:
    """Write one line at once.

    Raises:
        BrokenPipeError: nobody reads any more: the reader or the terminal is gone.
        OutputError: it cannot be written, as on a full disk.
    """
    try:
        print(line, file=out, flush=True)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):
            raise BrokenPipeError(error.errno, error.strerror) from error
        raise OutputError(f"captions cannot be written to stdout: {error.strerror}") from error


def remark(event: Gap | Status) -> str:
    """A gap or a status in words."""
    if isinstance(event, Gap):
        return f"[audio lost: {(event.end_ms - event.start_ms) / 1000:.1f} s, {event.reason}]"
    return clean(event.message)


def _cleaned(value: object) -> object:
    """``value`` with every string in it cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
