"""What ways of decoding cost: whole streams, the encoder included, in turns.

A clip is pushed in blocks as a microphone delivers them, without waiting, and flushed. All ways
play the same clips in each round, in an order that changes, so that a machine that slows down
slows all of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmark.replay import blocks, microphone_block_s
from edge_asr.audio.windows import ChunkMs
from edge_asr.bench.play import Clip
from edge_asr.fusion.hotword_text import Phrase
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer

Clock = Callable[[], float]


@dataclass(frozen=True)
class Played:
    """A way of decoding with its chunk."""

    chunk_ms: ChunkMs
    decoding: Decoding
    hotwords: Sequence[Phrase] = ()


@dataclass
class Speed:
    """Of one way: round by round, and in ms clip by clip."""

    rtfs: list[float] = field(default_factory=list)
    pushes_ms: list[float] = field(default_factory=list)  # the largest of each round
    flushes_ms: list[float] = field(default_factory=list)  # from the last push to the Final

    @property
    def rtf(self) -> float:
        """The median round."""
        return median(self.rtfs)

    @property
    def largest_push_ms(self) -> float:
        """The median round."""
        return median(self.pushes_ms)

    def final_ms(self, percent: float) -> float:
        """A percentile over all clips of all rounds."""
        return float(np.percentile(self.flushes_ms, percent))


def measure_speed(
    recognizer: Recognizer, ways: Sequence[Played], clips: Sequence[Clip], rounds: int
) -> list[Speed]:
    """``rounds`` of them after one that is thrown away.

    Raises:
        UsageError: see ``Recognizer.stream``.
    """
    speeds = [Speed() for _ in ways]
    order = list(range(len(ways)))
    for number in track(range(rounds + 1), "speed", console=Console(stderr=True), transient=True):
        random.Random(number).shuffle(order)
        for index in order:
            play_round(recognizer, ways[index], clips, speeds[index] if number else Speed())
    return speeds


def play_round(
    recognizer: Recognizer,
    way: Played,
    clips: Sequence[Clip],
    speed: Speed,
    clock: Clock = time.perf_counter,
) -> None:
    """Play all clips once and add what it took to ``speed``."""
    work_s, largest_s = 0.0, 0.0
    for clip in clips:
        with recognizer.stream(
            way.chunk_ms, hotwords=way.hotwords, decoding=way.decoding
        ) as stream:
            for block in blocks(clip, microphone_block_s()):
                began = clock()
                stream.push(block, clip.rate)
                took_s = clock() - began
                work_s, largest_s = work_s + took_s, max(largest_s, took_s)
            began = clock()
            stream.flush()
            took_s = clock() - began
        work_s += took_s
        speed.flushes_ms.append(took_s * 1000)
    speed.rtfs.append(work_s / sum(clip.duration_s for clip in clips))
    speed.pushes_ms.append(largest_s * 1000)
