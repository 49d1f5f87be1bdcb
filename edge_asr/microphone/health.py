"""Whether a microphone that delivers audio delivers what it should: sound, at the speed of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_asr.microphone.clock import MS, Block

RUNAWAY_NS = 1000 * MS  # more audio than wall time, by this much...
RUNAWAY_WINDOW_NS = 10_000 * MS  # ...within this long


@dataclass
class SpeedCheck:
    """Notices a device whose clock runs away: far more audio than time.

    Audio that comes in a burst after a delay only makes up for it.
    """

    _ahead_ns: float = 0.0  # audio without time, of which a tenth of the time is forgotten
    _last_ns: int | None = None

    def push(self, block: Block) -> bool:
        """Whether the device delivers audio impossibly fast."""
        if self._last_ns is not None:
            passed_ns = block.at_ns - self._last_ns
            forgotten_ns = passed_ns * RUNAWAY_NS / RUNAWAY_WINDOW_NS
            ahead_ns = self._ahead_ns + block.duration_ns - passed_ns
            self._ahead_ns = ahead_ns - min(max(ahead_ns, -forgotten_ns), forgotten_ns)
        self._last_ns = block.at_ns
        return self._ahead_ns > RUNAWAY_NS


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
