"""The time account of a microphone: wall time = audio passed on + declared gaps + queue.

What was lost is computed from the monotonic clock that the capture process stamps on every
block, never from the driver's overflow flag: the flag says that something was lost, not how
much, and most losses raise no flag at all.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_asr.events import GapReason

MS = 1_000_000  # nanoseconds
SUSPICIOUS_NS = 80 * MS  # a block this late may be late, or audio before it may be missing
BUFFER_NS = 200 * MS  # what a device holds while the callback does not run: child.BUFFER_S
# Late audio comes in a burst as soon as the callback runs again. So after this long without
# catching up, what is still missing was lost...
SETTLE_NS = 500 * MS
SETTLE_RESTART_NS = 250 * MS  # ...or this long where the capture process had to start again
LONGEST_HOLD_NS = 1000 * MS  # what a listener waits at most
ON_TIME_NS = 2 * MS  # a callback that runs at once
STEP_NS = 5 * MS  # more than what the steadiest of several blocks differ by
SMALLEST_GAP_NS = 2 * MS  # where a loss is known; any loss in the long run
SMALLEST_GAP_UNKNOWN_NS = 40 * MS  # below, blocks that are all a little late look the same
STEADY_NS = 2000 * MS  # of these one block at least is on time, on a computer that keeps up...
STEADY_BLOCKS = 40  # ...if it is one of so many
UNREAD_NS = 100 * MS  # at the end: two callbacks of the sound card
DRIFT_GAIN = 0.25
CRYSTAL_ERROR = 1e-3  # how far a sound card's clock may be off before it counts as loss
RUNAWAY_NS = 1000 * MS  # more audio than wall time, by this much...
RUNAWAY_WINDOW_NS = 10_000 * MS  # ...within this long


@dataclass(frozen=True)
class Block:
    """Audio as captured: samples (N, C) float32 at ``rate``.

    ``at_ns`` is the CLOCK_MONOTONIC time of the last sample. ``suspect`` is set if the capture
    process knows of a loss before the block, and says where.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    at_ns: int
    suspect: GapReason | None = None

    @property
    def duration_ns(self) -> int:
        return len(self.samples) * 1_000_000_000 // self.rate


@dataclass(frozen=True)
class Lost:
    """Audio that will never come, to be declared to the stream at this place."""

    duration_ms: int
    reason: GapReason


Heard = Block | Lost


@dataclass
class TimeAccount:
    """Puts every block in its place in time and finds what is missing between them.

    Callbacks come late, never early, so the truth is the lower edge of how much less audio there
    is than time has passed. The edge drifts, because crystals differ, and a step up is a loss. A
    block is late by how far it is above the edge. A suspicious block is held back until later
    blocks tell late from lost: late audio catches up, lost audio does not. A loss too small for
    suspicion is found when no block is on time for seconds.
    """

    origin_ns: int | None = None
    accounted_ns: int = 0  # passed on or declared
    _edge_ns: float = 0.0
    _drift: float = 0.0  # of the edge, per audio
    _held: list[Block] = field(default_factory=list)
    _late_ns: list[float] = field(default_factory=list)  # of the held blocks
    _progress_ns: int = 0  # stamp of the held block that caught up last
    _expected: GapReason | None = None  # the next block comes after a known interruption
    _watch: _Watch = field(default_factory=lambda: _Watch(first=True))
    _rest_ns: float = 0.0  # lost and not yet declared; negative: declared and not lost

    def push(self, block: Block) -> list[Heard]:
        """Blocks, and losses between them, that are now certain; in order."""
        if self.origin_ns is None:
            self.origin_ns = block.at_ns - block.duration_ns
        held_ns = sum(held.duration_ns for held in self._held) * (1 + self._drift)
        late_ns = self._behind_ns(block.at_ns) - held_ns - block.duration_ns
        if not self._held:
            suspect = self._expected or block.suspect
            if not suspect and late_ns <= SUSPICIOUS_NS:
                return self._pass(block, late_ns)
            self._expected = suspect
        elif block.suspect and not self._expected:  # those before it were late, and here is why
            return self._settle_all(math.inf) + self.push(block)
        if not self._held or late_ns < min(self._late_ns) - ON_TIME_NS:
            self._progress_ns = block.at_ns
        self._held.append(block)
        self._late_ns.append(late_ns)
        return self._judge()

    def interrupt(self, reason: GapReason) -> list[Heard]:
        """No more audio comes from this capture: what was held back.

        What is missing until the next block, or until ``finish``, is lost for ``reason``.
        """
        heard = self.flush()
        self._expected = reason
        return heard

    def finish(self, now_ns: int, unread: GapReason) -> list[Heard]:
        """No more audio comes at all: what was held back, and what is missing until now.

        That is lost to the interruption, if there was one. Else it is what nobody read any more,
        for the reason ``unread``, unless it is no more than a block that is under way.
        """
        reason = None if self._held else self._expected
        heard = self.flush()
        if self.origin_ns is not None:
            missing_ns = self._behind_ns(now_ns)
            if reason or missing_ns > UNREAD_NS:
                heard += self._declare(missing_ns, reason or unread)
        return heard

    def flush(self) -> list[Heard]:
        """What was held back, judged by what is known now: what has not come will not."""
        return self._settle_all(SMALLEST_GAP_NS)

    def _behind_ns(self, at_ns: int) -> float:
        return at_ns - (self.origin_ns or 0) - self.accounted_ns - self._edge_ns

    def _judge(self) -> list[Heard]:
        """Settle if the held blocks tell late from lost."""
        known, least_ns = self._expected is not None, min(self._late_ns)
        if not known and least_ns < ON_TIME_NS:
            return self._settle(SMALLEST_GAP_NS)
        restarted = known and not self._held[0].suspect
        last_ns = self._held[-1].at_ns
        if (
            last_ns - self._progress_ns < (SETTLE_RESTART_NS if restarted else SETTLE_NS)
            and last_ns - self._held[0].at_ns < LONGEST_HOLD_NS
        ):
            return []
        if known:
            return self._settle(SMALLEST_GAP_NS)
        lately = bisect_left(self._held, last_ns - SETTLE_NS // 2, key=lambda block: block.at_ns)
        if least_ns <= BUFFER_NS and min(self._late_ns[lately:]) - least_ns > STEP_NS:
            return self._settle(math.inf)  # it was catching up when something was lost
        return self._settle(SMALLEST_GAP_UNKNOWN_NS)

    def _settle_all(self, smallest_ns: float) -> list[Heard]:
        heard: list[Heard] = []
        while self._held:
            heard += self._settle(smallest_ns)
        return heard

    def _settle(self, smallest_ns: float) -> list[Heard]:
        """Declare what the held blocks prove to be missing before them, and pass them on. Those
        after the one that was least late, or after another known loss, are judged afresh."""
        count = len(self._held)
        end = next((i for i in range(1, count) if self._held[i].suspect), count)
        missing_ns = min(self._late_ns[:end])
        end = self._late_ns.index(missing_ns) + 1
        heard: list[Heard] = []
        if missing_ns >= smallest_ns:
            heard += self._declare(missing_ns, self._expected or "overflow")
        elif missing_ns < 0:
            self._lower_edge(missing_ns)
        self._expected = None
        settled, later = self._held[:end], self._held[end:]
        self._held, self._late_ns = [], []
        for block in settled:
            heard.append(self._account(block))
        for block in later:
            heard += self.push(block)
        return heard

    def _pass(self, block: Block, late_ns: float) -> list[Heard]:
        """A block that is not suspicious, and before it what was lost unseen."""
        heard: list[Heard] = []
        if late_ns < 0:
            self._lower_edge(late_ns)
        if self._watch.push(block, max(late_ns, 0.0)):
            floor_ns, most_ns = self._watch.floor_ns, self._watch.audio_ns * CRYSTAL_ERROR
            if floor_ns > most_ns + SMALLEST_GAP_NS + ON_TIME_NS:
                heard += self._declare(floor_ns, "overflow")
            else:
                self._edge_ns += min(floor_ns, most_ns)
                self._drift += DRIFT_GAIN * self._watch.drift
                self._drift = max(-CRYSTAL_ERROR, min(self._drift, CRYSTAL_ERROR))
                self._watch = _Watch()
        return [*heard, self._account(block)]

    def _account(self, block: Block) -> Block:
        self.accounted_ns += block.duration_ns
        self._edge_ns += block.duration_ns * self._drift
        return block

    def _lower_edge(self, late_ns: float) -> None:
        """A block is earlier than any: the first ones were late, a crystal is fast, or, soon after
        a loss, too much was declared."""
        self._edge_ns += late_ns
        self._watch.lower(late_ns)
        if self._watch.after_loss:
            self._rest_ns += late_ns

    def _declare(self, missing_ns: float, reason: GapReason) -> list[Heard]:
        """A loss in whole milliseconds; the rest is declared together with the next one."""
        if missing_ns < SMALLEST_GAP_NS:
            return []
        duration_ms = max(0, round((missing_ns + self._rest_ns) / MS))
        undeclared_ns = missing_ns - duration_ms * MS
        self._rest_ns += undeclared_ns
        self._edge_ns += undeclared_ns
        self.accounted_ns += duration_ms * MS
        self._watch = _Watch(after_loss=True)
        return [Lost(duration_ms, reason)] if duration_ms else []


@dataclass
class _Watch:
    """Watches the edge for as long as a computer that keeps up needs for one block on time."""

    first: bool = False
    after_loss: bool = False
    floor_ns: float = math.inf  # the least that a block was late
    audio_ns: int = 0
    _blocks: int = 0
    _lowered_ns: float = 0.0

    def push(self, block: Block, late_ns: float) -> bool:
        """Whether this block is the last that is needed."""
        self.floor_ns = min(self.floor_ns, late_ns)
        self.audio_ns += block.duration_ns
        self._blocks += 1
        return self.audio_ns >= STEADY_NS and self._blocks >= STEADY_BLOCKS

    def lower(self, late_ns: float) -> None:
        """The edge was lowered, to a block."""
        self.floor_ns = 0.0
        self._lowered_ns += late_ns

    @property
    def drift(self) -> float:
        """Of the edge, where only a crystal moved it."""
        drift = (self.floor_ns + self._lowered_ns) / self.audio_ns
        return 0.0 if self.first or self.after_loss or abs(drift) > CRYSTAL_ERROR else drift


@dataclass
class SpeedCheck:
    """Notices a device whose clock runs away: far more audio than time.

    Audio that comes in a burst after a delay only makes up for it.
    """

    _last_ns: int | None = None
    _window_ends_ns: int = 0
    _excess_ns: int = 0  # audio without time, since the first block
    _most_ns: int = 0  # in this window
    _most_before_ns: int = 0

    def push(self, block: Block) -> bool:
        """Whether the device delivers audio impossibly fast."""
        if self._last_ns is not None:
            self._excess_ns += block.duration_ns - (block.at_ns - self._last_ns)
        self._last_ns = block.at_ns
        self._most_ns = max(self._most_ns, self._excess_ns)
        if block.at_ns > self._window_ends_ns:
            self._window_ends_ns = block.at_ns + RUNAWAY_WINDOW_NS
            self._most_before_ns, self._most_ns = self._most_ns, self._excess_ns
        return self._excess_ns - self._most_before_ns > RUNAWAY_NS


@dataclass
class SignalCheck:
    """Notices a microphone that is muted or dead: every sample the same, for seconds."""

    silent_after_ms: int = 2000
    is_silent: bool = False
    _flat_ns: int = 0

    def push(self, block: Block) -> Literal["silent", "signal"] | None:
        """What changed with ``block``, if anything did."""
        if len(block.samples) and np.ptp(block.samples, axis=0).any():
            was_silent, self.is_silent, self._flat_ns = self.is_silent, False, 0
            return "signal" if was_silent else None
        self._flat_ns += block.duration_ns
        if self.is_silent or self._flat_ns < self.silent_after_ms * MS:
            return None
        self.is_silent = True
        return "silent"
