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
from types import TracebackType

import numpy.typing as npt

from edge_asr.audio.samples import as_block, check_rate, check_samples
from edge_asr.audio.windows import ChunkMs, chunk_frames, left_context_frames
from edge_asr.backends import Encoder, EncoderStep
from edge_asr.backends.state import limit_left_context
from edge_asr.errors import UsageError
from edge_asr.events import Event, Gap, GapReason
from edge_asr.fusion.hotword_text import Phrases, listed_phrases
from edge_asr.fusion.hotwords import Hotwords, LeftOut
from edge_asr.package.manifest import Manifest
from edge_asr.package.units import Units
from edge_asr.search.decoding import Decoding
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.arguments import as_integer, as_timeout_s, check_gap
from edge_asr.streams.state import EncoderRequest, StreamState
from edge_asr.streams.steps import Steps

MAX_OVERDUE = 256  # events of calls that raised


class Stream:
    """A stream of speech; made by ``Recognizer.stream``. Not for several threads at once.

    Where something fails, ``push``, ``flush``, ``declare_gap`` and ``take`` do the rest of their
    work and then raise the first error: the clock has counted the audio that was lost, a Status
    says which it was, and the next call returns what this one could not; ``push([])`` is such a
    call. Where one call after the other fails and more than ``MAX_OVERDUE`` events wait, the next
    returns them and does not raise.

    Only an error while audio is taken in leaves all as it was, and ``position_ms`` where it was.

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
        self._manifest = manifest
        self._features = manifest.features
        self._units = units
        self._decoding = decoding or Decoding()
        self._steps = Steps(encoder, manifest, units, self._decoding, second_pass)
        self._state = self._steps.first_run(chunk_frames)
        self._closed = False
        self.hotword_warnings = self.set_hotwords(hotwords)

    @property
    def state(self) -> StreamState:
        """``copy.deepcopy`` of it is a snapshot; assigning a snapshot goes back to it."""
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        own = copy.deepcopy(state)  # so that one snapshot serves many times
        self._steps.segments.forget()  # what it reads may not be the same segments
        self._state = own

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
        spec = self._manifest.encoder
        limit_left_context(self._state.encoder, spec, frames)  # raises if it cannot
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
        search = copy.deepcopy(self._state.text.search)
        search.set_fusion(fusion)  # which may fail on the way
        self._state.fusion, self._state.text.search = fusion, search
        return tuple(f"hotword {phrase!r} is left out: {reason}" for phrase, reason in left_out)

    def push(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> list[Event]:
        """Take in audio and return what it brought about, oldest first.

        Args:
            samples: (N,) or (N, C), float in [-1, 1) or int16. Format and rate may change.

        Raises:
            UsageError: another shape or type, or the stream is closed.
            AudioError: NaN, infinite or unscaled samples, or a rate that speech does not have.
                Nothing was taken in then.
            BackendError: the encoder failed; see the class.
        """
        self.feed(samples, sample_rate)
        failed = self._steps.decode(self._state)
        self._steps.collect(self._state)
        return self._return(failed)

    def flush(self, *, timeout_s: float | None = None) -> list[Event]:
        """End the run: everything pushed is decoded and the open segment gets its Final.

        Audio may follow; it is decoded afresh and the clock goes on.

        Args:
            timeout_s: how long to wait for a second pass in the background; segments that it has
                not read by then get the text of the first pass, and a Status says so. 0 waits for
                nothing; None is as long as a Final may take at all,
                ``edge_asr.search.segments_waiting.DEADLINE_S``.

        Raises:
            UsageError: a timeout below 0, or the stream is closed.
            BackendError: the encoder failed; see the class.
        """
        timeout_s = as_timeout_s(timeout_s)
        self._check_open()
        failed = self._steps.finish_run(self._state, timeout_s)
        self._state = self._steps.next_run(self._state)
        return self._return(failed)

    def feed(self, samples: npt.ArrayLike, sample_rate: float = 16000) -> None:
        """Take in audio as ``push`` does, but leave the decoding to ``next_step`` and ``take``.

        Raises:
            UsageError, AudioError: see ``push``; and where ``end_run`` was called without a flush.
        """
        self._check_open()
        if self._state.end_ms is not None:
            raise UsageError("this run has ended; flush the stream before more audio")
        sample_rate = as_integer(sample_rate, "sample_rate", "sample rate")
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
        if failed := self._steps.end_run(self._state):
            raise failed

    def next_step(self) -> EncoderRequest | None:
        """What the encoder should be called with next, or None until more audio is fed. The same
        step again until ``take`` is called.

        Raises:
            UsageError: the stream is closed.
        """
        self._check_open()
        return self._steps.next_request(self._state)

    def take(self, result: EncoderStep) -> list[Event]:
        """Go on with what the encoder gave for ``next_step``; what it brought about, oldest first.

        Raises:
            UsageError: there was no next step, or the stream is closed.
            BackendError: it is not of all frames; as for other errors, see the class.
        """
        self._check_open()
        return self._return(self._steps.take(self._state, result))

    def take_failure(self, error: Exception) -> list[Event]:
        """Go on without a result for ``next_step``, where the encoder raised ``error``: its audio
        is lost, and a Status says so.

        Raises:
            UsageError: there was no next step, or the stream is closed.
        """
        self._check_open()
        return self._return(self._steps.take_failure(self._state, error))

    def declare_gap(
        self, duration_ms: int, reason: GapReason, *, timeout_s: float | None = None
    ) -> list[Event]:
        """Say that ``duration_ms`` of audio after what was pushed never arrived.

        Open words are finished as by ``flush``, and the clock moves on by the gap.

        Args:
            timeout_s: see ``flush``.

        Raises:
            UsageError: a negative duration or timeout, an unknown reason, or the stream is closed.
            BackendError: the encoder failed; see the class.
        """
        duration_ms = as_integer(duration_ms, "duration_ms", "gap in ms")
        check_gap(duration_ms, reason)
        timeout_s = as_timeout_s(timeout_s)
        self._check_open()
        failed = self._steps.finish_run(self._state, timeout_s)
        start_ms, lost_samples = self.position_ms, duration_ms * self._features.sample_rate // 1000
        self._state = self._steps.next_run(self._state, lost_samples)
        self._state.text.events.append(Gap(start_ms, self.position_ms, reason))
        return self._return(failed)

    def close(self) -> None:
        """Refuse further audio. Does not flush: the events would have nowhere to go."""
        self._closed = True
        self._steps.segments.forget()

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

    def _return(self, failed: Exception | None) -> list[Event]:
        """What was brought about and not yet returned. Where something failed, it is kept."""
        text = self._state.text
        if failed is not None and text.overdue <= MAX_OVERDUE:
            text.overdue = len(text.events)
            raise failed
        events, text.events, text.overdue = text.events, [], 0
        return events
