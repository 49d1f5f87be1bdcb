"""Streams that are changed while they run: chunks, left context, hotwords, gaps, snapshots.

The audio of each push is noise or silence, and what the encoder says follows from the features
alone, so that a sample lost, doubled or moved changes the text.
"""

from __future__ import annotations

import copy
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.backends import DecoderScores, EncoderStep
from edge_asr.backends.state import State
from edge_asr.errors import BackendError, UsageError
from edge_asr.events import Event, Final, GapReason, Partial
from edge_asr.fusion.grammar import Grammar
from edge_asr.package.manifest import HideSpec, TensorSpec
from edge_asr.package.units import Units
from edge_asr.search.commit import CommitRule
from edge_asr.search.decoding import Decoding, SecondPassMode
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, ENCODER, MANIFEST, RATE, FakeDecoder, Samples, lattice

SYMBOLS = ("<blank>", "<unk>", "<sos/eos>", "▁a", "▁b", "c", "d", "▁")
UNITS = Units(SYMBOLS)
LEFT, HIDDEN = 4, -1.0
SPEC = msgspec.structs.replace(
    ENCODER,
    vocab_size=len(SYMBOLS),
    encoder_dim=1,
    left_context=LEFT,
    state=(TensorSpec(name="seen", shape=(1, LEFT), hide=HideSpec(axis=1, value=HIDDEN)),),
)
SPOKEN = msgspec.structs.replace(MANIFEST, encoder=SPEC)
ROOMY = msgspec.structs.replace(DECODER, max_hyps=10, max_units=64, max_frames=256)
HASTY = EndpointRule(
    nothing_said_ms=800,
    silence_ms=400,
    relax_from_ms=400,
    max_segment_ms=1000,
    min_silence_ms=80,
    hold_ms=400,
    cut_words_from_ms=1400,
)
COMMIT = CommitRule(silence_ms=160, margin=2.0, latest_ms=600)
GRAMMAR = Grammar.phrases(["a", "ac", "b a", "b ad a", "ac b"], UNITS)
HOTWORDS: list[list[Any]] = [[], ["ac"], [("b ad", 5.0), "a"], ["ac", "zebra"], ["b"] * 3]
FRAME_SAMPLES = 640
BROKEN = 37  # of the rows that the encoder may say: no numbers


class Listening:
    """An encoder that says what follows from what it hears, and from how far it looks back."""

    def __init__(self) -> None:
        self.rows = lattice(5, 64, len(SYMBOLS), spiky=0.6, sharpness=3.0)
        self.rows[BROKEN] = np.nan

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        rate = SPEC.subsampling_rate
        count = 1 + (feats.shape[1] - SPEC.right_context - 1) // rate
        own = [feats[0, at * rate : (at + 1) * rate] for at in range(count)]
        marks = np.array([1 + zlib.crc32(frames.tobytes()) % 1024 for frames in own])
        looked_back = int((state[0] != HIDDEN).sum())
        log_probs = self.rows[(marks + looked_back) % len(self.rows)].copy()
        log_probs[[np.ptp(frames) == 0 for frames in own]] = [0.0, *[-20.0] * (len(SYMBOLS) - 1)]
        seen = np.concatenate([state[0], marks[None].astype(np.float32)], axis=1)[:, -LEFT:]
        encoder_out = np.arange(offset, offset + count, dtype=np.float32)[None, :, None]
        return EncoderStep(encoder_out, log_probs[None], (seen,))


class Moody(FakeDecoder):
    """Of some texts it gives no numbers, over others it fails; always over the same."""

    def score(
        self, hyps: npt.NDArray[np.int64], hyp_lengths: npt.NDArray[np.int64], encoder_out: Samples
    ) -> DecoderScores:
        scores = super().score(hyps, hyp_lengths, encoder_out)
        mood = (int(hyps[0].sum()) + int(hyp_lengths.sum())) % 7
        if mood == 0:
            raise BackendError("the decoder fell asleep")
        if mood == 1:
            scores.left[0, 0] = np.nan
        return scores


@dataclass(frozen=True)
class Push:
    seed: int  # 0 is silence
    count: int

    @property
    def samples(self) -> Samples:
        noise = np.random.default_rng(self.seed).standard_normal(self.count)
        return (noise * (0.1 if self.seed else 0.0)).astype(np.float32)


@dataclass(frozen=True)
class Chunk:
    frames: int


@dataclass(frozen=True)
class Left:
    frames: int


@dataclass(frozen=True)
class Hot:
    which: int


@dataclass(frozen=True)
class Lose:
    duration_ms: int
    reason: GapReason = "overflow"


@dataclass(frozen=True)
class Flush:
    pass


@dataclass(frozen=True)
class Hold:
    """The second pass stands still until the next flush, or until it is let go on."""

    still: bool


@dataclass(frozen=True)
class Again:
    """Go back to the last snapshot, do all that was done since, and take a new one."""


Operation = Push | Chunk | Left | Hot | Lose | Flush | Hold | Again
counts = st.sampled_from([0, 1, 700, 5000, 9999, 12_345, 25_600])
pushes = st.builds(Push, st.sampled_from([0, *range(20)]), counts)
operations = st.lists(
    st.one_of(
        pushes,
        pushes,
        pushes,
        st.builds(Chunk, st.sampled_from([1, 2, 5, 20])),
        st.builds(Left, st.integers(0, LEFT)),
        st.builds(Hot, st.integers(0, len(HOTWORDS) - 1)),
        st.builds(Lose, st.integers(0, 3000)),
        st.just(Flush()),
        st.builds(Hold, st.booleans()),
        st.just(Again()),
    ),
    min_size=8,
    max_size=16,
)


@dataclass
class Run:
    """A stream under operations; pushes are cut where ``cuts``, a seed, says."""

    decoding: Decoding
    chunk: int = 4
    cuts: int | None = None
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        second_pass = None
        if self.decoding.second_pass != "off":
            second_pass = SecondPass(Moody(1, gate=self.gate), ROOMY, 0.5, 0.3)
        self.stream = Stream(Listening(), SPOKEN, UNITS, self.chunk, self.decoding, second_pass)
        self.generator = np.random.default_rng(self.cuts)
        self.snapshot = copy.deepcopy(self.stream.state)
        self.known = 0  # events before the snapshot
        self.since: list[Operation] = []

    def do_all(self, wanted: list[Operation]) -> list[Event]:
        """All events, and those of a flush at the end."""
        for one in wanted:
            if isinstance(one, Again):
                self.again()
            else:
                self.events += self.do(one)
                self.since.append(one)
        self.events += self.do(Flush())
        self.stream.close()
        return self.events

    def do(self, wanted: Operation) -> list[Event]:
        stream = self.stream
        match wanted:
            case Push():
                samples, events = wanted.samples, []
                pieces = [samples]
                if self.cuts is not None:
                    places = self.generator.integers(0, len(samples) + 1, 5)
                    pieces = np.split(samples, np.sort(places))
                for piece in pieces:
                    events += stream.push(piece, RATE)
                return events
            case Chunk(frames):
                stream.set_chunk_ms(frames * 40)
            case Left(frames):
                stream.set_left_context_ms(frames * 40)
            case Hot(which):
                warnings = stream.set_hotwords(HOTWORDS[which])
                assert len(warnings) == HOTWORDS[which].count("zebra")
            case Lose(duration_ms, reason):
                self.gate.set()
                return stream.declare_gap(duration_ms, reason)
            case Flush():
                self.gate.set()
                return stream.flush()
            case Hold(still=True) if self.decoding.second_pass == "background":
                self.gate.clear()
            case Hold(still=False):
                self.gate.set()
        return []

    def again(self) -> None:
        first = [*self.events[self.known :], *self.do(Flush())]
        replay = []
        for flushed in (True, False):
            self.stream.state = self.snapshot
            self.gate.set()
            replay = [event for one in self.since for event in self.do(one)]
            if flushed:
                other = [*replay, *self.do(Flush())]
                assert finals(other) == finals(first)
                if self.decoding.second_pass != "background":
                    assert other == first
        del self.events[self.known :]
        self.events += replay
        self.snapshot = copy.deepcopy(self.stream.state)
        self.known, self.since = len(self.events), []


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def check_run(
    second_pass: SecondPassMode,
    with_grammar: bool,
    wanted: list[Operation],
    chunk: int,
    cuts: int,
) -> None:
    decoding = Decoding(
        second_pass=second_pass,
        nbest=3,
        endpoint=HASTY,
        commit=COMMIT,
        grammar=GRAMMAR if with_grammar else None,
    )
    whole, parts = Run(decoding, chunk), Run(decoding, chunk, cuts)
    events, others = whole.do_all(wanted), parts.do_all(wanted)
    for found in (events, others):
        check_guarantees(found, in_background=second_pass == "background")
    # Any blocking of the same samples gives the same.
    assert finals(others) == finals(events)
    if second_pass != "background":
        assert others == events
    if with_grammar:
        assert are_phrases([final.text for final in finals(events) if final.text])
        assert not any(event.committed for event in events if isinstance(event, Partial))
    assert whole.stream.position_ms == parts.stream.position_ms


def are_phrases(texts: list[str]) -> bool:
    """Whether the texts are allowed phrases; a phrase that a cut divides stands in several, one
    after another."""
    ends = {0}
    for end in range(1, len(texts) + 1):
        if any(GRAMMAR.allows(" ".join(texts[begin:end])) for begin in ends):
            ends.add(end)
    return len(texts) in ends


def test_phrases_are_told_from_other_texts() -> None:
    assert are_phrases([]) and are_phrases(["ac", "b ad", "a"])
    assert not are_phrases(["b ad"]) and not are_phrases(["ac", "d"])


modes = pytest.mark.parametrize("second_pass", ["off", "inline", "background"])
with_or_without = pytest.mark.parametrize("with_grammar", [False, True])
anything = given(wanted=operations, chunk=st.integers(1, 20), cuts=st.integers(0, 99))


@pytest.mark.slow
@with_or_without
@modes
@settings(max_examples=100, deadline=None)
@anything
def test_whatever_changes_the_guarantees_hold(
    second_pass: SecondPassMode,
    with_grammar: bool,
    wanted: list[Operation],
    chunk: int,
    cuts: int,
) -> None:
    check_run(second_pass, with_grammar, wanted, chunk, cuts)


AUDIO = [Push(7, 60_000), Push(0, 30_000), Push(8, 30_000)]


@pytest.mark.parametrize("search", ["prefix", "greedy"])
def test_what_is_refused_changes_nothing(search: str) -> None:
    blind = msgspec.structs.replace(
        SPEC, state=(msgspec.structs.replace(SPEC.state[0], hide=None),)
    )
    decoding = Decoding(search=search, endpoint=HASTY, commit=COMMIT)  # type: ignore[arg-type]
    events: list[list[Event]] = [[], []]
    for refused, found in zip((False, True), events, strict=True):
        manifest = msgspec.structs.replace(SPOKEN, encoder=blind)
        stream = Stream(Listening(), manifest, UNITS, 4, decoding)
        for push in AUDIO:
            found += stream.push(push.samples)
            if refused:
                with pytest.raises(UsageError, match=r"left context of 1 .* export it again"):
                    stream.set_left_context_ms(40)
                for wrong in (-40, 41, 40 * (LEFT + 1)):
                    with pytest.raises(UsageError, match="left_context_ms"):
                        stream.set_left_context_ms(wrong)
                for wrong in (0, 41, 40 * 65):
                    with pytest.raises(UsageError, match="chunk_ms"):
                        stream.set_chunk_ms(wrong)
                with pytest.raises(UsageError):
                    stream.set_hotwords(["ac", ""] if search == "prefix" else ["ac"])
                stream.set_left_context_ms(40 * LEFT)  # all there is
        found += stream.flush()
        stream.close()
        for change in (stream.set_hotwords, stream.set_chunk_ms, stream.set_left_context_ms):
            with pytest.raises(UsageError, match="closed"):
                change([])  # type: ignore[arg-type]
    assert events[0] == events[1]
    assert finals(events[0])


def test_hotwords_live_on_behind_a_flush_and_in_a_snapshot() -> None:
    decoding = Decoding(endpoint=HASTY, commit=COMMIT, hotword_bonus=8.0)

    def heard(stream: Stream) -> list[str]:
        events = [event for push in AUDIO for event in stream.push(push.samples)]
        return [final.text for final in finals(events + stream.flush())]

    plain, prepared = (
        Stream(Listening(), SPOKEN, UNITS, 4, decoding, hotwords=words) for words in ([], ["ac"])
    )
    without, with_words = heard(plain), heard(prepared)
    assert with_words != without, "hotwords that nobody hears prove nothing"
    assert heard(prepared) == with_words
    snapshot = copy.deepcopy(prepared.state)
    prepared.set_hotwords([])
    assert heard(prepared) == without
    plain.set_hotwords(["ac"])
    assert heard(plain) == with_words
    prepared.state = snapshot
    assert heard(prepared) == with_words
