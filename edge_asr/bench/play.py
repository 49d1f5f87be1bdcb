"""Clips played into a stream at the pace of speech, without waiting for it.

The clock of a clip is arithmetic. A block has arrived when its last sample was spoken; work on it
begins then, or when the work before it is done; it takes as long as it took here. So a clip of a
minute is played in the seconds that its decoding takes, and a machine that falls behind shows.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_asr.audio.features import Samples
from edge_asr.audio.read import read_blocks
from edge_asr.audio.recordings import Utterance
from edge_asr.backends import Decoder, DecoderScores, Encoder, EncoderStep, FloatArray, IntArray
from edge_asr.backends.state import State
from edge_asr.events import Event, Final, Partial
from edge_asr.streams.stream import Stream

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


def read_clips(paths: Iterable[str], audio_s: float) -> list[Clip]:
    """The first ``audio_s`` seconds of the files, one after another.

    Raises:
        InputMissingError, AudioError: a file cannot be read.
    """
    clips: list[Clip] = []
    total_s = 0.0
    for path in paths:
        if total_s >= audio_s:
            break
        clips.append(read_clip(path, audio_s - total_s))
        total_s += clips[-1].duration_s
    return clips


def choose_clips(utterances: Sequence[Utterance], audio_s: float) -> list[Clip]:
    """``audio_s`` seconds of the utterances, of any speakers: lists are often sorted by them.

    Raises:
        InputMissingError, AudioError: a recording cannot be read.
    """
    chosen = random.Random(0).sample(list(utterances), len(utterances))
    return read_clips((str(utterance.path) for utterance in chosen), audio_s)


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


class _Listener:
    """Who hears a clip, with the clock of it: notes into a tally when events come."""

    def __init__(self, tally: Tally) -> None:
        self.arrived_s = 0.0  # audio that was spoken
        self._done_s = 0.0  # when the work on it was done
        self._tally = tally
        self._partials: dict[int, list[tuple[float, Partial]]] = {}  # by segment, with their ms

    def worked(self, took_s: float) -> None:
        """Work on what has arrived took so long."""
        self._done_s = max(self._done_s, self.arrived_s) + took_s
        self._tally.work_s += took_s

    def hear(self, events: Sequence[Event], flushed: bool = False) -> None:
        """Events that this work brought."""
        for event in events:
            if isinstance(event, Partial):
                partials = self._partials.setdefault(event.segment, [])
                partials.append((self._done_s * 1000, event))
            elif isinstance(event, Final):
                self._hear_final(event, flushed)

    def _hear_final(self, final: Final, flushed: bool) -> None:
        partials = self._partials.pop(final.segment, [])
        if not final.words:
            return
        done_ms, first = self._done_s * 1000, final.words[0]
        shown_ms = [ms for ms, partial in partials if partial.text.startswith(first.text)]
        self._tally.first_partial_ms.append([*shown_ms, done_ms][0] - first.end_ms)
        if flushed:
            self._tally.final_after_flush_ms.append((self._done_s - self.arrived_s) * 1000)
        else:
            self._tally.endpoint_ms.append(done_ms - final.end_ms)


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
    listener = _Listener(tally)
    for start in range(0, len(clip.samples), block):
        samples = clip.samples[start : start + block]
        steps_before, began = encoder.steps, clock()
        events = stream.push(samples, clip.rate)
        took_s = clock() - began
        listener.arrived_s = min(start + block, len(clip.samples)) / clip.rate
        listener.worked(took_s)
        if encoder.steps > steps_before:
            tally.push_ms.append(took_s * 1000)
        listener.hear(events)
    began = clock()
    events = stream.flush()
    listener.worked(clock() - began)
    listener.hear(events, flushed=True)
    tally.audio_s += clip.duration_s
    tally.encoder_s += encoder.spent_s - encoder_before_s
