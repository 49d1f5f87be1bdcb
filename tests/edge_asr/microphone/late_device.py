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

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._sample_ns = 1e9 / RATE / (1 + self.ppm * 1e-6)
        self._captured_ns = self._free_ns = 1e15  # up to here; the thread can run from here on
        self._end_ns = self._captured_ns + self.seconds * 1e9
        self._calm_until_ns = self._captured_ns + self.calm_s * 1e9

    @property
    def _at_end(self) -> bool:
        return self._captured_ns > self._end_ns - self.calm_s * 1e9

    @property
    def _calm(self) -> bool:
        return self._at_end or self._captured_ns < self._calm_until_ns

    def items(self) -> Iterator[Block | GapReason]:
        """The blocks as the callback stamps them, and interruptions by their reason."""
        samples = np.zeros((round(RATE * self.block_ms / 1000), 1), np.float32)
        duration_ns = len(samples) * self._sample_ns
        while self._captured_ns < max(self._end_ns, self._calm_until_ns):
            overflow, dropped = False, 0
            if not self._calm and self._happens(self.pauses_per_min / 60):
                self._lose(self._chance.uniform(100, 900) * MS)
                overflow = self.flagged
            elif not self._calm and self._happens(self.drops_per_min / 60):
                dropped = self._lose(self._chance.uniform(100, 30_000) * MS)
            elif not self._calm and self._happens(self.restarts_per_min / 60):
                self._lose(self._chance.uniform(200, 5000) * MS)
                self._free_ns = self._captured_ns
                yield "unplugged"
            late_ns = self._late_ns()
            ready_ns = self._captured_ns + duration_ns
            taken_ns = max(ready_ns, self._free_ns, self._free_ns + late_ns)
            if taken_ns - self._captured_ns > BUFFER_NS:
                kept_ns = BUFFER_NS if self.full == "oldest" else 0
                self._lose(max(SMALLEST_LOSS_NS, taken_ns - self._captured_ns - kept_ns))
                taken_ns = max(taken_ns, self._captured_ns + duration_ns)
                overflow = self.flagged
            self._captured_ns += duration_ns
            self._free_ns = taken_ns + CALLBACK_NS
            waited_ns = self._waited_ns(taken_ns - self._captured_ns)
            yield Block(samples, RATE, round(self._free_ns), overflow, dropped, waited_ns)
            self.delivered += 1

    def _happens(self, per_s: float) -> bool:
        return self._chance.random() < per_s * self.block_ms / 1000

    def _lose(self, ns: float) -> int:
        """How many samples that are."""
        samples = round(ns / self._sample_ns)
        self._captured_ns += samples * self._sample_ns
        place, before_ms = self.delivered, 0.0
        if self._captured_ns < self._calm_until_ns:  # after another loss, which is not yet over
            place, before_ms = self.lost.pop()
        self.lost.append((place, before_ms + samples * 1000 / RATE))
        self._calm_until_ns = self._captured_ns + self.calm_s * 1e9
        return samples

    def _late_ns(self) -> float:
        """How long the thread does not run."""
        late_ns = self._chance.choice([0.0, self._chance.uniform(0, self.jitter_ms) * MS])
        if not self._at_end and self._happens(self.stalls_per_s):
            longest_ms = 190 if self._calm else self.longest_stall_ms
            late_ns = self._chance.uniform(50, longest_ms) * MS
        if self._calm or self.longest_stall_ms <= 190:  # never more than the buffer holds
            late_ns = min(late_ns, self._captured_ns + 0.95 * BUFFER_NS - self._free_ns)
        return late_ns

    def _waited_ns(self, waited_ns: float) -> int:
        if self.waits == "untold":
            return 0
        if self.waits == "wrong":
            waited_ns = sum(lost_ms for _, lost_ms in self.lost) * MS
        return round(waited_ns + 20 * MS + self._chance.uniform(0, 5) * MS)


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
