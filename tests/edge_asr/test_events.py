"""The guarantees of edge_asr.events over random streams of random units."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.backends import EncoderStep
from edge_asr.backends.state import State
from edge_asr.events import Event, Final, Partial
from edge_asr.package.units import Units
from edge_asr.search.decoding import Decoding, SearchName
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.greedy import greedy
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import ENCODER, MANIFEST, Samples

SYMBOLS = ("<blank>", "<unk>", "<sos/eos>", "▁one", "▁", "s", "ty", "你", "好", "a▁b", "▁two")
UNITS = Units(SYMBOLS)
SPEC = msgspec.structs.replace(ENCODER, vocab_size=len(SYMBOLS))
SPOKEN = msgspec.structs.replace(MANIFEST, encoder=SPEC)
FRAME_SAMPLES = 640
# Short segments, so that every kind of cut happens often.
HASTY = EndpointRule(
    silence_ms=480,
    relax_from_ms=400,
    max_segment_ms=1200,
    min_silence_ms=120,
    hold_ms=400,
    cut_words_from_ms=1600,
)
PATIENT = EndpointRule(silence_ms=480)
SURE = -0.1  # log-probability of what an encoder says
GREEDY = Decoding(search="greedy", endpoint=HASTY)


class Scripted:
    """An encoder that says ``script``, one id for each frame, whatever it hears.

    An id of None gives no numbers. The frame is kept in the state, for ``offset`` starts afresh
    after a fault and after a flush.
    """

    def __init__(self, script: list[int | None]) -> None:
        self.script = script
        self.frame = 0

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        count = 1 + (feats.shape[1] - SPEC.right_context - 1) // SPEC.subsampling_rate
        log_probs = np.full((1, count, len(SYMBOLS)), -9.0, np.float32)
        for index in range(count):
            unit = self.script[(self.frame + index) % len(self.script)]
            log_probs[0, index, unit or 0] = np.nan if unit is None else SURE
        self.frame += count
        return EncoderStep(log_probs, log_probs, state)


# Runs of one id, blank the most often; lengths reach over all the silences of HASTY.
runs = st.tuples(
    st.one_of(st.just(0), st.sampled_from([*range(len(SYMBOLS)), 3, 10, None])), st.integers(1, 14)
)
scripts = st.lists(runs, min_size=1, max_size=60).map(
    lambda found: [unit for unit, length in found for _ in range(length)]
)


@settings(max_examples=60, deadline=None)
@given(
    script=scripts,
    chunk=st.sampled_from([1, 3, 16]),
    extra=st.integers(0, FRAME_SAMPLES),
    gaps=st.lists(st.tuples(st.integers(0, 40), st.integers(-1, 5000)), max_size=3),
    rule=st.sampled_from([HASTY, EndpointRule()]),
    search=st.sampled_from(["greedy", "prefix"]),
)
def test_every_stream_keeps_the_guarantees(
    script: list[int | None],
    chunk: int,
    extra: int,
    gaps: list[tuple[int, int]],
    rule: EndpointRule,
    search: SearchName,
) -> None:
    decoding = Decoding(search=search, endpoint=rule)
    stream = Stream(Scripted(script), SPOKEN, UNITS, chunk, decoding)
    events: list[Event] = []
    for frames, gap_ms in gaps:
        events += stream.push(np.zeros(frames * FRAME_SAMPLES + extra, np.float32))
        # -1 stands for a flush without a gap
        events += stream.flush() if gap_ms < 0 else stream.declare_gap(gap_ms, "overflow")
    rest = np.zeros(len(script) * FRAME_SAMPLES + extra, np.float32)
    events += stream.push(rest[: len(rest) // 3])
    check_guarantees(events, ended=False)
    events += stream.push(rest[len(rest) // 3 :])
    events += stream.flush()
    check_guarantees(events)
    assert all(e.at_ms <= stream.position_ms for e in events if hasattr(e, "at_ms"))
    assert all(e.end_ms <= stream.position_ms for e in events if isinstance(e, Final))


@settings(max_examples=40, deadline=None)
@given(
    script=scripts,
    chunks=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    search=st.sampled_from(["greedy", "prefix"]),
    rule=st.sampled_from([HASTY, PATIENT]),
)
def test_cuts_lose_no_unit_and_double_none(
    script: list[int | None], chunks: tuple[int, int], search: SearchName, rule: EndpointRule
) -> None:
    units = [unit or 0 for unit in script]
    samples = np.zeros(len(units) * FRAME_SAMPLES, np.float32)
    log_probs = np.full((len(units), len(SYMBOLS)), -9.0, np.float32)
    log_probs[range(len(units)), units] = SURE
    spoken = UNITS.text(token.id for token in greedy(log_probs, 0)).replace(" ", "")
    finals = []
    for chunk in chunks:
        decoding = Decoding(search=search, endpoint=rule)
        stream = Stream(Scripted([*units, *[0] * 64]), SPOKEN, UNITS, chunk, decoding)
        events = stream.push(samples) + stream.flush()
        finals.append([event for event in events if isinstance(event, Final)])
        assert "".join(final.text for final in finals[-1]).replace(" ", "") == spoken
    # Silence ends a segment in the very frame. Where no silence comes, the step decides.
    assert finals[0] == finals[1] or rule is HASTY


def said(script: list[int | None]) -> list[Event]:
    """All events of ``script``, a frame at a time."""
    stream = Stream(Scripted(script), SPOKEN, UNITS, 1, GREEDY)
    return stream.push(np.zeros(len(script) * FRAME_SAMPLES, np.float32)) + stream.flush()


def test_a_unit_on_both_sides_of_a_fault_is_said_twice() -> None:
    finals = [event for event in said([3, None, 3, 0, 0]) if isinstance(event, Final)]
    assert [final.text for final in finals] == ["one one"]


def test_only_complete_words_are_committed() -> None:
    quiet = [0] * 20  # a new segment
    shown = [
        (event.segment, event.committed, event.tail)
        for event in said([3, *quiet, 3, 0, 5, 0, 10, *quiet])
        if isinstance(event, Partial)
    ]
    assert shown == [
        (0, "", "one"),
        (0, "one", ""),  # after 300 ms without a unit
        (1, "", "one"),
        (1, "", "ones"),
        (1, "ones", " two"),
        (1, "ones two", ""),
    ]


def test_confidence_is_the_probability_of_the_units() -> None:
    stream = Stream(Scripted([0, 3, 3, 0, 5, 0, 0]), SPOKEN, UNITS, 1)
    events = stream.push(np.zeros(7 * FRAME_SAMPLES, np.float32)) + stream.flush()
    (final,) = (event for event in events if isinstance(event, Final))
    (word,) = final.words
    assert word.text == "ones"
    assert abs(word.confidence - np.exp(SURE)) < 1e-6
    times = list(itertools.chain((word.start_ms, word.end_ms), (final.start_ms, final.end_ms)))
    assert times == [40, 40 * 7, 40, 40 * 7]
