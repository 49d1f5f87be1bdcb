"""From log-probabilities to events: the search, the endpoints, what is committed, both passes.

A segment is cut at the very frame in which the endpoint rule holds, so the hypotheses that go to
the second pass do not depend on the size of the encoder's steps. What is cut off waits, as a plain
value in the state, until its Final is collected (segments_waiting.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_asr.backends import FloatArray
from edge_asr.events import Event, Partial
from edge_asr.package.units import Units
from edge_asr.search import Hypothesis, LogProbs, Search, Token
from edge_asr.search.commit import committed_tokens
from edge_asr.search.decoding import Decoding
from edge_asr.search.endpoint import endpoint, held_tokens, overdue_frame, segment_age_ms
from edge_asr.search.second_pass import SecondPass
from edge_asr.search.segments_waiting import Cut, WaitingSegments
from edge_asr.search.words import FrameClock, assemble_words

CONTEXT_FRAMES = 25  # of silence that the decoders see before the first word of a segment
_LOOK_FRAMES = 8  # between two looks for an end in speech
_NOTHING = ("", "")


@dataclass
class SegmentState:
    """The open segment, and those that wait. Plain values: a deep copy is a snapshot."""

    search: Search
    segment: int = 0
    committed: int = 0  # tokens of the best hypothesis
    shown: tuple[str, str] | None = None  # committed and tail of the last Partial, if any
    heard: tuple[Token, ...] = ()  # by the best hypothesis, after the last step or cut
    quiet_frames: int = 0  # blank up to now
    encoder_out: list[FloatArray] = field(default_factory=list)  # (T', D) of the open segment
    waiting: list[Cut] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)  # brought about, and not yet returned
    overdue: int = 0  # of these, from calls that raised


class Segments:
    """What is done with the state of a stream."""

    def __init__(
        self,
        units: Units,
        blank: int,
        frame_ms: float,
        decoding: Decoding,
        second_pass: SecondPass | None,
    ) -> None:
        self._units = units
        self._blank = blank
        self._frame_ms = frame_ms
        self._decoding = decoding
        self._rule = decoding.endpoint_rule
        self._second_pass = second_pass
        self._waiting = WaitingSegments(units, decoding, second_pass)

    def push(
        self,
        state: SegmentState,
        log_probs: LogProbs,
        encoder_out: FloatArray,
        clock: FrameClock,
        end_ms: int | None,
    ) -> bool:
        """Search on through log_probs (T', V) with encoder_out (T', D) and cut what ends there.

        Args:
            end_ms: the end of the audio, where frames may reach beyond it.

        Returns:
            Whether silence ended a segment, or went on for long, and nothing was said since.
        """
        quiet = log_probs[:, self._blank] > math.log(self._rule.blank_threshold)
        runs = _runs(quiet.tolist(), state.quiet_frames)
        searched, ended_in_silence = 0, False
        needed = self._needed_silence(state)
        for frame in self._frames_to_look_at(state, runs):
            count, quiet_frames = frame + 1, runs[frame]
            is_silence_since_look = quiet_frames >= count - searched
            if is_silence_since_look and not self._may_end(quiet_frames, needed):
                continue
            self._search(state, log_probs[searched:count], encoder_out[searched:count])
            searched, state.quiet_frames = count, quiet_frames
            ended_in_silence |= self._end_segment(state, clock, end_ms)
            needed = self._needed_silence(state)
        self._search(state, log_probs[searched:], encoder_out[searched:])
        state.quiet_frames = runs[-1] if runs else state.quiet_frames
        self._forget_encoder_out(state)
        return ended_in_silence and not state.search.tokens()

    def skip(self, state: SegmentState, frames: int) -> None:
        """Pass over frames for which the encoder gave no numbers."""
        state.search.skip(frames)
        if state.encoder_out:
            state.encoder_out.append(np.zeros((frames, state.encoder_out[0].shape[1]), np.float32))
            self._forget_encoder_out(state)

    def give_up(
        self,
        state: SegmentState,
        search: Search,
        frame: int,
        clock: FrameClock,
        end_ms: int | None,
    ) -> None:
        """After the search has failed on its way from ``frame``, end the open segment with what
        was heard before, and go on with ``search``, which is new."""
        best = Hypothesis(state.heard, 0.0)
        if state.shown is not None or self._text(best):
            # After a cut in the same step, more was heard.
            limit_ms = _ms(clock, max([frame, *(token.end for token in state.heard)]), end_ms)
            nothing_to_read = np.zeros((1, 0, 0), np.float32)
            state.waiting.append(Cut(state.segment, (best,), nothing_to_read, clock, limit_ms))
            state.segment += 1
        state.search, state.committed, state.quiet_frames = search, 0, 0
        state.shown, state.heard, state.encoder_out = None, (), []

    def flush(self, state: SegmentState, clock: FrameClock, end_ms: int) -> None:
        """Cut the open segment where it is."""
        self._cut(state, state.search.frames, clock, end_ms)

    def partials(self, state: SegmentState, clock: FrameClock, end_ms: int | None) -> None:
        """Add the Partial of the open segment to the events, if it says something new."""
        tokens = state.search.tokens()
        count, state.heard = 0, tuple(tokens)
        if tokens:
            rule = self._decoding.commit_rule
            held = held_tokens(tokens, self._frame_ms, self._rule)
            count = committed_tokens(state.search, tokens, held, self._units, self._frame_ms, rule)
        if count > state.committed:
            state.search.keep(count)
            state.committed = count
        text = self._units.text(token.id for token in tokens)
        committed = self._units.text(token.id for token in tokens[: state.committed])
        shown = committed, text[len(committed) :]
        if shown == (state.shown or _NOTHING):
            return
        at_ms = _ms(clock, state.search.frames, end_ms)
        words = assemble_words(tokens, self._units, clock, at_ms)
        state.events.append(Partial(state.segment, *shown, at_ms, words))
        state.shown = shown

    def collect(
        self,
        state: SegmentState,
        clock: FrameClock,
        end_ms: int | None,
        *,
        wait: bool,
        timeout_s: float = math.inf,
    ) -> None:
        """Add to the events the Finals of the segments that have been read; of all that have ended
        if ``wait``, within ``timeout_s`` in all."""
        at_ms = _ms(clock, state.search.frames, end_ms)
        self._waiting.collect(state.waiting, state.events, at_ms, wait=wait, timeout_s=timeout_s)

    def forget(self) -> None:
        """Drop work under way, as its segments are no longer those of the state."""
        self._waiting.forget()

    def _frames_to_look_at(self, state: SegmentState, runs: Sequence[int]) -> list[int]:
        """Of frames with ``runs`` (T',) of silence, those in which a segment might end: in silence
        all that are long enough; in speech some, whatever the size of steps."""
        shortest, first = self._rule.shortest_silence_ms, state.search.frames + 1
        return [
            frame
            for frame, run in enumerate(runs)
            if run * self._frame_ms >= shortest or (first + frame) % _LOOK_FRAMES == 0
        ]

    def _may_end(self, quiet_frames: int, needed: int | None) -> bool:
        """Whether so much silence may end what ``_needed_silence`` was asked about."""
        if needed is None:
            return quiet_frames % self._rule.nothing_said_frames(self._frame_ms) == 0
        return quiet_frames >= needed

    def _search(self, state: SegmentState, log_probs: LogProbs, encoder_out: FloatArray) -> None:
        """Search on, and keep for the second pass just what has been searched."""
        state.search.push(log_probs)
        if self._second_pass is not None:
            state.encoder_out.append(encoder_out)

    def _end_segment(self, state: SegmentState, clock: FrameClock, end_ms: int | None) -> bool:
        """Cut the open segment if it ends here; whether it did so in silence."""
        frame = endpoint(
            state.search.tokens(),
            state.search.frames,
            state.quiet_frames,
            state.committed,
            self._units,
            self._frame_ms,
            self._rule,
        )
        if frame is None:
            return False
        self._cut(state, frame, clock, end_ms)
        return frame == state.search.frames

    def _needed_silence(self, state: SegmentState) -> int | None:
        """Frames of silence that will end the open segment as it is, so many as there will be when
        it is so old that any may; None if nothing was said."""
        tokens = state.search.tokens()
        if not tokens:
            return None
        age_ms = segment_age_ms(tokens, self._frame_ms)
        if age_ms >= self._rule.max_segment_ms:
            return 1
        needed = math.ceil(self._rule.needed_silence_ms(age_ms) / self._frame_ms)
        overdue = overdue_frame(tokens, self._frame_ms, self._rule) - state.search.frames
        return max(1, min(needed, state.quiet_frames + overdue))

    def _cut(self, state: SegmentState, frame: int, clock: FrameClock, end_ms: int | None) -> None:
        """Take what began before ``frame`` out of the search, to wait for its Final."""
        tokens = state.search.tokens()
        before = [token.id for token in tokens if token.start < frame]
        hypotheses = tuple(state.search.cut(frame))
        # A grammar may forbid that nothing is said. That alone makes silence no phrase.
        if not hypotheses or not self._units.text(before):
            hypotheses = (Hypothesis((), 0.0),)
        encoder_out = self._take_encoder_out(state, hypotheses, frame)
        text = self._text(hypotheses[0])
        if not text and self._units.text(token.id for token in tokens[len(before) :]):
            state.committed = 0
            return  # what was shown lies after the cut, and stays this segment
        if state.shown is None:
            # What nobody has seen cannot turn out to be nothing.
            hypotheses = tuple(h for h in hypotheses if text and self._text(h))
        cuts, rest = [], tuple(tokens[len(before) :])
        if hypotheses:
            obstacle = self._waiting.obstacle(state.waiting)
            encoder_out = encoder_out[:, :0].copy() if obstacle else encoder_out
            limit_ms = _ms(clock, frame, end_ms)
            cuts = [Cut(state.segment, hypotheses, encoder_out, clock, limit_ms, obstacle)]
        # All at once: no call, in which a signal could interrupt.
        segment = state.segment + bool(cuts)
        state.waiting += cuts
        state.segment, state.shown, state.committed, state.heard = segment, None, 0, rest

    def _take_encoder_out(
        self, state: SegmentState, hypotheses: Sequence[Hypothesis], frame: int
    ) -> FloatArray:
        """What decoders are to see of a segment that is cut at ``frame``: (1, T', D)."""
        if not state.encoder_out:
            return np.zeros((1, 0, 0), np.float32)
        frames = np.concatenate(state.encoder_out)
        begin = state.search.frames - len(frames)
        starts = [hypothesis.tokens[0].start for hypothesis in hypotheses if hypothesis.tokens]
        first = max(begin, min(starts, default=begin) - CONTEXT_FRAMES)
        state.encoder_out = [frames[max(0, frame - begin) :].copy()]
        if starts and hypotheses[0].tokens and hypotheses[0].tokens[0].start < begin:
            return frames[None, :0]  # its beginning is forgotten
        return frames[None, first - begin : max(0, frame - begin)]

    def _forget_encoder_out(self, state: SegmentState) -> None:
        """Before a segment only its context is kept, however long the silence, and of a segment
        no more than decoders read, however long it goes on."""
        kept = CONTEXT_FRAMES
        if self._second_pass is not None and state.search.tokens():
            kept = max(kept, self._second_pass.spec.max_frames)
        if sum(len(part) for part in state.encoder_out) > kept + CONTEXT_FRAMES:
            frames = np.concatenate(state.encoder_out)
            state.encoder_out = [frames[-kept:].copy()]

    def _text(self, hypothesis: Hypothesis) -> str:
        return self._units.text(token.id for token in hypothesis.tokens)


def _runs(quiet: Sequence[bool], before: int) -> list[int]:
    """(T',) how many frames in a row were quiet, up to and with each; ``before`` preceded them."""
    runs, run = [], before
    for is_quiet in quiet:
        run = run + 1 if is_quiet else 0
        runs.append(run)
    return runs


def _ms(clock: FrameClock, frame: int, end_ms: int | None) -> int:
    at_ms = clock.ms(frame)
    return at_ms if end_ms is None else min(at_ms, end_ms)
