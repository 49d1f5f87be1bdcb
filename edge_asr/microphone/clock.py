"""The time account of a microphone: wall time = audio passed on + declared gaps + queue.

What was lost is computed from the monotonic clock that the capture process stamps on every
block, never from the driver's overflow flag: the flag says that something was lost, not how
much, and most losses raise no flag at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_asr.events import GapReason

MS = 1_000_000  # nanoseconds
SUSPICIOUS_NS = 80 * MS  # a block this late may be late, or audio before it may be missing
SETTLE_NS = 150 * MS  # late audio arrives in a burst, so after this much the rest is missing
SMALLEST_GAP_NS = 2 * MS
UNREAD_NS = 100 * MS  # at the end: two callbacks of the sound card
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

    ``behind`` is how much less audio there is than time has passed. Callbacks come late, never
    early, so the truth is its lower edge; the edge may creep, because crystals differ, and a
    step up is a loss. A suspicious block is held back until later blocks tell late from lost.
    """

    origin_ns: int | None = None
    accounted_ns: int = 0  # passed on or declared
    _edge_ns: float = 0.0
    _held: list[Block] = field(default_factory=list)
    _least_ns: float = 0.0  # the least that we were behind since the first held block
    _expected: GapReason | None = None  # the next block comes after a known interruption

    def push(self, block: Block) -> list[Heard]:
        """Blocks, and losses between them, that are now certain; in order."""
        if self.origin_ns is None:
            self.origin_ns = block.at_ns - block.duration_ns
        held_ns = sum(held.duration_ns for held in self._held)
        behind_ns = self._behind_ns(block.at_ns) - held_ns - block.duration_ns
        if self._held:
            self._held.append(block)
            self._least_ns = min(self._least_ns, behind_ns)
            return self._judge()
        suspect = self._expected or block.suspect
        if suspect or behind_ns - self._edge_ns > SUSPICIOUS_NS:
            self._expected = suspect
            self._held = [block]
            self._least_ns = behind_ns
            return []
        self._edge_ns = min(behind_ns, self._edge_ns + block.duration_ns * CRYSTAL_ERROR)
        self.accounted_ns += block.duration_ns
        return [block]

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
            missing_ns = self._behind_ns(now_ns) - self._edge_ns
            if reason or missing_ns > UNREAD_NS:
                heard += self._declare(missing_ns, reason or unread)
        return heard

    def flush(self) -> list[Heard]:
        """What was held back, judged by what is known now."""
        return self._settle() if self._held else []

    def _behind_ns(self, at_ns: int) -> int:
        return at_ns - (self.origin_ns or 0) - self.accounted_ns

    def _judge(self) -> list[Heard]:
        known = self._expected is not None
        caught_up = self._least_ns - self._edge_ns < SUSPICIOUS_NS / 4
        if (caught_up and not known) or self._held[-1].at_ns - self._held[0].at_ns >= SETTLE_NS:
            return self._settle()
        return []

    def _settle(self) -> list[Heard]:
        """Declare what the held blocks prove to be missing before them and pass them on."""
        heard = self._declare(self._least_ns - self._edge_ns, self._expected or "overflow")
        held, self._held, self._expected = self._held, [], None
        for index, block in enumerate(held):
            if index > 0 and block.suspect:  # a second loss while the first was judged
                for later in held[index:]:
                    heard += self.push(later)
                return heard
            self.accounted_ns += block.duration_ns
            heard.append(block)
        return heard

    def _declare(self, missing_ns: float, reason: GapReason) -> list[Heard]:
        duration_ms = round(missing_ns / MS)
        if missing_ns < SMALLEST_GAP_NS:
            return []
        self.accounted_ns += duration_ms * MS
        return [Lost(duration_ms, reason)]


@dataclass
class SpeedCheck:
    """Notices a device whose clock runs away: far more audio than time."""

    _began_ns: int | None = None
    _audio_ns: int = 0

    def push(self, block: Block) -> bool:
        """Whether the device delivers audio impossibly fast."""
        if self._began_ns is None or block.at_ns - self._began_ns > RUNAWAY_WINDOW_NS:
            self._began_ns, self._audio_ns = block.at_ns, 0
            return False
        self._audio_ns += block.duration_ns
        return self._audio_ns - (block.at_ns - self._began_ns) > RUNAWAY_NS


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
