"""From a source of audio through a stream to captions."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from edge_asr.captions.lines import Captions
from edge_asr.captions.meter import Meter
from edge_asr.errors import EdgeAsrError
from edge_asr.events import Event, Status
from edge_asr.fusion.hotword_file import HotwordList, warning_lines
from edge_asr.microphone.capture import Notice
from edge_asr.microphone.clock import Block, Heard, Lost
from edge_asr.streams.stream import Stream

READ_S = 0.1  # also how soon a signal is noticed
REFRESH_S = 0.1
DRAIN_S = 1.0  # for what was captured before a signal and not yet decoded
LAST_WORDS_S = 1.5  # for the second pass of the last segments then; all within EXIT_LIMIT_S
SETTLE_S = 1.0  # for that of segments before lost audio: meanwhile nobody empties the buffers


class AudioSource(Protocol):
    """A microphone or a file."""

    @property
    def ended(self) -> bool: ...

    @property
    def lag_ms(self) -> int: ...

    def read(self, timeout_s: float) -> list[Heard | Notice]: ...

    def close(self) -> list[Heard | Notice]: ...


class Captioner:
    """Carries audio from a source into a stream and its events to the captions.

    ``hotwords`` are those of the stream; it gets them again when their file changes.
    """

    def __init__(
        self, stream: Stream, captions: Captions, hotwords: HotwordList | None = None
    ) -> None:
        self.heard_ms = 0.0
        self.lost_ms: Counter[str] = Counter()
        self._stream = stream
        self._captions = captions
        self._hotwords = hotwords or HotwordList()
        self._meter = Meter()
        self._refresh_at = 0.0
        self._items: deque[Heard | Notice] = deque()  # from the source, in order
        self._events: deque[Event] = deque()  # not yet shown

    def run(self, source: AudioSource, stopped: Callable[[], bool] = lambda: False) -> None:
        """Caption until the source ends or ``stopped`` says so; the last words included.

        Raises:
            EdgeAsrError: from the source or the stream, after the last words.
            BrokenPipeError: nobody can see the captions any more.
        """
        try:
            while not source.ended and not stopped():
                self._take(source.read(READ_S), source)
            drained = time.monotonic() + DRAIN_S
            while not source.ended and time.monotonic() < drained:
                items = source.read(0)
                if not items:
                    break
                self._take(items, source)
        finally:
            self._finish(source, LAST_WORDS_S if stopped() else None)

    def _finish(self, source: AudioSource, timeout_s: float | None) -> None:
        """Caption all that is left, and the last words. Where some of it fails, the rest is
        captioned all the same, and the first error is raised then."""
        self._items += source.close()
        failed: Exception | None = None
        while self._items:
            try:
                self._caption(self._items.popleft())
            except Exception as error:
                failed = failed or error
        self._do(lambda: self._stream.flush(timeout_s=timeout_s))
        if failed is not None:
            raise failed

    def _take(self, items: Iterable[Heard | Notice], source: AudioSource) -> None:
        """Caption what came. Where that fails, the rest is captioned with what comes next."""
        self._items += items
        while self._items:
            self._caption(self._items.popleft())
        if time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + REFRESH_S
            self._meter.lag_ms = source.lag_ms
            self._captions.refresh(self._meter)
            if self._hotwords.changed():
                self._renew_hotwords()

    def _caption(self, item: Heard | Notice) -> None:
        stream = self._stream
        match item:
            case Block(samples=samples, rate=rate):
                self.heard_ms += item.duration_ns / 1e6
                began = time.monotonic()
                self._do(lambda: stream.push(samples, rate))
                work_s = time.monotonic() - began
                self._meter.push(samples, item.duration_ns / 1e9, work_s)
            case Lost(duration_ms=duration_ms, reason=reason):
                self.lost_ms[reason] += duration_ms
                self._do(lambda: stream.declare_gap(duration_ms, reason, timeout_s=SETTLE_S))
            case Notice(kind=kind, message=message):
                try:
                    if kind in ("lost", "stalled"):  # the words before it need not wait
                        self._do(lambda: stream.flush(timeout_s=SETTLE_S))
                finally:
                    self._show([Status(kind, message, stream.position_ms)])

    def _do(self, call: Callable[[], list[Event]]) -> None:
        """Show what a call of the stream brings about; of one that fails, what there is."""
        try:
            events = call()
        except Exception:
            self._show(self._stream.push([]))
            raise
        self._show(events)

    def _renew_hotwords(self) -> None:
        """Read the file of hotwords again; where it is broken now, the old ones stay."""
        try:
            self._hotwords.read()
            warnings = self._stream.set_hotwords(self._hotwords.phrases)
        except EdgeAsrError as error:
            self._captions.warn(f"{error}; the old hotwords stay")
            return
        for line in warning_lines(warnings):
            self._captions.warn(line)

    def _show(self, events: Iterable[Event]) -> None:
        """Show events, after those that an error has kept from being shown. One that fails to be
        shown may be in a buffer by half, and is not shown again."""
        self._events += events
        while self._events:
            self._captions.show(self._events.popleft())

    def summary(self) -> str:
        """The time account in words."""
        lost = ", ".join(f"{ms / 1000:.1f} s {why}" for why, ms in sorted(self.lost_ms.items()))
        return f"heard {self.heard_ms / 1000:.1f} s; lost {lost or 'nothing'}"
