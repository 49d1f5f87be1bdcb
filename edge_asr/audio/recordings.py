"""Lists of recordings with their text, for measuring and for training."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_asr.errors import ConfigError, InputMissingError, OutputError


@dataclass(frozen=True)
class Utterance:
    """One line of such a list."""

    path: Path
    speaker: str
    text: str


def read_recordings(path: Path) -> list[Utterance]:
    """Read a tab-separated list with the header ``path seconds speaker text``.

    ``path`` is relative to the list's folder. The columns may come in any order, and others with
    them.

    Raises:
        InputMissingError: no such file, or it may not be read.
        ConfigError: no UTF-8, another header, or a line with more or fewer columns.
    """
    if not path.is_file():
        raise InputMissingError(f"{path}: no such recording list")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"path", "speaker", "text"} <= set(rows.fieldnames or ()):
                raise ConfigError(f"{path}: the header must name path, speaker and text")
            return [_utterance(path, rows.line_num, row) for row in rows]
    except OSError as error:
        raise InputMissingError(f"{path}: {error.strerror}; make it readable") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: not tab-separated UTF-8 text ({error})") from error


def write_recordings(path: Path, rows: Iterable[tuple[str, float, str, str]]) -> None:
    """Write one that ``read_recordings`` reads: path from the list's folder, seconds, speaker,
    text.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = [f"{name}\t{seconds:.3f}\t{speaker}\t{text}\n" for name, seconds, speaker, text in rows]
    try:
        path.write_text("path\tseconds\tspeaker\ttext\n" + "".join(lines), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; choose another place") from error


def _utterance(listed: Path, line: int, row: dict[str | None, str | None]) -> Utterance:
    audio, speaker, text = row["path"], row["speaker"], row["text"]
    if audio is None or speaker is None or text is None or None in row:
        raise ConfigError(
            f"{listed} line {line}: as many columns as in the header are expected, separated by "
            "tabs"
        )
    return Utterance(listed.parent / audio, speaker, text)
