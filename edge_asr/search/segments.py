"""From log-probabilities to events: the search, the endpoints, what is committed, both passes.

A segment is cut at the very frame in which the endpoint rule holds, so the hypotheses that go to
the second pass do not depend on the size of the encoder's steps. What is cut off waits, as a plain
value in the state, until its Final is collected: at once, or when a thread in the background has
read it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

import numpy as np

from edge_asr.backends import FloatArray
from edge_asr.errors import reason_of
from edge_asr.events import Alternative, Event, Final, Partial, Status
from edge_asr.package.units import Units
from edge_asr.search import Hypothesis, LogProbs, Search
from edge_asr.search.commit import committed_tokens
from edge_asr.search.decoding import Decoding
from edge_asr.search.endpoint import endpoint, held_tokens, segment_age_ms
from edge_asr.search.second_pass import Ranked, SecondPass, first_pass
from edge_asr.search.words import FrameClock, assemble_words

MAX_WAITING = 8  # segments; behind as many, the second pass is too slow to be waited for
CONTEXT_FRAMES = 25  # of silence that the decoders see before the first word of a segment
_LOOK_FRAMES = 8  # between two looks for an end in speech
_NOTHING = ("", "")
_LATE = "the decoders take too long"


@dataclass(frozen=True)
class Cut:
    """A segment that has ended and waits for its Final."""

    segment: int
    hypotheses: tuple[Hypothesis, ...]
    encoder_out: FloatArray  # (1, T', D)
    clock: FrameClock
    limit_ms: int  # no word ends later


@dataclass
class SegmentState:
    """The open segment, and those that wait. Plain values: a deep copy is a snapshot."""

    search: Search
    segment: int = 0
    committed: int = 0  # tokens of the best hypothesis
    shown: tuple[str, str] | None = None  # committed and tail of the last Partial, if any
    quiet_frames: int = 0  # blank up to now
    encoder_out: list[FloatArray] = field(default_factory=list)  # (T', D) of the open segment
    waiting: list[Cut] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)  # brought about, and not yet returned


class Segments:
    """What is done with the state of a stream. Of its own it has only the thread and its work."""

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
        self._rule = decoding.endpoint
        self._second_pass = second_pass
        self._in_background = second_pass is not None and decoding.second_pass != "inline"
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[int, Future[list[Ranked]]] = {}  # by segment
        self._process = os.getpid()  # the one that both are of

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

    def lose(self, state: SegmentState, until_frame: int) -> None:
        """Go on from ``until_frame`` after a search that failed on the way there."""
        state.encoder_out = []  # may not have what was searched
        state.search.skip(until_frame - state.search.frames)

    def flush(self, state: SegmentState, clock: FrameClock, end_ms: int) -> None:
        """Cut the open segment where it is."""
        self._cut(state, state.search.frames, clock, end_ms)

    def partials(self, state: SegmentState, clock: FrameClock, end_ms: int | None) -> None:
        """Add the Partial of the open segment to the events, if it says something new."""
        tokens = state.search.tokens()
        count = 0
        if tokens:
            rule = self._decoding.commit_rule
            held = held_tokens(tokens, self._frame_ms, self._rule)
            count = committed_tokens(state.search, tokens, held, self._units, self._frame_ms, rule)
        if count > state.committed:
            state.committed = count
            state.search.keep(count)
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
        end_ms: int | None,
        *,
        wait: bool,
        timeout_s: float | None = None,
    ) -> None:
        """Add to the events the Finals of the segments that have been read; of all that have ended
        if ``wait``, within ``timeout_s`` in all.

        Where the second pass fails, whatever it is, or is late, the first pass has the last word
        and a Status of now says so.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._leave_to_parent()
        if self._in_background:
            for cut in state.waiting:
                self._submit(cut)
        while state.waiting:
            cut = state.waiting[0]
            future = self._running.get(cut.segment)
            if future is not None and not wait and not future.done():
                break
            found: list[Event] = []
            ranked, obstacle = self._read(cut, future, until_s)
            if obstacle:
                at_ms = _ms(cut.clock, state.search.frames, end_ms)
                found.append(Status("recovered", f"no second pass: {obstacle}", at_ms))
            found.append(self._final(cut, ranked))
            state.events += found
            del state.waiting[0]
            self._running.pop(cut.segment, None)

    def forget(self) -> None:
        """Drop work under way, as its segments are no longer those of the state."""
        self._leave_to_parent()
        for future in self._running.values():
            future.cancel()
        self._running.clear()

    def close(self) -> None:
        """End the thread."""
        self.forget()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    def _leave_to_parent(self) -> None:
        """After a fork, know nothing of the thread and its work: they are the parent's, and whoever
        waited for them here, or for their locks, would wait for ever. What the segments are read
        from is in the state, so they are read again."""
        if self._process != os.getpid():
            self._pool, self._running, self._process = None, {}, os.getpid()

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

    def _submit(self, cut: Cut) -> None:
        if cut.segment not in self._running:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "edge-asr-second-pass")
            try:
                self._running[cut.segment] = self._pool.submit(self._rank, cut)
            except Exception:  # no thread can start: ``collect`` reads the segment itself
                self._pool = None

    def _read(
        self, cut: Cut, future: Future[list[Ranked]] | None, until_s: float | None
    ) -> tuple[list[Ranked], str]:
        """The texts of a segment, best first, and what kept the second pass from reading it, if
        anything did. What a thread reads is waited for until then, on the monotonic clock."""
        left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
        if future is not None and not wait_for([future], left_s).done:
            future.cancel()
            return first_pass(cut.hypotheses), _LATE
        try:
            if future is None:
                return self._rank(cut), ""
            failed = future.exception()  # a SystemExit of the thread is none of ours
            if failed is None:
                return future.result(), ""
        except Exception as error:
            failed = error
        return first_pass(cut.hypotheses), reason_of(failed)

    def _rank(self, cut: Cut) -> list[Ranked]:
        if self._second_pass is None:
            return first_pass(cut.hypotheses)
        return self._second_pass.rank(cut.hypotheses, cut.encoder_out)

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
        """Frames of silence that will end the open segment as it is, 1 if it is so old that any
        may; None if nothing was said."""
        tokens = state.search.tokens()
        if not tokens:
            return None
        age_ms = segment_age_ms(tokens, self._frame_ms)
        if age_ms >= self._rule.max_segment_ms:
            return 1
        return math.ceil(self._rule.needed_silence_ms(age_ms) / self._frame_ms)

    def _cut(self, state: SegmentState, frame: int, clock: FrameClock, end_ms: int | None) -> None:
        """Take what began before ``frame`` out of the search, to wait for its Final."""
        tokens = state.search.tokens()
        before = [token.id for token in tokens if token.start < frame]
        hypotheses = tuple(state.search.cut(frame))
        # A grammar may forbid that nothing is said. That alone makes silence no phrase.
        if not hypotheses or not self._units.text(before):
            hypotheses = (Hypothesis((), 0.0),)
        encoder_out = self._take_encoder_out(state, hypotheses, frame)
        if len(state.waiting) >= MAX_WAITING:
            encoder_out = encoder_out[:, :0]  # nothing to read: the first pass decides
        state.committed = 0
        text = self._text(hypotheses[0])
        if not text and self._units.text(token.id for token in tokens[len(before) :]):
            return  # what was shown lies after the cut, and stays this segment
        if state.shown is None:
            # What nobody has seen cannot turn out to be nothing.
            hypotheses = tuple(h for h in hypotheses if text and self._text(h))
        if hypotheses:
            limit_ms = _ms(clock, frame, end_ms)
            state.waiting.append(Cut(state.segment, hypotheses, encoder_out, clock, limit_ms))
            state.segment += 1
        state.shown = None

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

    def _final(self, cut: Cut, ranked: Sequence[Ranked]) -> Final:
        best = ranked[0].hypothesis
        words = assemble_words(best.tokens, self._units, cut.clock, cut.limit_ms, with_units=True)
        scores: dict[str, float] = {}
        for candidate in ranked if self._decoding.nbest > 1 else ():
            scores.setdefault(self._text(candidate.hypothesis), candidate.score)
        alternatives = [Alternative(text, score) for text, score in scores.items()]
        return Final(
            cut.segment,
            self._text(best) if words else "",
            words,
            words[0].start_ms if words else cut.limit_ms,
            words[-1].end_ms if words else cut.limit_ms,
            tuple(alternatives[: self._decoding.nbest]),
        )

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
