"""One stream: samples in, events out.

    samples ─► Intake ─► filterbank ─► Windows ─► encoder ─► Segments ─► events

A *run* is the audio from the start, or from the last flush or gap, to the next one. Features,
encoder and search count from the origin of the run; the origin is counted from the beginning of
the stream. All counters are integers and none is ever reset to hide its growth.

Work is done when an encoder step is complete and at no other time, so the events and their order
are the same for any blocking of the same samples; but for Finals that a second pass in the
background brings, which come when they are ready.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from edge_asr.audio.features import FbankState, Samples, flush_samples, push_samples
from edge_asr.audio.intake import Intake
from edge_asr.audio.samples import as_block, check_rate, check_samples
from edge_asr.audio.windows import ChunkMs, Step, Windows, chunk_frames, left_context_frames
from edge_asr.backends import Encoder, State, zero_state
from edge_asr.backends.left_context import limit_left_context
from edge_asr.errors import UsageError
from edge_asr.events import Event, Gap, GapReason, Status
from edge_asr.fusion import Fusion
from edge_asr.fusion.hotword_text import Phrase
from edge_asr.fusion.hotwords import Hotwords, LeftOut
from edge_asr.package.manifest import Manifest
from edge_asr.package.units import Units
from edge_asr.search.decoding import Decoding
from edge_asr.search.second_pass import SecondPass
from edge_asr.search.segments import Segments, SegmentState
from edge_asr.search.words import FrameClock


@dataclass
class SessionState:
    """Everything that a stream knows, as plain values: ``copy.deepcopy`` is a snapshot."""

    windows: Windows
    encoder: State
    text: SegmentState
    fusion: Fusion
    left_context: int  # frames that the encoder may look back
    encoder_frames: int = 0  # that ``encoder`` has seen; 0 means it is zeros
    fbank: FbankState = field(default_factory=FbankState)
    intake: Intake | None = None
    waiting: list[Samples] = field(default_factory=list)  # for a step to become complete
    waiting_samples: int = 0
    origin_samples: int = 0  # of the run, since the stream began
    earlier_samples: int = 0  # of the run, from intakes before this one

    @property
    def position_samples(self) -> int:
        """Audio received and declared lost since the stream began."""
        received = self.intake.received_out if self.intake else 0
        return self.origin_samples + self.earlier_samples + received


class Stream:
    """A stream of speech; made by ``Recognizer.stream``. Not for several threads at once."""

    def __init__(
        self,
        encoder: Encoder,
        manifest: Manifest,
        units: Units,
        chunk_frames: int,
        decoding: Decoding | None = None,
        second_pass: SecondPass | None = None,
        hotwords: Sequence[Phrase] = (),
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
        self._closed = False
        self._state = self._new_state(chunk_frames, Fusion(), self._spec.left_context, 0, 0)
        self.hotword_warnings = self.set_hotwords(hotwords)

    @property
    def state(self) -> SessionState:
        """``copy.deepcopy`` of it is a snapshot; assigning a snapshot goes back to it."""
        return self._state

    @state.setter
    def state(self, state: SessionState) -> None:
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

    def set_hotwords(self, hotwords: Sequence[Phrase]) -> tuple[str, ...]:
        """Expect these phrases from now on, the open segment included, and no others.

        Args:
            hotwords: phrases, or pairs of a phrase and its bonus; see ``edge_asr.fusion.hotwords``.

        Returns:
            A warning for each phrase that the units of the package cannot spell.

        Raises:
            UsageError: too many or too long phrases, or greedy search.
        """
        self._check_open()
        found: Hotwords | None = None
        left_out: tuple[LeftOut, ...] = ()
        if hotwords:
            found, left_out = Hotwords.build(hotwords, self._units, self._decoding.hotword_bonus)
        fusion = self._decoding.fusion(found)
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
        self._check_open()
        sample_rate = _as_integer(sample_rate, "sample rate")
        block = as_block(samples)
        check_rate(sample_rate, "push")
        check_samples(block, "push")
        if len(block) == 0:
            return []
        state = self._state
        intake = state.intake
        if intake is None or (intake.rate, intake.channels) != (sample_rate, block.shape[1]):
            self._end_intake()
            intake = Intake(sample_rate, block.shape[1], self._features.sample_rate)
            state.intake = intake
        self._wait_for_step(intake.push(block))
        missing = (state.windows.missing_frames - 1) * self._features.shift_samples
        missing += self._features.window_samples - len(state.fbank.pending)
        if state.waiting_samples < missing:
            return self._segments.collect(state.text, None, wait=False)
        return self._decode(state.windows.push(self._take_features()))

    def flush(self) -> list[Event]:
        """End the run: everything pushed is decoded and the open segment gets its Final.

        Audio may follow; it is decoded afresh and the clock goes on.

        Raises:
            UsageError: the stream is closed.
        """
        self._check_open()
        self._end_intake()
        state = self._state
        frames = np.concatenate([self._take_features(), flush_samples(state.fbank, self._features)])
        steps = [*state.windows.push(frames), *state.windows.flush()]
        events = self._decode(steps, self.position_ms)
        self._segments.flush(state.text, self._clock(), self.position_ms)
        events += self._segments.collect(state.text, self.position_ms, wait=True)
        self._begin_run(state.position_samples)
        return events

    def declare_gap(self, duration_ms: int, reason: GapReason) -> list[Event]:
        """Say that ``duration_ms`` of audio after what was pushed never arrived.

        Open words are finished as by ``flush``, and the clock moves on by the gap.

        Raises:
            UsageError: a negative duration, an unknown reason, or the stream is closed.
        """
        duration_ms = _as_integer(duration_ms, "gap in ms")
        if duration_ms < 0 or reason not in get_args(GapReason):
            raise UsageError(
                f"gap of {duration_ms} ms for {reason!r}; allowed are durations from 0 and the "
                f"reasons {', '.join(get_args(GapReason))}"
            )
        events = self.flush()
        start_ms = self.position_ms
        lost_samples = duration_ms * self._features.sample_rate // 1000
        self._begin_run(self._state.position_samples + lost_samples)
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

    def _wait_for_step(self, samples: Samples) -> None:
        if len(samples):
            self._state.waiting.append(samples)
            self._state.waiting_samples += len(samples)

    def _end_intake(self) -> None:
        """Take the rest out of the intake before its format changes or the run ends."""
        state = self._state
        if state.intake is not None:
            self._wait_for_step(state.intake.flush())
            state.earlier_samples += state.intake.received_out
            state.intake = None

    def _take_features(self) -> npt.NDArray[np.float32]:
        """Frames (T, F) of all samples that wait."""
        waiting, self._state.waiting, self._state.waiting_samples = self._state.waiting, [], 0
        samples = np.concatenate([*waiting, np.zeros(0, np.float32)])
        return push_samples(samples, self._state.fbank, self._features)

    def _begin_run(self, origin_samples: int) -> None:
        before = self._state
        self._state = self._new_state(
            before.windows.chunk_frames,
            before.fusion,
            before.left_context,
            origin_samples,
            before.text.segment,
        )

    def _new_state(
        self,
        chunk_frames: int,
        fusion: Fusion,
        left_context: int,
        origin_samples: int,
        segment: int,
    ) -> SessionState:
        search = self._decoding.new_search(self._manifest.units.blank, fusion)
        return SessionState(
            windows=Windows(self._spec, chunk_frames),
            encoder=zero_state(self._spec),
            text=SegmentState(search, segment),
            fusion=fusion,
            left_context=left_context,
            origin_samples=origin_samples,
        )

    def _decode(self, steps: Sequence[Step], end_ms: int | None = None) -> list[Event]:
        """What ``steps`` bring about; at the end of a run, ``end_ms``, they reach behind it."""
        events: list[Event] = []
        state, clock = self._state, self._clock()
        for step in steps:
            before = limit_left_context(state.encoder, self._spec, state.left_context)
            result = self._encoder.step(step.feats, state.encoder_frames, before)
            log_probs = result.log_probs[0, : step.keep]
            if np.isfinite(log_probs.max(axis=1)).all():
                state.encoder = result.state
                state.encoder_frames += step.keep
                encoder_out = result.encoder_out[0, : step.keep]
                rested = self._segments.push(state.text, log_probs, encoder_out, clock, end_ms)
                if rested and self._decoding.fresh_context:
                    state.encoder, state.encoder_frames = zero_state(self._spec), 0
            else:
                events.append(self._restart_encoder(step.keep))
            events += self._segments.collect(state.text, end_ms, wait=False)
            events += self._segments.partials(state.text, clock, end_ms)
        return events

    def _restart_encoder(self, frames: int) -> Status:
        """Go on from zeros behind ``frames`` for which the encoder gave no numbers."""
        state = self._state
        state.encoder, state.encoder_frames = zero_state(self._spec), 0
        at_ms = self._clock().ms(state.text.search.frames)
        self._segments.skip(state.text, frames)
        return Status("recovered", "the encoder gave no numbers and was started afresh", at_ms)

    def _clock(self) -> FrameClock:
        return FrameClock(
            self._state.origin_samples, self._manifest.frame_samples, self._features.sample_rate
        )


def _as_integer(value: Any, what: str) -> int:
    """A Python integer, which never overflows, of any kind of whole number."""
    try:
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return int(value)
        return operator.index(value)
    except TypeError as error:
        raise UsageError(f"{what} is {value!r:.80}; allowed are whole numbers") from error
