"""Calls into the libraries of backends: each begins with some memory, and a fork waits for it.

The memory of a forked process is that of its parent, locked locks included, but of the threads
only the one that forked is there: nobody would ever unlock what another thread's call has locked.

Libraries report that they cannot have a large piece of memory. Over a small one they end the
process: the variables of a thread that calls for the first time, an exception.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Iterator

_STEP_BYTES = 4 << 20  # much more than the small pieces of a step: variables of a thread are 50 kB
_LOAD_BYTES = 32 << 20  # and of a program, which takes some times its own size too
_LOAD_TIMES = 4
# Longer than any step. A call that takes longer, as one that hangs, delays a fork so long.
_LONGEST_WAIT_S = 30.0


class _Gate:
    """Calls go through it, and a fork closes it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._calls: dict[int, int] = {}  # under way, by thread
        self._forks = 0  # that wait, or are being made

    def enter(self, thread: int) -> None:
        with self._changed:
            # A thread that is inside already would be waited for.
            while self._forks and thread not in self._calls:
                self._changed.wait()
            self._calls[thread] = self._calls.get(thread, 0) + 1

    def leave(self, thread: int) -> None:
        with self._changed:
            self._calls[thread] -= 1
            if not self._calls[thread]:
                del self._calls[thread]
                self._changed.notify_all()

    def close(self) -> None:
        """Wait for the calls of all other threads."""
        deadline = time.monotonic() + _LONGEST_WAIT_S
        with self._changed:
            self._forks += 1
            while self._calls.keys() - {threading.get_ident()}:
                if not self._changed.wait(deadline - time.monotonic()):
                    break

    def open(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_gate = _Gate()


@contextlib.contextmanager
def library_call(free_bytes: int | None = None) -> Iterator[None]:
    """Around a call into a library, which may need so many bytes; None: those of a step.

    Raises:
        MemoryError: there are not so many.
    """
    _ask_for(_STEP_BYTES if free_bytes is None else free_bytes)
    gate, thread = _gate, threading.get_ident()
    gate.enter(thread)
    try:
        yield
    finally:
        if gate is _gate:  # and not in a process that was forked inside
            gate.leave(thread)


def _ask_for(size: int) -> None:
    try:
        # Of the system: what the C library has in stock may be of no use to the caller.
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, OverflowError) as error:
        raise MemoryError(f"out of memory: {size >> 20} MB are needed; free some") from error


def load_bytes(program: bytes) -> int:
    """What loading a program may need."""
    return _LOAD_BYTES + _LOAD_TIMES * len(program)


def _renew() -> None:
    """In a forked process, which has none of the other threads."""
    global _gate
    _gate = _Gate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _gate.close(),
        after_in_parent=lambda: _gate.open(),
        after_in_child=_renew,
    )
