"""One stream: samples in, events out.

    samples ─► Intake ─► filterbank ─► Windows ─► encoder ─► greedy search ─► endpoint ─► events

A *run* is the audio from the start, or from the last flush or gap, to the next one. Features,
encoder and search count from the origin of the run; the origin is counted from the beginning of
the stream. All counters are integers and none is ever reset to hide its growth.

Work is done when an encoder step is complete and at no other time, so the events and their order
are the same for any blocking of the same samples.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import get_args

import numpy as np
import numpy.typing as npt

from edge_asr.audio import MAX_CHANNELS, Intake, check_rate, check_samples
from edge_asr.backends import Encoder, State, zero_state
from edge_asr.endpoint import EndpointRule, ended_tokens
from edge_asr.errors import UsageError
from edge_asr.events import Event, Final, Gap, GapReason, Partial, Status
from edge_asr.features import FbankState, Samples, flush_samples, push_samples
from edge_asr.greedy_search import GreedySearch
from edge_asr.manifest import Manifest
from edge_asr.units import Units
from edge_asr.windows import Step, Windows
from edge_asr.words import FrameClock, assemble_words, last_word_start

COMMIT_AFTER_MS = 300  # without a new token the last word counts as complete


@dataclass
class SessionState:
    """Everything that a stream knows, as plain values: ``copy.deepcopy`` is a snapshot."""

    windows: Windows
    encoder: State
    encoder_frames: int = 0  # that ``encoder`` has seen; 0 means it is zeros
    fbank: FbankState = field(default_factory=FbankState)
    search: GreedySearch = field(default_factory=lambda: GreedySearch(0))
    intake: Intake | None = None
    waiting: list[Samples] = field(default_factory=list)  # for a step to become complete
    waiting_samples: int = 0
    origin_samples: int = 0  # of the run, since the stream began
    earlier_samples: int = 0  # of the run, from intakes before this one
    segment: int = 0
    committed_tokens: int = 0  # of search.tokens
    shown: tuple[str, str] = ("", "")  # committed and tail of the last Partial

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
        endpoint: EndpointRule | None = None,
    ) -> None:
        self._encoder = encoder
        self._features = manifest.features
        self._spec = manifest.encoder
        self._blank = manifest.units.blank
        self._units = units
        self._endpoint = endpoint or EndpointRule()
        self._frame_samples = self._features.shift_samples * self._spec.subsampling_rate
        self._frame_ms = self._frame_samples * 1000 / self._features.sample_rate
        self._closed = False
        self._state = SessionState(Windows(self._spec, chunk_frames), zero_state(self._spec))

    @property
    def state(self) -> SessionState:
        """``copy.deepcopy`` of it is a snapshot; assigning a snapshot goes back to it."""
        return self._state

    @state.setter
    def state(self, state: SessionState) -> None:
        self._state = copy.deepcopy(state)  # so that one snapshot serves many times

    @property
    def chunk_ms(self) -> int:
        """Audio that one encoder step reads."""
        return round(self._state.windows.chunk_frames * self._frame_ms)

    @property
    def position_ms(self) -> int:
        """Audio received and declared lost since the stream began."""
        return self._state.position_samples * 1000 // self._features.sample_rate

    def push(self, samples: npt.ArrayLike, sample_rate: int = 16000) -> list[Event]:
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
        block = _as_block(samples)
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
            return []
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
        events += self._finals(len(state.search.open_tokens), self.position_ms)
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
        self._state = SessionState(
            Windows(self._spec, before.windows.chunk_frames),
            zero_state(self._spec),
            origin_samples=origin_samples,
            segment=before.segment,
        )

    def _decode(self, steps: Sequence[Step], end_ms: int | None = None) -> list[Event]:
        """What ``steps`` bring about; at the end of a run, ``end_ms``, they reach behind it."""
        events: list[Event] = []
        state = self._state
        for step in steps:
            result = self._encoder.step(step.feats, state.encoder_frames, state.encoder)
            log_probs = result.log_probs[0, : step.keep]
            if np.isfinite(log_probs.max(axis=1)).all():
                state.encoder = result.state
                state.encoder_frames += step.keep
                state.search.push(log_probs)
            else:
                events.append(self._restart_encoder(step.keep))
            frames = state.search.frames
            while count := ended_tokens(
                state.search.open_tokens, frames, self._units, self._frame_ms, self._endpoint
            ):
                tokens = state.search.open_tokens
                limit = tokens[count].start if count < len(tokens) else frames
                events += self._finals(count, self._ms(limit, end_ms))
            events += self._partials(self._ms(frames, end_ms))
        return events

    def _restart_encoder(self, frames: int) -> Status:
        """Go on from zeros behind ``frames`` for which the encoder gave no numbers."""
        state = self._state
        state.encoder, state.encoder_frames = zero_state(self._spec), 0
        at_ms = self._clock().ms(state.search.frames)
        state.search.frames += frames
        state.search.last_id = None
        return Status("recovered", "the encoder gave no numbers and was started afresh", at_ms)

    def _clock(self) -> FrameClock:
        return FrameClock(
            self._state.origin_samples, self._frame_samples, self._features.sample_rate
        )

    def _ms(self, frame: int, end_ms: int | None) -> int:
        at_ms = self._clock().ms(frame)
        return at_ms if end_ms is None else min(at_ms, end_ms)

    def _partials(self, at_ms: int) -> list[Event]:
        """The Partial of the open segment if it says something new."""
        state = self._state
        tokens = state.search.open_tokens
        if not tokens:
            return []
        silence_ms = (state.search.frames - tokens[-1].end) * self._frame_ms
        complete = (
            len(tokens) if silence_ms >= COMMIT_AFTER_MS else last_word_start(tokens, self._units)
        )
        state.committed_tokens = max(state.committed_tokens, complete)
        text = self._units.text(token.id for token in tokens)
        committed = self._units.text(token.id for token in tokens[: state.committed_tokens])
        shown = committed, text[len(committed) :]
        if shown == state.shown:
            return []
        state.shown = shown
        return [Partial(state.segment, *shown, at_ms)]

    def _finals(self, count: int, limit_ms: int) -> list[Event]:
        """Turn the first ``count`` tokens into a Final, if they write anything."""
        state = self._state
        tokens = state.search.open_tokens[:count]
        del state.search.open_tokens[:count]
        state.committed_tokens = max(0, state.committed_tokens - count)
        words = assemble_words(tokens, self._units, self._clock(), limit_ms)
        if not words:
            return []
        text = self._units.text(token.id for token in tokens)
        final = Final(state.segment, text, words, words[0].start_ms, words[-1].end_ms)
        state.segment += 1
        state.shown = ("", "")
        return [final]


def _as_integer(value: int, what: str) -> int:
    """A Python integer, which never overflows, of any kind of integer."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise UsageError(f"{what} is {value!r:.80}; allowed are integers") from error


def _as_block(samples: npt.ArrayLike) -> Samples:
    """(N,) or (N, C), float or int16, as (N, C) float32."""
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise UsageError("samples are no array; allowed are (N,) and (N, C)") from error
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not 1 <= array.shape[1] <= MAX_CHANNELS:
        raise UsageError(
            f"samples of shape {np.shape(samples)}; allowed are (N,) and (N, C) with C up to "
            f"{MAX_CHANNELS}"
        )
    if array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(32768.0)
    if array.dtype == np.float32:
        return array.copy()
    if array.dtype.kind != "f":
        raise UsageError(f"samples of type {array.dtype}; allowed are float32 and int16")
    with np.errstate(over="ignore"):  # refused afterwards as infinite
        return array.astype(np.float32)
