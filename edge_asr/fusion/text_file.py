"""Reading a small text file that a user wrote: of limited size, in UTF-8."""

from __future__ import annotations

from pathlib import Path

from edge_asr.errors import InputMissingError, UsageError


def read_text(path: Path, where: str, *, wanted: str, max_bytes: int, too_large: str) -> str:
    """The text of a regular file, without its byte order mark.

    Args:
        where: names the file in errors.
        wanted: what to give instead of no file, as "a file with a hotword per line".
        too_large: what to say of a file of more than ``max_bytes``, and what to do about it.

    Raises:
        InputMissingError: there is no such file, or it may not be read.
        UsageError: it is too large or not UTF-8.
    """
    try:
        if not path.is_file():  # a pipe could not be read again, and might keep us waiting
            problem = "is no regular file" if path.exists() else "no such file"
            raise InputMissingError(f"{where}: {problem}; give {wanted}")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"{where}: {reason}; give a file that may be read") from error
    if len(content) > max_bytes:
        raise UsageError(f"{where}: {too_large}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: byte {error.start} is not UTF-8; save it as UTF-8") from error
