"""One stream: samples in, events out.

    samples ─► Intake ─► filterbank ─► Windows ─► encoder ─► Segments ─► events

A *run* is the audio from the start, or from the last flush or gap, to the next one. Features,
encoder and search count from the origin of the run; the origin is counted from the beginning of
the stream. All counters are integers and none is ever reset to hide its growth.

Work is done when an encoder step is complete and at no other time, so the events and their order
are the same for any blocking of the same samples; but for Finals that a second pass in the
background brings, which come when they are ready.

``push`` calls the encoder for one stream. To call it once for several streams, use the parts that
``push`` is made of: ``feed`` takes audio in, ``next_step`` says what the encoder should be called
with, ``take`` goes on with the result. One step per stream and call of the encoder: the result of a
step may restart the encoder before the next.
"""

from __future__ import annotations

import copy
import operator
from types import TracebackType
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from edge_asr.audio.samples import as_block, check_rate, check_samples
from edge_asr.audio.windows import ChunkMs, Windows, chunk_frames, left_context_frames
from edge_asr.backends import Encoder, EncoderStep
from edge_asr.backends.state import limit_left_context, zero_state
from edge_asr.errors import UsageError, shown
from edge_asr.events import Event, Gap, GapReason, Status
from edge_asr.fusion import Fusion
from edge_asr.fusion.hotword_text import Phrases, listed_phrases
from edge_asr.fusion.hotwords import Hotwords, LeftOut
from edge_asr.package.manifest import Manifest
from edge_asr.package.units import Units
from edge_asr.search.decoding import Decoding
from edge_asr.search.second_pass import SecondPass
from edge_asr.search.segments import Segments, SegmentState
from edge_asr.search.words import FrameClock
from edge_asr.streams.state import EncoderRequest, StreamState


class Stream:
    """A stream of speech; made by ``Recognizer.stream``. Not for several threads at once.

    Attributes:
        hotword_warnings: one for each of its first hotwords that the units of the package cannot
            spell.
    """

    hotword_warnings: tuple[str, ...]

    def __init__(
        self,
        encoder: Encoder,
        manifest: Manifest,
        units: Units,
        chunk_frames: int,
        decoding: Decoding | None = None,
        second_pass: SecondPass | None = None,
        hotwords: Phrases = (),
    ) -> None:
        self._encoder = encoder
        self._manifest = manifest
        self._features = manifest.features
        self._spec = manifest.encoder
        self._units = units
        self._decoding = decoding or Decoding()
        self._segments = Segments(
            units, manifest.units.blank, manifest.frame_ms, self._decoding, second_pass
        )
        chosen = self._decoding.fresh_context
        self._fresh_context = manifest.fresh_context if chosen is None else chosen
        self._closed = False
        self._state = StreamState(
            windows=Windows(self._spec, chunk_frames),
            encoder=zero_state(self._spec),
            text=SegmentState(self._decoding.new_search(manifest.units.blank, Fusion())),
            fusion=Fusion(),
            left_context=self._spec.left_context,
        )
        self.hotword_warnings = self.set_hotwords(hotwords)

    @property
    def state(self) -> StreamState:
        """``copy.deepcopy`` of it is a snapshot; assigning a snapshot goes back to it."""
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        self._segments.forget()  # what it reads may not be the same segments
        self._state = copy.deepcopy(state)  # so that one snapshot serves many times

    @property
    def chunk_ms(self) -> int:
        """Audio that one encoder step reads."""
        return round(self._state.windows.chunk_frames * self._manifest.frame_ms)

    @property
    def position_ms(self) -> int:
        """Audio received and declared lost since the stream began."""
        return self._state.position_samples * 1000 // self._features.sample_rate

    def set_chunk_ms(self, chunk_ms: ChunkMs) -> None:
        """From the next encoder step on, read this much audio in one; see ``Recognizer.stream``.
        Audio that was fed and not yet decoded may keep the old size of steps.

        Raises:
            UsageError: not a multiple of the encoder frame, or outside the program's bounds.
        """
        self._check_open()
        self._state.windows.chunk_frames = chunk_frames(self._manifest, chunk_ms)

    def set_left_context_ms(self, left_context_ms: int) -> None:
        """From the next encoder step on, let the encoder look back no further than this. Frames
        that were out of sight do not come back; a larger context fills as audio comes.

        Raises:
            UsageError: not a multiple of the encoder frame, more than the program has, or the
                package does not say how.
        """
        self._check_open()
        frames = left_context_frames(self._manifest, left_context_ms)
        limit_left_context(self._state.encoder, self._spec, frames)  # raises if it cannot
        self._state.left_context = frames

    def set_hotwords(self, hotwords: Phrases) -> tuple[str, ...]:
        """Expect these phrases from now on, the open segment included, and no others.

        Args:
            hotwords: phrases, or pairs of a phrase and its bonus, or a mapping of phrases to their
                bonuses; see ``edge_asr.fusion.hotwords``.

        Returns:
            A warning for each phrase that the units of the package cannot spell.

        Raises:
            UsageError: another type, too many or too long phrases, or greedy search.
        """
        self._check_open()
        automaton: Hotwords | None = None
        left_out: tuple[LeftOut, ...] = ()
        if phrases := listed_phrases(hotwords):
            automaton, left_out = Hotwords.build(phrases, self._units, self._decoding.hotword_bonus)
        fusion = self._decoding.fusion(automaton)
        self._state.fusion = fusion
        self._state.text.search.set_fusion(fusion)
        return tuple(f"hotword {phrase!r} is left out: {reason}" for phrase, reason in left_out)

    def push(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> list[Event]:
        """Take in audio and return what it brought about, oldest first.

        Args:
            samples: (N,) or (N, C), float in [-1, 1) or int16. Format and rate may change.

        Raises:
            UsageError: another shape or type, or the stream is closed.
            AudioError: NaN, infinite or unscaled samples, or a rate that speech does not have.
                Nothing was taken in then.
        """
        self.feed(samples, sample_rate)
        return self._decode() or self._segments.collect(self._state.text, None, wait=False)

    def flush(self) -> list[Event]:
        """End the run: everything pushed is decoded and the open segment gets its Final.

        Audio may follow; it is decoded afresh and the clock goes on.

        Raises:
            UsageError: the stream is closed.
        """
        self.end_run()
        events = self._decode()
        state = self._state
        self._segments.flush(state.text, self._clock(), self.position_ms)
        events += self._segments.collect(state.text, self.position_ms, wait=True)
        self._begin_run()
        return events

    def feed(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> None:
        """Take in audio as ``push`` does, but leave the decoding to ``next_step`` and ``take``.

        Raises:
            UsageError, AudioError: see ``push``; and where ``end_run`` was called without a flush.
        """
        self._check_open()
        if self._state.end_ms is not None:
            raise UsageError("this run has ended; flush the stream before more audio")
        sample_rate = _as_integer(sample_rate, "sample_rate", "sample rate")
        block = as_block(samples)
        check_rate(sample_rate, "push")
        check_samples(block, "push")
        if len(block):
            self._state.add_block(block, sample_rate, self._features)

    def end_run(self) -> None:
        """Let ``next_step`` return what is left of the run, padded at its end. ``flush`` must
        follow, and does this itself where it was not done.

        Raises:
            UsageError: the stream is closed.
        """
        self._check_open()
        self._state.cut_last_steps(self._features)
        self._state.end_ms = self.position_ms

    def next_step(self) -> EncoderRequest | None:
        """What the encoder should be called with next, or None until more audio is fed. The same
        step again until ``take`` is called.

        Raises:
            UsageError: the stream is closed.
        """
        self._check_open()
        state = self._state
        state.cut_steps(self._features)
        if not state.steps:
            return None
        encoder = limit_left_context(state.encoder, self._spec, state.left_context)
        return EncoderRequest(state.steps[0].feats, state.frames_seen_by_encoder, encoder)

    def take(self, result: EncoderStep) -> list[Event]:
        """Go on with what the encoder gave for ``next_step``; what it brought about, oldest first.

        Raises:
            UsageError: there was no next step, or the stream is closed.
        """
        self._check_open()
        state, clock = self._state, self._clock()
        if not state.steps:
            raise UsageError("no step waits for a result; call next_step before take")
        keep = state.steps.pop(0).keep
        log_probs = result.log_probs[0, :keep]
        events: list[Event] = []
        if result.is_finite(keep):
            state.encoder = result.state
            state.frames_seen_by_encoder += keep
            encoder_out = result.encoder_out[0, :keep]
            is_pause = self._segments.push(state.text, log_probs, encoder_out, clock, state.end_ms)
            if is_pause and self._fresh_context:
                state.restart_encoder()
        else:
            events.append(self._pass_over(keep))
        events += self._segments.collect(state.text, state.end_ms, wait=False)
        events += self._segments.partials(state.text, clock, state.end_ms)
        return events

    def declare_gap(self, duration_ms: int, reason: GapReason) -> list[Event]:
        """Say that ``duration_ms`` of audio after what was pushed never arrived.

        Open words are finished as by ``flush``, and the clock moves on by the gap.

        Raises:
            UsageError: a negative duration, an unknown reason, or the stream is closed.
        """
        duration_ms = _as_integer(duration_ms, "duration_ms", "gap in ms")
        _check_gap(duration_ms, reason)
        events = self.flush()
        start_ms = self.position_ms
        self._begin_run(lost_samples=duration_ms * self._features.sample_rate // 1000)
        return [*events, Gap(start_ms, self.position_ms, reason)]

    def close(self) -> None:
        """Refuse further audio. Does not flush: the events would have nowhere to go."""
        self._closed = True
        self._segments.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("this stream is closed; open another one with recognizer.stream()")

    def _begin_run(self, lost_samples: int = 0) -> None:
        search = self._decoding.new_search(self._manifest.units.blank, self._state.fusion)
        self._state = self._state.next_run(search, lost_samples)

    def _decode(self) -> list[Event]:
        """Decode all steps that are complete."""
        events: list[Event] = []
        try:
            while (request := self.next_step()) is not None:
                result = self._encoder.step(request.feats, request.offset, request.state)
                events += self.take(result)
        finally:  # where a step fails, it and those after it are lost, and audio may follow
            self._state.steps.clear()
            self._state.end_ms = None
        return events

    def _pass_over(self, frames: int) -> Status:
        """Go on from zeros after ``frames`` for which the encoder gave no numbers."""
        state = self._state
        state.restart_encoder()
        at_ms = self._clock().ms(state.text.search.frames)
        self._segments.skip(state.text, frames)
        return Status("recovered", "the encoder gave no numbers and was started afresh", at_ms)

    def _clock(self) -> FrameClock:
        return FrameClock(
            self._state.origin_samples, self._manifest.frame_samples, self._features.sample_rate
        )


def _check_gap(duration_ms: int, reason: object) -> None:
    reasons = ", ".join(get_args(GapReason))
    message = (
        f"gap of {duration_ms} ms for {shown(reason)}; allowed are durations from 0 and the "
        f"reasons {reasons}"
    )
    if duration_ms < 0:
        raise UsageError(
            message, field="duration_ms", value=duration_ms, allowed="durations from 0"
        )
    if not isinstance(reason, str) or reason not in get_args(GapReason):
        raise UsageError(message, field="reason", value=reason, allowed=reasons)


def _as_integer(value: Any, field: str, what: str) -> int:
    """A Python integer, which never overflows, of any kind of whole number; ``what`` names the
    setting in a message."""
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError("a number to Python, but nobody means it")
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return int(value)
        return operator.index(value)
    except TypeError as error:
        allowed = "whole numbers"
        message = f"{what} is {shown(value)}; allowed are {allowed}"
        raise UsageError(message, field=field, value=value, allowed=allowed) from error
