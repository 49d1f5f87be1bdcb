"""Threads in which the second pass reads segments, for all streams of a recognizer.

They are few and share one queue. They start when there is work and end when there is none, so there
is nothing to close. Of one stream they read one segment at a time, in its order.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_EXIT_S = 2.0  # at most, for what is being read when the process ends
_started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@dataclass(frozen=True, eq=False)
class _Work(Generic[T]):
    """``read`` for a stream, and where the result goes."""

    stream: object
    read: Callable[[], T]
    future: Future[T] = field(default_factory=Future)

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.read())
        except BaseException as error:
            self.future.set_exception(error)


class Readers:
    """At most ``most`` threads. After a fork the child has none of them and none of their work."""

    _queue: list[_Work[Any]]

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._begin()

    def submit(self, stream: object, read: Callable[[], T]) -> Future[T]:
        """Have ``read`` called in a thread, after all that waits for the same stream.

        Raises:
            RuntimeError: no thread can start. Nothing waits then.
        """
        self._leave_to_parent()
        work = _Work(stream, read)
        with self._lock:
            self._queue.append(work)
            if self._threads < self._most and stream not in self._being_read:
                try:
                    self._start()
                except BaseException:
                    if not self._threads:
                        self._queue.remove(work)
                        raise
        return work.future

    def cancel(self, future: Future[T]) -> None:
        """Forget work that has not begun; what is found of work that has is of no use."""
        self._leave_to_parent()
        with self._lock:
            self._queue = [work for work in self._queue if work.future is not future]
        future.cancel()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._queue = []
        self._being_read: set[object] = set()  # streams
        self._threads = 0

    def _leave_to_parent(self) -> None:
        """After a fork, know nothing of threads and work, which are the parent's: its lock may be
        held for ever."""
        if self._process != os.getpid():
            self._begin()

    def _start(self) -> None:
        # A daemon, so that a decoder that hangs does not keep the process from ending.
        thread = threading.Thread(target=self._run, name="edge-asr-second-pass", daemon=True)
        self._threads += 1
        try:
            thread.start()
        except BaseException:
            self._threads -= 1
            raise
        _started.add(thread)

    def _run(self) -> None:
        while work := self._next():
            try:
                work.run()
            finally:
                with self._lock:
                    self._being_read.discard(work.stream)

    def _next(self) -> _Work[Any] | None:
        """The oldest work of a stream of which nothing is being read; None ends the thread."""
        with self._lock:
            is_ending = not threading.main_thread().is_alive()
            for work in () if is_ending else self._queue:
                if work.stream not in self._being_read:
                    self._queue.remove(work)
                    self._being_read.add(work.stream)
                    return work
            self._threads -= 1
            return None


@atexit.register
def _wait_for_readers() -> None:
    """A thread that comes back from C++ to an interpreter that is gone may abort the process."""
    until_s = time.monotonic() + _EXIT_S
    for thread in list(_started):
        thread.join(max(0.0, until_s - time.monotonic()))
