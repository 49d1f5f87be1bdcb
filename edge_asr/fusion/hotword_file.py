"""Hotwords of a command: phrases of its options, and a file that may change while it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edge_asr.errors import InputMissingError
from edge_asr.fusion.hotword_text import MAX_FILE_BYTES, Phrase, parse_hotwords

_Stamp = tuple[int, int, int]  # another one: another file, or other content

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
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero in the name
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> list[Phrase]:
    where = repr(str(path))
    try:
        if not path.is_file():  # a pipe could not be read again, and might keep us waiting
            problem = "is no regular file" if path.exists() else "no such file"
            raise InputMissingError(f"{where}: {problem}; give a file with a hotword per line")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"{where}: {reason}; give a file that may be read") from error
    return parse_hotwords(content, where)


def warning_lines(warnings: Sequence[str]) -> list[str]:
    """Those of ``Stream.set_hotwords`` that are worth their lines."""
    if len(warnings) <= _MAX_WARNINGS:
        return list(warnings)
    more = len(warnings) - _MAX_WARNINGS
    return [*warnings[:_MAX_WARNINGS], f"{more} more hotwords are left out"]
