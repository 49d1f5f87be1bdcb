"""Clips played into a stream at the pace of speech, without waiting for it.

The clock of a clip is arithmetic. A block has arrived when its last sample was spoken; work on it
begins then, or when the work before it is done; it takes as long as it took here. So a clip of a
minute is played in the seconds that its decoding takes, and a machine that falls behind shows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_asr.audio.features import Samples
from edge_asr.audio.read import read_blocks
from edge_asr.backends import Decoder, DecoderScores, Encoder, EncoderStep, FloatArray, IntArray
from edge_asr.backends.state import State
from edge_asr.events import Event, Final, Partial
from edge_asr.streams.session import Stream

BLOCK_MS = 50  # what a microphone delivers at a time
_QUIET_AMPLITUDE = 1e-4  # -80 dB: a quiet room, since digital silence is in no recording
Clock = Callable[[], float]


@dataclass(frozen=True)
class Clip:
    """A recording: samples (N, C) at ``rate``."""

    samples: Samples
    rate: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate

    def with_quiet(self, quiet_s: float) -> Clip:
        """The clip, and the noise of a quiet room after it."""
        shape = round(quiet_s * self.rate), self.samples.shape[1]
        noise = np.random.default_rng(0).normal(0, _QUIET_AMPLITUDE, shape)
        return Clip(np.concatenate([self.samples, noise.astype(np.float32)]), self.rate)


def read_clip(path: str, limit_s: float) -> Clip:
    """The first ``limit_s`` seconds of a file.

    Raises:
        InputMissingError, AudioError: it cannot be read.
    """
    blocks: list[Samples] = []
    total_s = 0.0
    for block, rate in read_blocks(path, 1.0):  # at least one: an empty file is an error
        blocks.append(block)
        total_s += len(block) / rate
        if total_s >= limit_s:
            break
    return Clip(np.concatenate(blocks)[: math.ceil(limit_s * rate)], rate)


class TimedEncoder:
    """An encoder that keeps account of its time."""

    def __init__(self, encoder: Encoder, clock: Clock = time.perf_counter) -> None:
        self.spent_s = 0.0
        self.steps = 0
        self._encoder, self._clock = encoder, clock

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        began = self._clock()
        result = self._encoder.step(feats, offset, state)
        self.spent_s += self._clock() - began
        self.steps += 1
        return result


class TimedDecoder:
    """A decoder that keeps account of its time."""

    def __init__(self, decoder: Decoder, clock: Clock = time.perf_counter) -> None:
        self.spent_s = 0.0
        self._decoder, self._clock = decoder, clock

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``edge_asr.backends.Decoder``."""
        began = self._clock()
        result = self._decoder.score(hyps, hyp_lengths, encoder_out)
        self.spent_s += self._clock() - began
        return result


@dataclass
class Tally:
    """What was observed while clips were played."""

    audio_s: float = 0.0
    work_s: float = 0.0
    encoder_s: float = 0.0
    decoder_s: float = 0.0  # of the second pass
    push_ms: list[float] = field(default_factory=list)
    first_partial_ms: list[float] = field(default_factory=list)
    final_after_flush_ms: list[float] = field(default_factory=list)
    endpoint_ms: list[float] = field(default_factory=list)


def play(
    stream: Stream,
    encoder: TimedEncoder,
    clip: Clip,
    tally: Tally,
    clock: Clock = time.perf_counter,
) -> None:
    """Push the clip in blocks, flush, and add what happened to ``tally``.

    Args:
        stream: without a second pass in the background, whose time would not be seen.
        encoder: the one that ``stream`` uses.
    """
    block = clip.rate * BLOCK_MS // 1000
    encoder_before_s = encoder.spent_s
    heard: dict[int, list[tuple[float, Partial]]] = {}  # by segment: when, and what
    arrived_s = done_s = 0.0

    def observe(events: Sequence[Event], flushed: bool) -> None:
        for event in events:
            if isinstance(event, Partial):
                heard.setdefault(event.segment, []).append((done_s * 1000, event))
            elif isinstance(event, Final):
                partials = heard.pop(event.segment, [])
                if not event.words:
                    continue
                first = event.words[0]
                said = [ms for ms, partial in partials if partial.text.startswith(first.text)]
                tally.first_partial_ms.append([*said, done_s * 1000][0] - first.end_ms)
                if flushed:
                    tally.final_after_flush_ms.append((done_s - arrived_s) * 1000)
                else:
                    tally.endpoint_ms.append(done_s * 1000 - event.end_ms)

    for start in range(0, len(clip.samples), block):
        samples = clip.samples[start : start + block]
        steps_before, began = encoder.steps, clock()
        events = stream.push(samples, clip.rate)
        took_s = clock() - began
        arrived_s = min(start + block, len(clip.samples)) / clip.rate
        done_s = max(done_s, arrived_s) + took_s
        tally.work_s += took_s
        if encoder.steps > steps_before:
            tally.push_ms.append(took_s * 1000)
        observe(events, flushed=False)
    began = clock()
    events = stream.flush()
    took_s = clock() - began
    done_s = max(done_s, arrived_s) + took_s
    tally.work_s += took_s
    observe(events, flushed=True)
    tally.audio_s += clip.duration_s
    tally.encoder_s += encoder.spent_s - encoder_before_s
