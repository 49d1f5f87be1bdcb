"""A signal as a flag, for commands that have last words to write."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

EXIT_LIMIT_S = 4.0  # after a signal, in whatever state
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Turns a signal into a flag, so that the last words can still be written.

    A second signal, or an end that takes longer than ``EXIT_LIMIT_S``, ends the process as it is.
    Used with ``with``: afterwards signals do what they did before.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._deadline: threading.Timer | None = None

    def came(self) -> bool:
        """Whether a signal came."""
        return self.signum is not None

    def __enter__(self) -> Interruption:
        for signum in SIGNALS:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # nohup: the captions are to outlive the terminal
            self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if self._deadline is not None:
            self._deadline.cancel()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for every in self._before:
            signal.signal(every, signal.SIG_DFL)
        self._deadline = threading.Timer(EXIT_LIMIT_S, os._exit, [128 + signum])
        self._deadline.daemon = True
        self._deadline.start()
