"""Encoder steps: which is next, what its result brings about, and what is done where one fails.

Whatever fails in whichever call, the clock goes on by the frames of the step, a Status says what
was lost, and what had been said before gets its Final.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from edge_asr.audio.windows import Windows
from edge_asr.backends import Encoder, EncoderStep, FloatArray
from edge_asr.backends.state import limit_left_context, zero_state
from edge_asr.errors import BackendError, UsageError, reason_of
from edge_asr.events import Status
from edge_asr.fusion import Fusion
from edge_asr.package.manifest import Manifest
from edge_asr.package.units import Units
from edge_asr.search import LogProbs, Search
from edge_asr.search.decoding import Decoding
from edge_asr.search.second_pass import SecondPass
from edge_asr.search.segments import Segments, SegmentState
from edge_asr.search.words import FrameClock
from edge_asr.streams.state import EncoderRequest, StreamState


class Steps:
    """What is done with the state of a stream, step by step."""

    def __init__(
        self,
        encoder: Encoder,
        manifest: Manifest,
        units: Units,
        decoding: Decoding,
        second_pass: SecondPass | None,
    ) -> None:
        self._encoder = encoder
        self._manifest = manifest
        self._features = manifest.features
        self._spec = manifest.encoder
        self._decoding = decoding
        self._blank = manifest.units.blank
        self.segments = Segments(units, self._blank, manifest.frame_ms, decoding, second_pass)
        chosen = decoding.fresh_context
        self._fresh_context = manifest.fresh_context if chosen is None else chosen

    def first_run(self, chunk_frames: int) -> StreamState:
        """The state at the beginning of a stream."""
        return StreamState(
            windows=Windows(self._spec, chunk_frames),
            encoder=zero_state(self._spec),
            text=SegmentState(self._decoding.new_search(self._blank, Fusion())),
            fusion=Fusion(),
            left_context=self._spec.left_context,
        )

    def next_run(self, state: StreamState, lost_samples: int = 0) -> StreamState:
        """The state at the beginning of the run that follows, ``lost_samples`` later."""
        return state.next_run(self._new_search(state, 0), lost_samples)

    def end_run(self, state: StreamState) -> Exception | None:
        """Make what is left of the run into steps. Returns what failed, and a Status said."""
        failed = state.cut_last_steps(self._features)
        state.end_ms = state.position_samples * 1000 // self._features.sample_rate
        if failed is not None:
            message = f"the end of the audio could not be read: {reason_of(failed)}"
            self._say(state, message, self._ms(state, state.text.search.frames))
        return failed

    def finish_run(self, state: StreamState, timeout_s: float) -> Exception | None:
        """Decode all that is left of the run and take out all Finals. Returns what failed first,
        and a Status said; all else was done."""
        unread, undecoded = self.end_run(state), self.decode(state)
        failed = unread or undecoded
        assert state.end_ms is not None
        try:
            with self._searching(state, 0):
                self.segments.flush(state.text, self._clock(state), state.end_ms)
        except Exception as error:
            failed = failed or error
        self.collect(state, wait=True, timeout_s=timeout_s)
        return failed

    def collect(
        self, state: StreamState, *, wait: bool = False, timeout_s: float = math.inf
    ) -> None:
        """Add the Finals of segments that have been read to the events; all if ``wait``."""
        self.segments.collect(
            state.text, self._clock(state), state.end_ms, wait=wait, timeout_s=timeout_s
        )

    def next_request(self, state: StreamState) -> EncoderRequest | None:
        """What the encoder is to be called with next; None until more audio is there."""
        state.cut_steps(self._features)
        if not state.steps:
            return None
        encoder = limit_left_context(state.encoder, self._spec, state.left_context)
        return EncoderRequest(state.steps[0].feats, state.frames_seen_by_encoder, encoder)

    def decode(self, state: StreamState) -> Exception | None:
        """Decode all steps that are complete. Returns what failed first, and a Status said; the
        rest was decoded all the same."""
        failed: Exception | None = None
        while True:
            try:
                request = self.next_request(state)
                if request is None:
                    return failed
                result = self._encoder.step(request.feats, request.offset, request.state)
            except Exception as error:
                failed = failed or error
                if not state.steps:
                    return failed  # the audio still waits, and the next call reads it
                taking = self.take_failure(state, error)
            else:
                taking = self.take(state, result)
            failed = failed or taking

    def take(self, state: StreamState, result: EncoderStep) -> Exception | None:
        """Go on with what the encoder gave for the next step. Returns what failed, and a Status
        said.

        Raises:
            UsageError: there is no next step.
        """
        keep, clock = _frames_of_next_step(state), self._clock(state)
        try:
            log_probs, encoder_out = _frames(result, keep)
        except Exception as error:
            self.take_failure(state, error)
            return error
        if not result.is_finite(keep):
            return self._pass_over(state, "the encoder gave no numbers and was started afresh")
        try:
            with self._searching(state, keep):
                state.encoder = result.state
                state.frames_seen_by_encoder += keep
                is_pause = self.segments.push(
                    state.text, log_probs, encoder_out, clock, state.end_ms
                )
        except Exception as error:
            self._tell(state)
            return error
        if is_pause and self._fresh_context:
            state.restart_encoder()
        return self._tell(state)

    def take_failure(self, state: StreamState, error: Exception) -> Exception | None:
        """Go on without a result for the next step, from zeros. Returns what failed on the way.

        Raises:
            UsageError: there is no next step.
        """
        return self._pass_over(state, f"the encoder failed: {reason_of(error)}")

    def _pass_over(self, state: StreamState, message: str) -> Exception | None:
        keep, failed = _frames_of_next_step(state), None
        state.restart_encoder()
        self._say(state, message, self._ms(state, state.text.search.frames))
        try:
            with self._searching(state, keep):
                self.segments.skip(state.text, keep)
        except Exception as error:
            failed = error
        return failed or self._tell(state)

    def _tell(self, state: StreamState) -> Exception | None:
        """Add to the events what there is to say after a step. Returns what failed; the next step
        says it then."""
        self.collect(state)
        try:
            self.segments.partials(state.text, self._clock(state), state.end_ms)
        except Exception as error:
            return error
        return None

    @contextlib.contextmanager
    def _searching(self, state: StreamState, frames: int) -> Iterator[None]:
        """Search through the next step, which is taken out, or through none if ``frames`` is 0.
        Where anything fails inside, the open segment ends with what was heard before and a new
        search begins ``frames`` later, so that the clock is exact."""
        begin, clock = state.text.search.frames, self._clock(state)
        rest = state.steps[1:] if frames else state.steps
        try:
            yield
            state.steps = rest
        except BaseException as error:
            state.steps = rest
            search = self._new_search(state, begin + frames)
            self.segments.give_up(state.text, search, begin, clock, state.end_ms)
            message = f"the search failed: {reason_of(error)}"
            self._say(state, message, self._ms(state, begin))
            raise

    def _new_search(self, state: StreamState, frames: int) -> Search:
        """A search from ``frames`` on. Automata that cannot begin are left out until the next."""
        try:
            search = self._decoding.new_search(self._blank, state.fusion)
        except Exception:
            search = self._decoding.new_search(self._blank, Fusion())
        search.frames = frames
        return search

    @staticmethod
    def _say(state: StreamState, message: str, at_ms: int) -> None:
        state.text.events.append(Status("recovered", message, at_ms))

    def _ms(self, state: StreamState, frame: int) -> int:
        """When a frame begins, or the audio ends."""
        at_ms = self._clock(state).ms(frame)
        return at_ms if state.end_ms is None else min(at_ms, state.end_ms)

    def _clock(self, state: StreamState) -> FrameClock:
        return FrameClock(
            state.origin_samples, self._manifest.frame_samples, self._features.sample_rate
        )


def _frames_of_next_step(state: StreamState) -> int:
    if not state.steps:
        raise UsageError("no step waits for a result; call next_step before take")
    return state.steps[0].keep


def _frames(result: EncoderStep, keep: int) -> tuple[LogProbs, FloatArray]:
    """Log-probabilities (T', V) and encoder_out (T', D) of the frames that count.

    Raises:
        BackendError: there are fewer.
    """
    log_probs, encoder_out = result.log_probs[0, :keep], result.encoder_out[0, :keep]
    if not len(log_probs) == len(encoder_out) == keep:
        given = min(len(log_probs), len(encoder_out))
        raise BackendError(f"the encoder gave {given} frames of {keep}; check its program")
    return log_probs, encoder_out
