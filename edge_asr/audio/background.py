"""Blocks of a pipe, read in a thread of their own.

Who waits for a pipe inside of a decoder hears no signal; who waits for this one does, and need not
wait longer than it wants to.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator

from edge_asr.audio.features import Samples
from edge_asr.errors import UsageError

_AHEAD_BLOCKS = 4
_PUT_S = 1.0  # how soon the thread notices that nobody reads any more

Item = tuple[Samples, int] | BaseException | None


class Background(Iterator[tuple[Samples, int]]):
    """An iterator over what ``blocks()`` yields, and ``wait`` for the next."""

    def __init__(self, blocks: Callable[[], Iterator[tuple[Samples, int]]]) -> None:
        self._queue: queue.Queue[Item] = queue.Queue(_AHEAD_BLOCKS)
        self._next: list[Item] = []
        self._closed = threading.Event()
        self._process = os.getpid()
        arguments = (blocks, self._queue, self._closed)  # not self, so that __del__ can come
        threading.Thread(target=_read, args=arguments, name="input", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the next block, or the end, is there within this long.

        Raises:
            UsageError: this process was forked from the one that reads.
        """
        check_process(self._process)
        try:
            self._next = self._next or [self._queue.get(timeout=max(timeout_s, 1e-3))]
        except queue.Empty:
            return False
        return True

    def __next__(self) -> tuple[Samples, int]:
        check_process(self._process)
        item = self._next.pop() if self._next else self._queue.get()
        if item is None:
            self._next = [None]
            raise StopIteration
        if isinstance(item, BaseException):
            self._next = [None]
            raise item
        return item

    def __del__(self) -> None:
        self._closed.set()


def check_process(reader: int, what: str = "input") -> None:
    """Raise UsageError in a process forked from that of id ``reader``. Both have one place in the
    input, so each would miss what the other reads, and threads are only in the first."""
    if os.getpid() != reader:
        raise UsageError(
            f"this {what} is read by the process that opened it, and this one was forked from it; "
            f"open the {what} after the fork"
        )


def _read(
    blocks: Callable[[], Iterator[tuple[Samples, int]]],
    items: queue.Queue[Item],
    closed: threading.Event,
) -> None:
    def put(item: Item) -> None:
        while not closed.is_set():
            try:
                return items.put(item, timeout=_PUT_S)
            except queue.Full:
                continue

    try:
        for block in blocks():
            put(block)
            if closed.is_set():
                return
    except BaseException as error:
        put(error)
    else:
        put(None)
