"""A file or a pipe in the place of a microphone."""

from __future__ import annotations

import time

from edge_asr.audio.background import Background
from edge_asr.audio.raw import RawFormat
from edge_asr.audio.read import read_blocks
from edge_asr.microphone.capture import Notice, Opened
from edge_asr.microphone.clock import Block, Heard

BLOCK_S = 0.05  # what a microphone delivers at a time


class AudioFile:
    """Reads like a Microphone: as fast as it comes, or at the speed of speech.

    Raises (from here and from ``read``):
        InputMissingError, AudioError: as ``audio.read_blocks`` says.
    """

    def __init__(self, path: str, *, realtime: bool, raw: RawFormat | None = None) -> None:
        self.ended = False
        self.lag_ms = 0
        self._path = path
        self._realtime = realtime
        self._announced = False
        self._blocks = read_blocks(path, BLOCK_S, raw)
        self._next: Block | None = None
        self._began_ns = 0
        self._audio_ns = 0

    def read(self, timeout_s: float) -> list[Heard | Notice]:
        """The next block, or nothing if it is not yet there or due after ``timeout_s``."""
        if (
            self._next is None
            and isinstance(self._blocks, Background)
            and not self._blocks.wait(timeout_s)
        ):
            return []
        block, self._next = self._next or self._load(), None
        if block is None:
            self.ended = True
            return []
        if self._realtime:
            early_s = (block.at_ns - time.monotonic_ns()) / 1e9
            time.sleep(max(0.0, min(early_s, timeout_s)))
            if early_s > timeout_s:
                self._next = block
                return []
            self.lag_ms = round(max(0.0, -early_s) * 1000)
        if self._announced:
            return [block]
        self._announced = True
        opened = Opened(self._path, block.rate, block.samples.shape[1])
        return [Notice("listening", f"reading {opened.details}"), block]

    def close(self) -> list[Heard | Notice]:
        """Nothing is ever held back."""
        return []

    def _load(self) -> Block | None:
        samples, rate = next(self._blocks, (None, 0))
        if samples is None:
            return None
        self._began_ns = self._began_ns or time.monotonic_ns()
        self._audio_ns += len(samples) * 1_000_000_000 // rate
        return Block(samples, rate, self._began_ns + self._audio_ns)
