"""A device, and the thread that its callback runs in, without real time: late, never early."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge_asr.events import GapReason
from edge_asr.microphone.clock import MS, Block

RATE = 16000
CALLBACK_NS = MS // 10
BUFFER_NS = 190 * MS  # what the device holds while the thread is late


@dataclass
class LateDevice:
    """Delivers blocks for ``seconds``; ``lost_ms`` are the losses so far, whole blocks all of them.

    Args:
        ppm: how much slower than ours its clock is.
        stalls_per_s: how often the thread stops, for up to as long as the buffer allows.
        jitter_ms: the most that a callback is late without a stall; every second one is not.
        losses_per_min: of ``smallest_loss_ms`` up to 3 s; the driver says so, if it is ``honest``.
    """

    block_ms: int
    seconds: int
    ppm: int = 0
    stalls_per_s: float = 0.0
    jitter_ms: float = 0.0
    losses_per_min: float = 0.0
    smallest_loss_ms: int = 100
    honest: bool = False
    seed: int = 0
    lost_ms: list[int] = field(default_factory=list)

    def blocks(self) -> Iterator[Block]:
        """The blocks, stamped as the callback stamps them."""
        chance = random.Random(self.seed)
        samples = np.zeros((RATE * self.block_ms // 1000, 1), np.float32)
        period_ns = self.block_ms * MS * (1 + self.ppm * 1e-6)
        captured_ns, free_ns = 1e15, 0.0
        calm_until_ns = captured_ns + 5e9  # losses are not nearer to each other than this
        per_block = self.block_ms / 1000
        for left in range(self.seconds * 1000 // self.block_ms, 0, -1):
            lost = 0
            if left * self.block_ms < 5000:  # a calm end, at which nothing is undecided
                self.stalls_per_s = self.losses_per_min = 0.0
            if captured_ns > calm_until_ns and chance.random() < (
                self.losses_per_min / 60 * per_block
            ):
                calm_until_ns = captured_ns + 5e9
                lost = chance.randint(-(-self.smallest_loss_ms // self.block_ms), 60)
                self.lost_ms.append(lost * self.block_ms)
            captured_ns += (1 + lost) * period_ns
            free_ns = max(free_ns, captured_ns) + CALLBACK_NS
            if chance.random() < self.stalls_per_s * per_block:
                stall_ns = chance.uniform(50, 190) * MS
                free_ns = max(free_ns, min(free_ns + stall_ns, captured_ns + BUFFER_NS))
            elif chance.random() < 0.5:
                free_ns += chance.uniform(0, self.jitter_ms) * MS
            suspect: GapReason | None = "overflow" if lost and self.honest else None
            yield Block(samples, RATE, round(free_ns), suspect)
