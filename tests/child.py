"""Work that a test does in a forked process, which may hang or be killed."""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
_LIMIT_S = 60.0


def in_child(work: Callable[[], Result]) -> Result:
    """What ``work`` returns in a forked process; it must be small.

    Raises:
        AssertionError: it hangs, dies, or raises something.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of deadlocks: what is tested
        pid = os.fork()
    if pid == 0:
        try:
            answer = pickle.dumps((work(), ""))
        except BaseException:
            answer = pickle.dumps((None, traceback.format_exc()))
        os.write(writing, answer)
        os._exit(0)
    os.close(writing)
    answer = _read(reading)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert answer is not None, "the forked process hangs"
    assert status == 0, f"the forked process died with status {status}"
    result, error = pickle.loads(answer)
    assert not error, error
    return result  # type: ignore[no-any-return]


def _read(descriptor: int) -> bytes | None:
    """All that comes; None where the end does not come in time."""
    deadline, parts = time.monotonic() + _LIMIT_S, []
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = file.read(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None
