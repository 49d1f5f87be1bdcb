"""Segments that have ended and wait for their Finals, which come in order.

Inline, every segment is read by the decoders at once. In the background a thread reads it, if not
too many wait already, and no Final is later than ``DEADLINE_S``: whatever the decoders do, the text
of the first pass is there, and a Status says why it had to do.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from functools import partial

from edge_asr.backends import FloatArray
from edge_asr.errors import reason_of
from edge_asr.events import Alternative, Event, Final, Status
from edge_asr.package.units import Units
from edge_asr.search import Hypothesis
from edge_asr.search.decoding import Decoding
from edge_asr.search.second_pass import Ranked, SecondPass, first_pass
from edge_asr.search.words import FrameClock, assemble_words

MAX_WAITING = 8  # segments of a stream for decoders in the background
MAX_HELD = 64  # segments of a stream in all, where the first of them takes for ever
DEADLINE_S = 30.0  # from the end of a segment to its Final; nobody looks at captions so late
_LATE = "the decoders take too long"
_FULL = f"{MAX_WAITING} earlier segments wait"


@dataclass(frozen=True)
class Cut:
    """A segment that has ended and waits for its Final."""

    segment: int
    hypotheses: tuple[Hypothesis, ...]
    encoder_out: FloatArray  # (1, T', D)
    clock: FrameClock
    limit_ms: int  # no word ends later
    obstacle: str = ""  # why the decoders are not to read it


@dataclass
class _Reading:
    """Of one segment in the background."""

    deadline_s: float  # on the monotonic clock
    future: Future[list[Ranked]] | None = None  # None where no thread could start
    obstacle: str = _LATE  # to be told where nothing was read


class WaitingSegments:
    """What is done with ``Cut``s. Of its own it has only the work under way."""

    def __init__(self, units: Units, decoding: Decoding, second_pass: SecondPass | None) -> None:
        self._units = units
        self._nbest = decoding.nbest
        self._second_pass = second_pass
        self._in_background = second_pass is not None and decoding.second_pass != "inline"
        self._readings: dict[int, _Reading] = {}  # by segment
        self._process = os.getpid()  # the one that they are of

    def obstacle(self, waiting: Sequence[Cut]) -> str:
        """Why decoders will not read one more segment, if they will not."""
        unread = sum(not cut.obstacle for cut in waiting)
        return _FULL if self._in_background and unread >= MAX_WAITING else ""

    def collect(
        self, waiting: list[Cut], events: list[Event], at_ms: int, *, wait: bool, timeout_s: float
    ) -> None:
        """Take out the segments that have been read, or all of them if ``wait``, within
        ``timeout_s``, and add their Finals to the events.

        Where the second pass fails, whatever it is, or is late, the first pass has the last word
        and a Status at ``at_ms`` says so.
        """
        until_s = time.monotonic() + timeout_s if wait else -math.inf
        self._leave_to_parent()
        self._submit(waiting)
        while waiting:
            cut, is_last_chance = waiting[0], wait or len(waiting) > MAX_HELD
            found = self._read(cut, until_s, is_last_chance)
            if found is None:
                break
            ranked, obstacle = found
            told: list[Event] = [self._final(cut, ranked)]
            if obstacle:
                told.insert(0, Status("recovered", f"no second pass: {obstacle}", at_ms))
            events += told
            del waiting[0]
            self._drop(cut)

    def forget(self) -> None:
        """Drop work under way, as its segments are no longer those of the state."""
        self._leave_to_parent()
        for reading in self._readings.values():
            self._cancel(reading)
        self._readings.clear()

    def _leave_to_parent(self) -> None:
        """After a fork, know nothing of work under way: whoever waited for it here, or for its
        locks, would wait for ever. What segments are read from is in the state."""
        if self._process != os.getpid():
            self._readings, self._process = {}, os.getpid()

    def _submit(self, waiting: Sequence[Cut]) -> None:
        """Have threads read what they do not yet."""
        second_pass = self._second_pass
        if second_pass is None or not self._in_background:
            return
        for cut in waiting:
            if cut.obstacle:
                continue
            reading = self._readings.setdefault(
                cut.segment, _Reading(time.monotonic() + DEADLINE_S)
            )
            if reading.future is None:
                try:
                    read = partial(second_pass.rank, cut.hypotheses, cut.encoder_out)
                    reading.future = second_pass.readers.submit(self, read)
                except Exception as error:  # no thread can start; perhaps the next time
                    reading.obstacle = reason_of(error)

    def _read(
        self, cut: Cut, until_s: float, is_last_chance: bool
    ) -> tuple[list[Ranked], str] | None:
        """The texts of a segment, best first, and what kept the decoders from reading it, if
        anything did. None if it is still being read; until ``until_s``, on the monotonic clock, it
        is waited for."""
        if cut.obstacle or self._second_pass is None:
            return first_pass(cut.hypotheses), cut.obstacle
        failed: BaseException | None = None
        try:
            if not self._in_background:
                return self._second_pass.rank(cut.hypotheses, cut.encoder_out), ""
            reading = self._readings[cut.segment]
            if not _is_done(reading, until_s):
                is_over = is_last_chance or time.monotonic() >= reading.deadline_s
                return (first_pass(cut.hypotheses), reading.obstacle) if is_over else None
            assert reading.future is not None
            failed = reading.future.exception()  # a SystemExit of the thread is none of ours
            if failed is None:
                return reading.future.result(), ""
        except Exception as error:
            failed = error
        return first_pass(cut.hypotheses), reason_of(failed)

    def _drop(self, cut: Cut) -> None:
        if reading := self._readings.pop(cut.segment, None):
            self._cancel(reading)

    def _cancel(self, reading: _Reading) -> None:
        if reading.future is not None and self._second_pass is not None:
            self._second_pass.readers.cancel(reading.future)

    def _final(self, cut: Cut, ranked: Sequence[Ranked]) -> Final:
        best = ranked[0].hypothesis
        words = assemble_words(best.tokens, self._units, cut.clock, cut.limit_ms, with_units=True)
        scores: dict[str, float] = {}
        for candidate in ranked if self._nbest > 1 else ():
            scores.setdefault(self._text(candidate.hypothesis), candidate.score)
        alternatives = [Alternative(text, score) for text, score in scores.items()]
        return Final(
            cut.segment,
            self._text(best) if words else "",
            words,
            words[0].start_ms if words else cut.limit_ms,
            words[-1].end_ms if words else cut.limit_ms,
            tuple(alternatives[: self._nbest]),
            ranked[0].by_decoders,
        )

    def _text(self, hypothesis: Hypothesis) -> str:
        return self._units.text(token.id for token in hypothesis.tokens)


def _is_done(reading: _Reading, until_s: float) -> bool:
    """Whether it was read, which is waited for until then or until its deadline."""
    if reading.future is None or reading.future.done():
        return reading.future is not None
    left_s = min(until_s, reading.deadline_s) - time.monotonic()
    return bool(wait_for([reading.future], max(0.0, left_s)).done)
