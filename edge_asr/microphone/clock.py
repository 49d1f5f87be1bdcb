"""The time account of a microphone: wall time = audio passed on + declared gaps + queue.

**The model.** The last sample of a block is captured at ``origin + audio + lost``, by the device's
crystal. The block arrives after that, by a delay, and never before. So ``arrival - origin -
audio - declared`` is the sum of the delay, of what was lost and is not yet declared, and of what
the crystals differ by. Its lower edge is where blocks without a delay are. How far a block is
above the edge is how late it is.

**Why the account is exact.** Delays and losses both make blocks late, and differ in what follows.
What a buffer kept comes in a burst as soon as the callback runs again, and the last block of the
burst is on time. So one block on time proves that nothing was lost before it, however late
others were. What was lost never comes, and no block is on time again: the least late one of
those that follow is late by the loss. Four rules follow:

* A block that is on time, or a little late, passes.
* A block that is suspiciously late is held until one is on time: it was late. If none is, and
  the blocks do not catch up, the least late one says what is missing before it.
* Where a loss is certain (the driver reports an overflow, the capture process was started
  again) only its length is in question, and is measured in the same way.
* A loss too small for suspicion is found when no block is on time for seconds. The edge follows
  the crystals in the same way; below 7 ms, a loss that nobody reports is taken for their drift.

Every measure is from the edge, not from the measure before, so errors do not add up. If all
blocks are delayed for longer than one can wait, their delay is declared and turns out to be none
later, when a block comes too early. So much is kept back from the next loss. Whole milliseconds are
declared; the fraction is a part of the next loss.

Some drivers say how long the last sample of a block has waited in the device (ALSA to 0.3 ms).
A block that waited is late and need not be held. A driver that says it wrongly delays the
discovery of a loss, until the fourth rule. What the capture process drops, it counts in samples.
CLOCK_MONOTONIC stands still while the computer sleeps, and so does the account.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_asr.events import GapReason

MS = 1_000_000  # nanoseconds
SUSPICIOUS_NS = 80 * MS  # a block this late may be late, or audio before it may be missing
ON_TIME_NS = 2 * MS
BUFFER_NS = 200 * MS  # what a device keeps while the callback does not run: child.BUFFER_S
STEP_NS = 5 * MS  # more than what blocks differ by that are all on time
SETTLE_NS = 150 * MS  # blocks that are as late as each other for so long...
SETTLE_BLOCKS = 4  # ...and so many do not catch up...
SETTLE_UNSTEADY_NS = 500 * MS  # ...nor do others, if none was less late for so long
LONGEST_HOLD_NS = 1000 * MS
SMALLEST_GAP_NS = 2 * MS
STEADY_NS = 3000 * MS  # of so much audio, in so many blocks, one block is on time...
STEADY_BLOCKS = 40  # ...on a computer that keeps up
UNREAD_NS = 100 * MS  # at the end: two callbacks of the sound card
CRYSTAL_ERROR = 1e-3  # how far a sound card's clock may be off before it counts as loss
DRIFT_GAIN = 0.25  # of a measured drift, which is noisy


@dataclass(frozen=True)
class Block:
    """Audio as captured: samples (N, C) float32 at ``rate``.

    ``at_ns`` is the CLOCK_MONOTONIC time at which the block arrived. By the driver, its last
    sample had then waited for ``waited_ns`` (0 where it does not say). The driver knows of a loss
    before the block if ``overflow`` is set; the capture process dropped ``dropped`` samples there.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    at_ns: int
    overflow: bool = False
    dropped: int = 0
    waited_ns: int = 0

    @property
    def duration_ns(self) -> int:
        return len(self.samples) * 1_000_000_000 // self.rate


@dataclass(frozen=True)
class Lost:
    """Audio that will never come, to be declared to the stream at this place."""

    duration_ms: int
    reason: GapReason


Heard = Block | Lost


class _Watch(NamedTuple):
    """What has passed since the edge was last checked, or set."""

    edge_is_new: bool = False  # how it moves says nothing of the drift yet
    floor_ns: float = math.inf  # how late the least late block was
    lowered_ns: float = 0.0  # by how much blocks were early, by which the edge was lowered
    audio_ns: int = 0
    blocks: int = 0

    def push(self, audio_ns: int, late_ns: float) -> _Watch:
        early_ns = min(late_ns, 0.0)
        return _Watch(
            self.edge_is_new,
            min(self.floor_ns, late_ns) - early_ns,
            self.lowered_ns + early_ns,
            self.audio_ns + audio_ns,
            self.blocks + 1,
        )

    @property
    def is_over(self) -> bool:
        return self.audio_ns >= STEADY_NS and self.blocks >= STEADY_BLOCKS


_NEW_EDGE = _Watch(edge_is_new=True)


@dataclass(frozen=True)
class TimeAccount:
    """Puts every block in its place in time and finds what is missing between them.

    A value: each method returns the account after it, and blocks and losses between them that
    are now certain, in order.
    """

    origin_ns: int | None = None
    accounted_ns: int = 0  # passed on or declared
    declared_ns: int = 0
    _edge_ns: float = 0.0
    _drift: float = 0.0  # of the edge, per audio
    _rest_ns: float = 0.0  # lost and not yet declared; negative: declared and not lost
    _held: tuple[Block, ...] = ()
    _expected: GapReason | None = None  # there is a loss before the held blocks, or the next one
    _least_waited_ns: float = math.inf  # what any block waits, by this driver
    _watch: _Watch = _NEW_EDGE
    _certain: tuple[Heard, ...] = ()

    def push(self, block: Block) -> tuple[TimeAccount, list[Heard]]:
        """The next block of the device."""
        account = self
        if self.origin_ns is None:
            audio_ns = (block.dropped + len(block.samples)) * 1_000_000_000 // block.rate
            account = replace(self, origin_ns=block.at_ns - audio_ns)
        if block.dropped:
            account = account._release()
            late_ns = block.dropped * 1e9 / block.rate * (1 + account._drift)
            account = account._declare(late_ns, "overload")
        return account._take(block)._tell()

    def interrupt(self, reason: GapReason) -> tuple[TimeAccount, list[Heard]]:
        """No more audio comes from this capture: what was held back.

        What is missing until the next block, or until ``finish``, is lost for ``reason``.
        """
        return replace(self._release(), _expected=reason, _least_waited_ns=math.inf)._tell()

    def finish(self, now_ns: int, unread: GapReason) -> tuple[TimeAccount, list[Heard]]:
        """No more audio comes at all: what was held back, and what is missing until now.

        That is lost to the interruption, if there was one. Else it is what nobody read any more,
        for the reason ``unread``, unless it is no more than a block that is under way.
        """
        reason = None if self._held else self._expected
        account = self._release()
        if account.origin_ns is not None:
            missing_ns = account._late_ns(now_ns)
            if reason or missing_ns > UNREAD_NS:
                account = account._declare(missing_ns, reason or unread)
        return account._tell()

    def _tell(self) -> tuple[TimeAccount, list[Heard]]:
        return replace(self, _certain=()), list(self._certain)

    def _take(self, block: Block) -> TimeAccount:
        """Pass a block on or hold it."""
        if self._held and block.overflow and not self._expected:
            return self._release()._take(block)
        if block.waited_ns < self._least_waited_ns:
            return replace(self, _least_waited_ns=block.waited_ns)._take(block)
        if self._held:
            return replace(self, _held=(*self._held, block))._judge()
        expected: GapReason | None = self._expected or ("overflow" if block.overflow else None)
        if expected or self._is_suspicious(block):
            return replace(self, _held=(block,), _expected=expected)
        return self._pass(block)

    def _late_ns(self, at_ns: int, audio_ns: int = 0) -> float:
        """By how much a block is late that arrives after ``audio_ns`` more audio, itself included;
        negative if it is early."""
        assert self.origin_ns is not None
        edge_ns = self._edge_ns + audio_ns * self._drift
        return at_ns - self.origin_ns - self.accounted_ns - audio_ns - edge_ns

    def _is_suspicious(self, block: Block) -> bool:
        """Whether a block is later than it waited in the device, as far as its driver says."""
        waited_ns = block.waited_ns - self._least_waited_ns
        late_ns = self._late_ns(block.at_ns, block.duration_ns)
        return late_ns - min(waited_ns, BUFFER_NS) > SUSPICIOUS_NS

    def _held_late_ns(self) -> list[float]:
        late_ns, audio_ns = [], 0
        for block in self._held:
            audio_ns += block.duration_ns
            late_ns.append(self._late_ns(block.at_ns, audio_ns))
        return late_ns

    def _judge(self) -> TimeAccount:
        """Settle if the held blocks tell late from lost."""
        late_ns = self._held_late_ns()
        least_ns = min(late_ns)
        if not self._expected and least_ns < ON_TIME_NS:
            return self._settle()
        nearest = next(i for i, ns in enumerate(late_ns) if ns <= least_ns + ON_TIME_NS)
        steady = (
            len(late_ns) - nearest >= SETTLE_BLOCKS and max(late_ns[nearest:]) <= least_ns + STEP_NS
        )
        settle_ns = SETTLE_NS if steady else SETTLE_UNSTEADY_NS
        last_ns = self._held[-1].at_ns
        if (
            last_ns - self._held[nearest].at_ns >= settle_ns
            or last_ns - self._held[0].at_ns >= LONGEST_HOLD_NS
        ):
            return self._settle()
        return self

    def _settle(self) -> TimeAccount:
        """Declare what is missing before the held blocks, and pass them on up to the one that
        proves that it is no more, or to the next known loss. Those after it are judged on their
        own."""
        late_ns = self._held_late_ns()
        missing_ns = min(late_ns)
        end = late_ns.index(missing_ns) + 1
        # If the last ones are later still, the loss is after it, and those before are only late.
        settled_ns = self._held[-1].at_ns - SETTLE_NS
        last_ns = [ns for ns, b in zip(late_ns, self._held, strict=True) if b.at_ns >= settled_ns]
        only_late = missing_ns <= BUFFER_NS and min(last_ns) > missing_ns + STEP_NS
        end = next((i for i in range(1, end) if self._held[i].overflow), end)
        account = replace(self, _held=(), _expected=None)
        if self._expected or (missing_ns > SUSPICIOUS_NS and not only_late):
            account = account._declare(missing_ns, self._expected or "overflow")
        for block in self._held[:end]:
            account = account._pass(block)
        for block in self._held[end:]:
            account = account._take(block)
        return account

    def _release(self) -> TimeAccount:
        """Judge the held blocks now. What comes next, a known loss or the end, explains why they
        were late, unless there was a known loss before them too."""
        account = self._settle() if self._expected and self._held else self
        held, account = account._held, replace(account, _held=())
        for block in held:
            account = account._pass(block)
        return account

    def _pass(self, block: Block) -> TimeAccount:
        """A block that is not suspicious, and before it what was lost unseen."""
        account = self._follow() if self._watch.is_over else self
        late_ns = account._late_ns(block.at_ns, block.duration_ns)
        early_ns, rest_ns = min(late_ns, 0.0), account._rest_ns
        if early_ns < -STEP_NS:  # so much of what was declared was not lost
            rest_ns = max(rest_ns + early_ns, -account.declared_ns)
        return replace(
            account,
            accounted_ns=account.accounted_ns + block.duration_ns,
            _edge_ns=account._edge_ns + early_ns + block.duration_ns * account._drift,
            _rest_ns=rest_ns,
            _watch=account._watch.push(block.duration_ns, late_ns),
            _certain=(*account._certain, block),
        )

    def _follow(self) -> TimeAccount:
        """Move the edge to the least late of the blocks watched. Further than crystals can be off,
        it is a loss."""
        edge_is_new, floor_ns, lowered_ns, audio_ns, _ = self._watch
        most_ns = audio_ns * CRYSTAL_ERROR
        if floor_ns > most_ns + ON_TIME_NS + SMALLEST_GAP_NS:
            return self._declare(floor_ns, "overflow")
        floor_ns = min(floor_ns, most_ns)
        drift = self._drift
        if not edge_is_new and abs(floor_ns + lowered_ns) <= 2 * most_ns:
            drift += DRIFT_GAIN * (floor_ns + lowered_ns) / audio_ns
        drift = max(-CRYSTAL_ERROR, min(drift, CRYSTAL_ERROR))
        return replace(self, _edge_ns=self._edge_ns + floor_ns, _drift=drift, _watch=_Watch())

    def _declare(self, late_ns: float, reason: GapReason) -> TimeAccount:
        """Declare in whole milliseconds; the rest is declared together with the next loss."""
        if late_ns < SMALLEST_GAP_NS:
            return self
        lost_ns = late_ns / (1 + self._drift)
        duration_ms = max(0, round((lost_ns + self._rest_ns) / MS))
        return replace(
            self,
            accounted_ns=self.accounted_ns + duration_ms * MS,
            declared_ns=self.declared_ns + duration_ms * MS,
            _edge_ns=self._edge_ns + late_ns - duration_ms * MS,
            _rest_ns=self._rest_ns + lost_ns - duration_ms * MS,
            _watch=_NEW_EDGE,
            _certain=(*self._certain, Lost(duration_ms, reason)) if duration_ms else self._certain,
        )
