"""What is said to a person at a terminal: one line on stderr, and text that is harmless to it.

File names, messages of libraries and the text of a model package are input: control and direction
characters never reach a terminal.
"""

from __future__ import annotations

import contextlib
import sys
import unicodedata

_JOINERS = "\u200c\u200d"  # they shape letters in some scripts and move nothing


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


def complain(message: object, program: str = "edge-asr") -> None:
    """One line on stderr."""
    with contextlib.suppress(OSError, ValueError):  # nobody is there to be told
        print(f"{program}: {clean(str(message))}", file=sys.stderr, flush=True)
