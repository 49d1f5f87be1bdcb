"""How a grammar in JSGF is told from a list of phrases: by its header, or by rules without it."""

from __future__ import annotations

import re

from edge_asr.errors import UsageError

# Generators and templates put comments before the header, some with "#", and leave its ";" out.
_BEFORE_HEADER = re.compile(
    r"(?: \s | //[^\n]* | /\*.*?\*/ | \#(?!JSGF)[^\n]* )*", re.DOTALL | re.IGNORECASE | re.VERBOSE
)
_HEADER = re.compile("#JSGF", re.IGNORECASE)
_HEADER_LINE = re.compile(
    r"#JSGF[ \t]+V1\.0(?:[ \t]+[^\s;]+){0,2}[ \t]*(?:;|\r?(?=\n|\Z))", re.IGNORECASE
)
_RULE = re.compile(r"^[ \t]*(?:public[ \t]+)?<[^\s<>]+>[ \t]*=", re.MULTILINE)


def is_jsgf(text: str) -> bool:
    """Whether a text is meant as JSGF: it has the header, or defines rules without it."""
    return _HEADER.match(text, _begin(text)) is not None or _RULE.search(text) is not None


def header_end(text: str, where: str) -> int:
    """Where the header of a grammar ends; only comments may be before it.

    Args:
        where: names the text in errors.

    Raises:
        UsageError: no header, or one of another version; it names the line.
    """
    begin = _begin(text)
    header = _HEADER_LINE.match(text, begin)
    if header is not None:
        return header.end()
    line = 1 + text.count("\n", 0, begin) if _HEADER.match(text, begin) else 1
    raise UsageError(f"{where} line {line}: a grammar begins with '#JSGF V1.0;'; write that first")


def _begin(text: str) -> int:
    """Where a header would begin."""
    before = _BEFORE_HEADER.match(text)
    return before.end() if before else 0
