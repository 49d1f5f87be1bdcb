"""A digest over the manifest: a bit that flipped anywhere in it is found before it is used.

It stands in the first line of the object and covers every byte after that line, so that the file
stays JSON that people read. A digest proves integrity, not who made the package.
"""

from __future__ import annotations

import hashlib
import re

from edge_asr.errors import PackageError

_FIRST = re.compile(rb'\A\{\n  "digest": "([0-9a-f]{64})",\n')


def seal(text: bytes) -> bytes:
    """``text``, an indented JSON object, with its digest."""
    rest = text.removeprefix(b"{\n")
    digest = hashlib.sha256(rest).hexdigest()
    return f'{{\n  "digest": "{digest}",\n'.encode() + rest


def unseal(sealed: bytes, where: str) -> bytes | None:
    """The text that was sealed; None if there is no digest, as in older packages.

    Raises:
        PackageError: it was changed.
    """
    match = _FIRST.match(sealed)
    if match is None:
        return None
    rest = sealed[match.end() :]
    if hashlib.sha256(rest).hexdigest() != match[1].decode():
        raise PackageError(
            f"{where}: does not have the digest in its first line: it is damaged or was changed; "
            "copy or export the package again"
        )
    return b"{\n" + rest
