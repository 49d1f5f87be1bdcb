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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TextIO

from edge_asr.capture_clock import Block
from edge_asr.commandline import complain
from edge_asr.errors import OutputError
from edge_asr.events import Event, Final, Gap, GapReason, Status

_JOINERS = "\u200c\u200d"  # they shape letters in some scripts and move nothing
_FLOOR_DB = -90.0
_FALL_DB_PER_S = 40.0
_CLIPPING = 0.999
_GAP_CAUSES: dict[GapReason, str] = {
    "overflow": "dropped by the sound card",
    "unplugged": "microphone unplugged",
    "stalled": "microphone stalled",
    "overload": "computer too slow",
}


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
    """What the live view shows besides captions. It is looked at less often than blocks come."""

    level_db: float = _FLOOR_DB  # RMS relative to full scale; rises at once, falls slowly
    lag_ms: int = 0  # from the microphone to the end of decoding
    rtf: float = 0.0  # seconds of work per second of audio, over the last seconds
    _clipped_ago_s: float = math.inf

    def push(self, block: Block, work_s: float) -> None:
        """Take account of a block and of the time its decoding took."""
        if len(block.samples) == 0:
            return
        audio_s = block.duration_ns / 1e9
        power = float((block.samples.astype("f8") ** 2).mean())
        level_db = 10 * math.log10(power) if power > 0 else _FLOOR_DB
        self.level_db = max(_FLOOR_DB, level_db, self.level_db - _FALL_DB_PER_S * audio_s)
        clips = abs(block.samples).max() >= _CLIPPING
        self._clipped_ago_s = 0.0 if clips else self._clipped_ago_s + audio_s
        weight = min(1.0, audio_s / 3.0)  # an average over about three seconds
        self.rtf += weight * (work_s / audio_s - self.rtf)

    @property
    def clipping(self) -> bool:
        """Whether the microphone was too loud within the last second."""
        return self._clipped_ago_s < 1.0


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


class JsonCaptions:
    """Every event as one JSON object per line, with its class as "type"."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: Event) -> None:
        fields = {"type": type(event).__name__.lower(), **json_fields(event)}
        write_caption(self._out, json.dumps(fields))

    def warn(self, message: str) -> None:
        complain(message)

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


def json_fields(event: Event) -> dict[str, object]:
    """All fields of an event: text is cleaned, and fractions have four digits."""
    return {field.name: _cleaned(getattr(event, field.name)) for field in dataclasses.fields(event)}


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _cleaned(getattr(value, name)) for name in names}
    return value
