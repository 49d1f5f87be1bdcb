"""A file of lines that is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_asr.errors import OutputError

Put = Callable[[str], None]  # writes one line


@contextlib.contextmanager
def open_output(target: Path) -> Iterator[Put]:
    """Write lines to ``target``: whole or not at all, if it is a file.

    Raises:
        OutputError: it cannot be created or written.
    """
    real = Path(os.path.realpath(target))  # a link stays, what it points to is replaced
    special = real.exists() and not real.is_file()  # as /dev/null, which must not be replaced
    unfinished = real if special else real.with_name(f".{real.name[:200]}.{os.getpid()}.part")
    try:
        with open(unfinished, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            yield lambda line: print(line, file=file)
            if not special:
                file.flush()
                os.fsync(file.fileno())
        if not special:
            os.replace(unfinished, real)
    except BrokenPipeError:  # a pipe in the place of a file, and its reader has gone
        raise
    except OSError as error:
        raise OutputError(
            f"{str(target)!r} cannot be written: {error.strerror}; choose another place"
        ) from error
    finally:
        if not special:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
