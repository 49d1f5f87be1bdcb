"""What is said to a person at a terminal: one line on stderr, and text that is harmless to it.

File names, messages of libraries and the text of a model package are input: control and direction
characters never reach a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_STANDARD = (0, 1, 2)  # the descriptors of standard input, output and error
JOINERS = "\u200c\u200d"  # they shape letters in some scripts and move nothing


def clean(text: str) -> str:
    """``text`` on one line, without control, direction and unassigned characters."""
    return "".join(
        character
        if unicodedata.category(character)[0] not in "CZ" or character in JOINERS
        else " "
        if character.isspace()
        else ""
        for character in text
    )


def complain(message: object, program: str = "edge-asr") -> None:
    """One line on stderr, if there is one."""
    if sys.stderr is None:  # print would take stdout instead
        return
    with contextlib.suppress(OSError, ValueError):  # nobody is there to be told
        print(f"{program}: {clean(str(message))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Standard input, output and error that exist: where the caller closed one, what is written
    there is dropped, and there is nothing to read.

    ``print`` would write what is for a missing stderr to stdout. And a file or pipe that is opened
    next would have the number of the missing one, so that libraries wrote into it.
    """
    _fill_descriptors()
    with contextlib.ExitStack() as stack:
        if sys.stdout is None or sys.stderr is None:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if sys.stdout is None:
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        if sys.stderr is None:
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _fill_descriptors() -> None:
    """Open what is missing of descriptors 0 to 2, for as long as this process lives."""
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            if opened == descriptor:
                os.set_inheritable(opened, True)
            else:
                os.dup2(opened, descriptor)
                os.close(opened)


def open_terminal(*, stderr: bool = False) -> Console:
    """The terminal of stdout or stderr for rich; COLUMNS and LINES are removed where no terminal
    has such a size, as 0 on serial consoles, with which rich would divide lines."""
    from rich.console import Console  # 60 ms, for those who show something

    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch("[1-9][0-9]{0,3}", os.environ.get(name, "1")):
            del os.environ[name]
    return Console(highlight=False, stderr=stderr)
