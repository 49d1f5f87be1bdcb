"""A device, its buffer, and the thread that its callback runs in, without real time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edge_asr.events import GapReason
from edge_asr.microphone.clock import MS, Block, Heard, Lost, TimeAccount

RATE = 16000
CALLBACK_NS = MS // 10
BUFFER_NS = 200 * MS
SMALLEST_LOSS_NS = 20 * MS


@dataclass
class LateDevice:
    """Delivers blocks for ``seconds``; ``lost`` has (blocks before it, milliseconds) of each loss.

    A sample is captured at its time by the device's crystal. The thread takes a block as soon as
    it is complete and the thread runs; then the blocks that wait come in a burst.

    Args:
        ppm: how much faster than ours the device's crystal is.
        jitter_ms: the most that a callback is late without a stall.
        stalls_per_s: how often the thread stops for 50 ms to ``longest_stall_ms``.
        longest_stall_ms: up to 190 ms the buffer holds what is captured meanwhile.
        full: a full buffer loses all that it has, as in ALSA, or the oldest, as in PulseAudio.
        flagged: the driver says so.
        pauses_per_min: how often the device captures nothing, for 100 ms to 900 ms.
        drops_per_min: how often the capture process drops 100 ms to 30 s.
        restarts_per_min: how often the capture process starts again; 0.2 s to 5 s are lost.
        calm_s: without losses at the start, at the end, and between two.
        waits: what the driver says of how long a block has waited: nothing, the truth and its own
            latency and noise, or the sum of all losses: a driver that counts samples.
    """

    block_ms: float
    seconds: float
    ppm: float = 0
    jitter_ms: float = 0.0
    stalls_per_s: float = 0.0
    longest_stall_ms: float = 190.0
    full: Literal["all", "oldest"] = "all"
    flagged: bool = True
    pauses_per_min: float = 0.0
    drops_per_min: float = 0.0
    restarts_per_min: float = 0.0
    waits: Literal["untold", "told", "wrong"] = "untold"
    calm_s: float = 5.0
    seed: int = 0
    lost: list[tuple[int, float]] = field(default_factory=list)
    delivered: int = 0  # blocks

    def items(self) -> Iterator[Block | GapReason]:
        """The blocks as the callback stamps them, and interruptions by their reason."""
        chance = random.Random(self.seed)
        samples = np.zeros((round(RATE * self.block_ms / 1000), 1), np.float32)
        sample_ns = 1e9 / RATE / (1 + self.ppm * 1e-6)
        duration_ns = len(samples) * sample_ns
        captured_ns = free_ns = began_ns = 1e15
        calm_until_ns = began_ns + self.calm_s * 1e9

        def happens(per_s: float) -> bool:
            return chance.random() < per_s * self.block_ms / 1000

        def lose(ns: float) -> int:
            nonlocal captured_ns, calm_until_ns
            lost = round(ns / sample_ns)
            captured_ns += lost * sample_ns
            place, before_ms = self.delivered, 0.0
            if captured_ns < calm_until_ns:  # after another loss, which is not yet over
                place, before_ms = self.lost.pop()
            self.lost.append((place, before_ms + lost * 1000 / RATE))
            calm_until_ns = captured_ns + self.calm_s * 1e9
            return lost

        end_ns = began_ns + self.seconds * 1e9
        while captured_ns < max(end_ns, calm_until_ns):
            at_end = captured_ns > end_ns - self.calm_s * 1e9
            calm = at_end or captured_ns < calm_until_ns
            overflow, dropped = False, 0
            if not calm and happens(self.pauses_per_min / 60):
                lose(chance.uniform(100, 900) * MS)
                overflow = self.flagged
            elif not calm and happens(self.drops_per_min / 60):
                dropped = lose(chance.uniform(100, 30_000) * MS)
            elif not calm and happens(self.restarts_per_min / 60):
                lose(chance.uniform(200, 5000) * MS)
                free_ns = captured_ns
                yield "unplugged"
            late_ns = chance.choice([0.0, chance.uniform(0, self.jitter_ms) * MS])
            if not at_end and happens(self.stalls_per_s):
                late_ns = chance.uniform(50, self.longest_stall_ms if not calm else 190) * MS
            if calm or self.longest_stall_ms <= 190:  # never more than the buffer holds
                late_ns = min(late_ns, captured_ns + 0.95 * BUFFER_NS - free_ns)
            taken_ns = max(captured_ns + duration_ns, free_ns, free_ns + late_ns)
            if taken_ns - captured_ns > BUFFER_NS:
                kept_ns = BUFFER_NS if self.full == "oldest" else 0
                lose(max(SMALLEST_LOSS_NS, taken_ns - captured_ns - kept_ns))
                taken_ns = max(taken_ns, captured_ns + duration_ns)
                overflow = self.flagged
            captured_ns += duration_ns
            free_ns = taken_ns + CALLBACK_NS
            waited_ns = self._waited_ns(taken_ns - captured_ns, chance)
            yield Block(samples, RATE, round(free_ns), overflow, dropped, waited_ns)
            self.delivered += 1

    def _waited_ns(self, waited_ns: float, chance: random.Random) -> int:
        if self.waits == "untold":
            return 0
        if self.waits == "wrong":
            waited_ns = sum(lost_ms for _, lost_ms in self.lost) * MS
        return round(waited_ns + 20 * MS + chance.uniform(0, 5) * MS)


def account_of(device: LateDevice) -> tuple[list[Heard], TimeAccount]:
    """What an account says of a device."""
    account, heard = TimeAccount(), []
    for item in device.items():
        account, certain = (
            account.push(item) if isinstance(item, Block) else account.interrupt(item)
        )
        heard += certain
    account, certain = account.interrupt("stalled")
    return heard + certain, account


def gaps(heard: list[Heard]) -> list[tuple[int, int]]:
    """(blocks before it, milliseconds) of each loss that was declared."""
    found, blocks = [], 0
    for item in heard:
        if isinstance(item, Lost):
            found.append((blocks, item.duration_ms))
        else:
            blocks += 1
    return found
