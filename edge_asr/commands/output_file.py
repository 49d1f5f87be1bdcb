"""Where lines go: a file that is written whole or not at all, or what is open already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

from edge_asr.errors import OutputError

Put = Callable[[str], None]  # writes one line

STDOUT = "-"
_MAX_LINKS = 40  # from one to the next, as Linux has it


def names_stdout(output: str) -> bool:
    """Whether an option means standard output: ``-``, ``/dev/stdout``, a link to it."""
    return output == STDOUT or _descriptor(output) == 1


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths are one file; not where one of them is none, or goes while it is asked."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # ValueError: a zero in the name
        return False


@contextlib.contextmanager
def open_output(target: Path) -> Iterator[Put]:
    """Write lines to ``target``: whole or not at all, if it is a file.

    A name of a descriptor, as /dev/stdout or /dev/fd/3, is that descriptor: what the caller has
    opened is neither replaced nor emptied.

    Raises:
        OutputError: it cannot be created or written.
    """
    try:
        descriptor = _descriptor(str(target))
        if descriptor is not None:
            writing: AbstractContextManager[TextIO] = _open_text(os.dup(descriptor))
        elif target.exists() and not target.is_file():  # as /dev/null, or a pipe with a name
            writing = _open_text(target)
        else:
            writing = _replacing(Path(os.path.realpath(target)))  # a link stays
        with writing as file:
            yield lambda line: print(line, file=file)
    except BrokenPipeError:  # a pipe in the place of a file, and its reader has gone
        raise
    except OSError as error:
        raise OutputError(
            f"{str(target)!r} cannot be written: {error.strerror}; choose another place"
        ) from error


def _descriptor(name: str) -> int | None:
    """The descriptor of this process that a path names, through any links."""
    for _ in range(_MAX_LINKS):
        folder, last = os.path.split(name)
        folder = os.path.realpath(folder)
        if folder in (f"/proc/{os.getpid()}/fd", "/dev/fd") and last.isdecimal():
            return int(last)
        if not os.path.islink(name):
            return None
        name = os.path.join(folder, os.readlink(name))
    return None


def _open_text(place: Path | int) -> TextIO:
    return open(place, "w", encoding="utf-8", errors="replace", newline="\n")


@contextlib.contextmanager
def _replacing(real: Path) -> Iterator[TextIO]:
    """A new file that takes the place of ``real`` when all is written."""
    unfinished = real.with_name(f".{_beginning(real.name)}.{os.getpid()}.part")
    try:
        with _open_text(unfinished) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, real)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _beginning(name: str) -> str:
    """What of a name leaves room for more: file systems count bytes, 255 of them."""
    return os.fsencode(name)[:200].decode("utf-8", "ignore")
