"""Streams whose audio says at each sample which unit is to be heard, so that the Finals of any
pushes, gaps and faults can be told from the samples alone.

A sample is the number of a unit. The filterbank, the resampler and the encoder of such a stream
take single samples and are cheap; everything else is real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

import edge_asr.audio.features
import edge_asr.audio.intake
from edge_asr.backends import DecoderScores, EncoderStep
from edge_asr.backends.state import State
from edge_asr.events import Event, Final, Gap, Status
from edge_asr.package.manifest import FeatureSpec
from edge_asr.package.units import Units
from edge_asr.search.decoding import Decoding, SecondPassMode
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.prefix import PrefixSearch
from edge_asr.search.readers import Readers
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, ENCODER, MANIFEST, RATE, Samples

UNITS = Units(("<blank>", "▁a", "▁b", "c"))
SPEC = msgspec.structs.replace(ENCODER, vocab_size=len(UNITS.symbols), encoder_dim=1)
SPOKEN = msgspec.structs.replace(MANIFEST, encoder=SPEC, features=FeatureSpec(num_mel_bins=1))
ROOMY = msgspec.structs.replace(DECODER, max_hyps=10, max_units=256, max_frames=1024)
HASTY = EndpointRule(
    silence_ms=480,
    relax_from_ms=400,
    max_segment_ms=1200,
    min_silence_ms=120,
    hold_ms=400,
    cut_words_from_ms=1600,
)
FRAME, SHIFT, WINDOW = 640, 160, 400  # samples
SCALE = 8  # a sample is a unit by it
MAX_CHUNK = 16
# What may fail, by the name that faults have.
SEARCH = ("push", "skip", "tokens", "agreed", "keep", "cut")
CALLS = ("encoder", "decoder", "resample", "log_mel", *SEARCH)


class Interrupted(BaseException):
    """As a signal, from whatever is being done."""


class Faults:
    """Counts the calls of each name; ``at`` says which calls fail, and with what."""

    def __init__(self, at: dict[tuple[str, int], BaseException] | None = None) -> None:
        self.at, self.armed = at or {}, True
        self.calls, self.raised = Counter[str](), Counter[str]()

    def __call__(self, name: str) -> None:
        if self.armed:
            self.calls[name] += 1
            if error := self.at.get((name, self.calls[name])):
                self.raised[name] += 1
                raise error


@dataclass
class Timeline:
    """A stream, what was done to it, and what it said."""

    stream: Stream
    faults: Faults
    mode: SecondPassMode
    events: list[Event] = field(default_factory=list)
    spoken: list[tuple[str, int]] = field(default_factory=list)  # symbols, and the ms of each
    position: int = 0  # samples
    raised: int = 0
    run: list[int] = field(default_factory=list)  # a unit for each frame of this run
    run_begin: int = 0
    around: Callable[[Callable[[], list[Event]]], list[Event]] = lambda call: call()

    def push(self, samples: int, units: Callable[[], int], rate: int = RATE) -> None:
        """Push so many samples at ``rate``, whose frames say what ``units`` gives; again where
        nothing was taken in."""
        begin = self.position - self.run_begin
        end = begin + samples * RATE // rate
        while len(self.run) * FRAME <= end:
            self.run.append(units())
        # Of samples at a lower rate, that is meant of which a frame of the encoder may begin.
        at = begin + begin % (RATE // rate) + np.arange(samples) * RATE // rate
        block = np.array(self.run, np.float32)[at // FRAME] / SCALE if samples else []
        self._call(lambda: self.stream.push(block, rate), samples * RATE // rate)

    def flush(self) -> None:
        self._call(self.stream.flush, None)
        self._end_run(0)

    def declare_gap(self, duration_ms: int) -> None:
        lost = duration_ms * RATE // 1000
        self._call(lambda: self.stream.declare_gap(duration_ms, "overflow"), lost)
        self._end_run(lost)

    def _call(self, call: Callable[[], list[Event]], moved: int | None) -> None:
        """Call until what was to move the clock has done so, and check it."""
        while True:
            before = self.position_of_stream()
            try:
                self.events += self.around(call)
                done = True
            except Interrupted:  # out of anything, so only the clock says what was done
                self.raised += 1
                done = moved is not None and self.position_of_stream() != before
            except Exception:
                self.raised += 1
                done = moved is None or not moved or self.position_of_stream() != before
            if done:
                self.position += moved or 0
                assert self.position_of_stream() == self.position, "the clock is wrong"
                return
            assert self.position_of_stream() == before, "taken in by half"

    def position_of_stream(self) -> int:
        return self.stream.state.position_samples

    def _end_run(self, lost: int) -> None:
        samples = self.position - lost - self.run_begin
        frames = max(0, 1 + (samples - WINDOW) // SHIFT)
        frames += samples - frames * SHIFT > (WINDOW - SHIFT if frames else 0)
        for frame, unit in enumerate(self.run[: -(-frames // 4)]):
            if unit:
                at_ms = (self.run_begin + frame * FRAME) * 1000 // RATE
                self.spoken.append((UNITS.symbols[unit], at_ms))
        self.run, self.run_begin = [], self.position

    def end(self) -> None:
        """Flush, fetch what was held back, and check all guarantees."""
        self.flush()
        self.faults.armed = False
        self.events += self.stream.push([])
        assert not self.stream.state.text.waiting and not self.stream.push([])
        self.stream.close()
        check_guarantees(self.events, in_background=True)
        heard, lost = self.heard(), self.lost_ms()
        assert sorted(heard, key=lambda unit: unit[1]) == heard
        counted, spoken = Counter(heard), Counter(self.spoken)
        assert counted <= spoken, "a unit twice, or at another time, or that nobody said"
        for unit in spoken - counted:
            assert any(begin <= unit[1] < end for begin, end in lost), f"{unit} is missing"

    def heard(self) -> list[tuple[str, int]]:
        finals = [event for event in self.events if isinstance(event, Final)]
        words = [word for final in finals for word in final.words]
        return [(unit.symbol, unit.start_ms) for word in words for unit in word.units]

    def lost_ms(self) -> list[tuple[int, float]]:
        """Times that a Status says were lost: a step, or the rest of a run."""
        ranges: list[tuple[int, float]] = []
        step_ms = MAX_CHUNK * 40
        for number, event in enumerate(self.events):
            if isinstance(event, Status) and event.message.startswith("the end of the audio"):
                gaps = [e.start_ms for e in self.events[number:] if isinstance(e, Gap)]
                ranges.append((event.at_ms, 1 + min(gaps, default=float("inf"))))
            elif isinstance(event, Status) and not event.message.startswith("no second pass"):
                # What was heard and could not be asked for is lost with the next step that fails.
                unasked = self.faults.raised["tokens"]
                ranges.append((event.at_ms - unasked * step_ms, event.at_ms + step_ms))
        return ranges

    def messages(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Status)]


class _Encoder:
    """Says surely what the first sample of each frame is."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        self._faults("encoder")
        units = np.rint(feats[0, : feats.shape[1] - SPEC.right_context : 4, 0] * SCALE)
        log_probs = np.full((1, len(units), len(UNITS.symbols)), -12.0, np.float32)
        log_probs[0, np.arange(len(units)), units.astype(int)] = -0.01
        return EncoderStep(units[None, :, None], log_probs, state)


class _Decoder:
    """Finds all texts equally good, so that the first pass decides."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def score(
        self, hyps: npt.NDArray[np.int64], hyp_lengths: npt.NDArray[np.int64], encoder_out: Samples
    ) -> DecoderScores:
        self._faults("decoder")
        zeros = np.zeros((len(hyps), hyps.shape[1] + 1), np.float32)
        return DecoderScores(zeros, zeros)


class Timelines:
    """Makes timelines; while one runs, what they are built on is faulty as it says."""

    def __init__(self) -> None:
        self._faults = Faults()
        self._readers = Readers(2)

    def open(self, faults: Faults, chunk: int = 4, mode: SecondPassMode = "inline") -> Timeline:
        self._faults = faults
        decoding = Decoding(endpoint=HASTY, second_pass=mode)
        second_pass = SecondPass(_Decoder(faults), ROOMY, 1.0, 0.5, self._readers)
        stream = Stream(_Encoder(faults), SPOKEN, UNITS, chunk, decoding, second_pass)
        return Timeline(stream, faults, mode)

    def faulty(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._faults(name)
            return inner(*arguments)

        return call


def _log_mel(signal: Samples, spec: FeatureSpec) -> Samples:
    """(T, 1): the first sample of each frame."""
    count = max(0, 1 + (len(signal) - WINDOW) // SHIFT)
    return signal[: count * SHIFT : SHIFT, None]


def _resample(signal: Samples, rate_in: int, rate_out: int) -> Samples:
    return np.repeat(signal, rate_out // rate_in)


@contextmanager
def timelines() -> Iterator[Timelines]:
    """Streams are as the module says while this is open."""
    made = Timelines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_asr.audio.features, "log_mel", made.faulty("log_mel", _log_mel))
        patch.setattr(edge_asr.audio.intake.soxr, "resample", made.faulty("resample", _resample))
        for name in SEARCH:
            inner = getattr(PrefixSearch, name)
            patch.setattr(PrefixSearch, name, made.faulty(name, inner))
        yield made
