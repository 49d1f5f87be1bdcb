"""Hotwords of a command: phrases of its options, and a file that may change while it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edge_asr.fusion.hotword_text import Phrase, parse_hotwords
from edge_asr.fusion.text_file import read_text

_Stamp = tuple[int, int, int]  # another one: another file, or other content

_MAX_FILE_BYTES = 8 << 20
_MAX_WARNINGS = 20  # of a list of thousands in another language


class HotwordList:
    """The phrases of ``--hotword`` and of the file of ``--hotwords``, as they were read last.

    Raises:
        InputMissingError: the file is missing or may not be read.
        UsageError: it holds something else than hotwords.
    """

    def __init__(self, given: Sequence[str] = (), file: str | None = None) -> None:
        self.phrases: tuple[Phrase, ...] = ()
        self._given = tuple(given)
        self._path = None if file is None else Path(file)
        self._stamp: _Stamp | None = None
        self.read()

    def read(self) -> None:
        """Read the file again; raises as above, and then ``phrases`` are still the old ones."""
        if self._path is None:
            self.phrases = self._given
            return
        self._stamp = _stamp(self._path)  # before the content: what changes meanwhile is read again
        self.phrases = (*self._given, *_read(self._path))

    def changed(self) -> bool:
        """Whether the file is no longer what was read last, or tried to be."""
        return self._path is not None and _stamp(self._path) != self._stamp


def _stamp(path: Path) -> _Stamp | None:
    """None where there is no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero in the name
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> list[Phrase]:
    where = repr(str(path))
    text = read_text(
        path,
        where,
        wanted="a file with a hotword per line",
        max_bytes=_MAX_FILE_BYTES,
        too_large=f"larger than {_MAX_FILE_BYTES} bytes; give fewer hotwords",
    )
    return parse_hotwords(text, where)


def warning_lines(warnings: Sequence[str]) -> list[str]:
    """Those of ``Stream.set_hotwords`` that are worth their lines."""
    if len(warnings) <= _MAX_WARNINGS:
        return list(warnings)
    more = len(warnings) - _MAX_WARNINGS
    return [*warnings[:_MAX_WARNINGS], f"{more} more hotwords are left out"]
