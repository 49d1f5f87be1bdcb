"""Segments as text, JSON lines, SubRip (srt) and WebVTT (vtt).

Text comes from a model package, which is input: it can bring neither control characters nor blank
lines, markup or a false "-->" into a file.

A cue has at most two lines of at most 42 columns and stays for at most 7 s, unless a single word
takes longer; segments are cut between words, at the time of the word. A cue that would be gone
before it is read stays for 1 s, or until the next one.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from edge_asr.captions.json_lines import json_fields
from edge_asr.console import JOINERS, clean
from edge_asr.events import Final, Word

LINE_COLUMNS = 42
CUE_LINES = 2
MAX_CUE_MS = 7000
MIN_CUE_MS = 1000

Put = Callable[[str], None]  # writes one line; the newline is its business

# SubRip has no escapes, and players read <i> and {\an8} as markup: letters that look like them.
_SRT_LETTERS = str.maketrans("<>{}", "\u2039\u203a()")
_VTT_LETTERS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


_JOINER = "\u200d"
_VIRAMA = 9  # a combining class
# Vowels and ends of Hangul syllables, and colours of emoji.
_LATER_PARTS = (("\u1160", "\u11ff"), ("\U0001f3fb", "\U0001f3ff"))


class SegmentWriter(Protocol):
    """Takes in segments in the order of time and writes them with ``Put``."""

    def push(self, segment: Final) -> None:
        """Write one segment, or what can be written by now."""

    def flush(self) -> None:
        """Write what was held back."""


def open_writer(style: str, put: Put, file: str) -> SegmentWriter:
    """The writer for ``text``, ``jsonl``, ``srt`` or ``vtt``; ``file`` names the audio in jsonl."""
    if style == "text":
        return TextWriter(put)
    if style == "jsonl":
        return JsonWriter(put, file)
    return CueWriter(put, vtt=style == "vtt")


class TextWriter:
    """One line per segment."""

    def __init__(self, put: Put) -> None:
        self._put = put

    def push(self, segment: Final) -> None:
        if text := clean(segment.text).strip():
            self._put(text)

    def flush(self) -> None:
        pass


class JsonWriter:
    """One object per segment that has a text: the fields of ``Final``, and the file."""

    def __init__(self, put: Put, file: str) -> None:
        self._put, self._file = put, file

    def push(self, segment: Final) -> None:
        if clean(segment.text).strip():
            # The file as it was given: JSON escapes whatever is in it.
            self._put(json.dumps({"file": self._file, **json_fields(segment)}))

    def flush(self) -> None:
        pass


@dataclass(frozen=True)
class Cue:
    """One subtitle: at most CUE_LINES lines."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


class CueWriter:
    """SubRip or WebVTT. One cue is held back, because the next one says how long it may stay."""

    def __init__(self, put: Put, *, vtt: bool) -> None:
        self._put, self._vtt = put, vtt
        self._held: Cue | None = None
        self._number = 0
        if vtt:
            put("WEBVTT")
            put("")

    def push(self, segment: Final) -> None:
        for cue in cues(segment):
            self._release(until_ms=cue.start_ms)
            self._held = cue

    def flush(self) -> None:
        self._release(until_ms=None)

    def _release(self, until_ms: int | None) -> None:
        cue, self._held = self._held, None
        if cue is None:
            return
        end_ms = max(cue.end_ms, cue.start_ms + MIN_CUE_MS)
        if until_ms is not None:
            end_ms = min(end_ms, until_ms)
        end_ms = max(end_ms, cue.start_ms + 1)  # players drop a cue that lasts for nothing
        self._number += 1
        if not self._vtt:
            self._put(str(self._number))
        point = "." if self._vtt else ","
        self._put(f"{_clock(cue.start_ms, point)} --> {_clock(end_ms, point)}")
        for line in cue.lines:
            self._put(line.translate(_VTT_LETTERS if self._vtt else _SRT_LETTERS))
        self._put("")


def cues(segment: Final) -> Iterator[Cue]:
    """The cues of a segment, by words."""
    lines: list[str] = []
    start_ms = end_ms = 0
    for piece in _pieces(segment):
        text = piece.text if lines else piece.text.lstrip()
        fits = bool(lines) and _columns(lines[-1] + text) <= LINE_COLUMNS
        too_long = bool(lines) and piece.end_ms - start_ms > MAX_CUE_MS
        if too_long or (not fits and len(lines) == CUE_LINES):
            yield Cue(start_ms, end_ms, tuple(lines))
            lines, fits = [], False
        if not lines:
            start_ms = piece.start_ms
        if fits:
            lines[-1] += text
        else:
            lines.append(text.lstrip())
        end_ms = piece.end_ms
    if lines:
        yield Cue(start_ms, end_ms, tuple(lines))


def _pieces(segment: Final) -> Iterator[Word]:
    """Words that fit on a line, with the space in front that the segment's text has there."""
    rest = segment.text
    words = segment.words or (Word(rest, segment.start_ms, segment.end_ms, 1.0),)
    for word in words:
        if not word.text:
            continue
        before, found, after = rest.partition(word.text)
        # A language without spaces has none between its words either.
        space = " " if not found or before[-1:].isspace() else ""
        rest = after if found else rest
        yield from _split(word, space)


def _split(word: Word, space: str) -> Iterator[Word]:
    """``word``, cleaned, in parts of a line; each part has its share of the word's time."""
    parts: list[str] = []
    for text in clean(word.text).split():
        first, *more = _lines(text)
        parts += [(" " if parts else space) + first, *more]
    span_ms = word.end_ms - word.start_ms
    for index, part in enumerate(parts):
        start_ms = word.start_ms + span_ms * index // len(parts)
        end_ms = word.start_ms + span_ms * (index + 1) // len(parts)
        yield Word(part, start_ms, end_ms, word.confidence)


def _lines(text: str) -> Iterator[str]:
    """A word in parts of a line; whole, but for words that no language has."""
    part = ""
    border = 0  # where a part may end, in it
    for character in text:
        if part and not _belongs(character, part[-1]):
            border = len(part)
        part += character
        if _columns(part) > LINE_COLUMNS:
            end = border or len(part) - 1  # one sign may be longer than a line
            yield part[:end]
            part, border = part[end:], 0
    yield part


def _belongs(character: str, before: str) -> bool:
    """Whether both are one sign for readers, as Unicode TR29 says, but for flags: marks, what is
    joined, consonants joined by a virama, parts of a Hangul syllable, colours of an emoji."""
    return (
        unicodedata.category(character)[0] == "M"
        or character in JOINERS
        or before == _JOINER
        or unicodedata.combining(before) == _VIRAMA
        or any(low <= character <= high for low, high in _LATER_PARTS)
    )


def _columns(text: str) -> int:
    """Cells of a terminal or a screen: signs of East Asian scripts are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _clock(time_ms: int, point: str) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
