"""What is committed, over random lattices, and that no pass takes it back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.events import Event, Final, Partial
from edge_asr.package.units import Units
from edge_asr.search import Token
from edge_asr.search.commit import NEVER, CommitRule, committed_tokens
from edge_asr.search.decoding import Decoding
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.greedy import GreedySearch
from edge_asr.search.prefix import PrefixSearch
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, ENCODER, MANIFEST, FakeDecoder, Reciting, lattice

SYMBOLS = ("<blank>", "▁a", "▁b", "c", "d", "▁")
UNITS = Units(SYMBOLS)
SPEC = msgspec.structs.replace(ENCODER, vocab_size=len(SYMBOLS), encoder_dim=1)
SPOKEN = msgspec.structs.replace(MANIFEST, encoder=SPEC)
ROOMY = msgspec.structs.replace(DECODER, max_hyps=64, max_units=256, max_frames=1024)
FRAME_SAMPLES, FRAME_MS = 640, 40.0
RULES = {
    "hasty": EndpointRule(
        silence_ms=400,
        relax_from_ms=400,
        max_segment_ms=1000,
        min_silence_ms=80,
        hold_ms=400,
        cut_words_from_ms=1400,
    ),
    "patient": EndpointRule(silence_ms=600),
}
BLANK, A, C = 0, 1, 3


def decoded(
    seed: int,
    frames: int,
    chunk: int,
    commit: CommitRule,
    *,
    endpoint: EndpointRule = RULES["hasty"],
    spiky: float = 0.5,
    sharpness: float = 3.0,
) -> list[Event]:
    """All events of a random lattice, with a second pass that ranks as it likes."""
    decoding = Decoding(
        fresh_context=False, endpoint=endpoint, commit=commit, second_pass="inline", nbest=64
    )
    log_probs = lattice(seed, frames, len(SYMBOLS), spiky=spiky, sharpness=sharpness)
    second_pass = SecondPass(FakeDecoder(seed, spread=9.0), ROOMY, 0.1, 0.5)
    encoder = Reciting(SPEC, log_probs)
    stream = Stream(encoder, SPOKEN, UNITS, chunk, decoding, second_pass)
    return stream.push(np.zeros(frames * FRAME_SAMPLES, np.float32)) + stream.flush()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    chunk=st.sampled_from([3, 5, 16, 64]),
    silence_ms=st.sampled_from([0, 80, 300, math.inf]),
    margin=st.sampled_from([0.0, 0.5, 3.0, 10.0, math.inf]),
    latest_ms=st.sampled_from([0, 120, 800, math.inf]),
    endpoint=st.sampled_from(list(RULES.values())),
    spiky=st.sampled_from([0.0, 0.5, 0.9]),
    sharpness=st.sampled_from([1.0, 2.0, 4.0]),
)
def test_no_pass_takes_back_what_is_committed(
    seed: int,
    chunk: int,
    silence_ms: float,
    margin: float,
    latest_ms: float,
    endpoint: EndpointRule,
    spiky: float,
    sharpness: float,
) -> None:
    commit = CommitRule(silence_ms, margin, latest_ms)
    events = decoded(seed, 90, chunk, commit, endpoint=endpoint, spiky=spiky, sharpness=sharpness)
    check_guarantees(events)
    committed: dict[int, str] = {}
    for event in events:
        if isinstance(event, Partial):
            committed[event.segment] = event.committed
        if isinstance(event, Final):
            begin = committed.get(event.segment, "")
            assert all(other.text.startswith(begin) for other in event.alternatives)
            assert event.alternatives[0].text == event.text


def test_what_rivals_align_behind_a_cut_stays_committed() -> None:
    # Both units of "a c" may be in either of two frames; the cut is between them.
    search = PrefixSearch(BLANK, score_beam=math.inf, blank_skip=1.0)
    generator = np.random.default_rng(3)
    for _ in range(120):
        log_probs = lattice(int(generator.integers(1 << 30)), 12, 4, sharpness=1.0)
        search.push(log_probs)
        kept = [token.id for token in search.tokens()[:2]]
        if len(kept) == 2:
            search.keep(2)
            frame = search.tokens()[1].start + 1  # as early as the best alignment allows
            for head in search.cut(frame):
                assert [token.id for token in head.tokens[:2]] == kept
                assert all(token.start < frame for token in head.tokens)
                starts = [token.start for token in head.tokens]
                assert starts == sorted(starts)
        search.cut(search.frames)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), chunk=st.sampled_from([1, 4]))
def test_never_commits_nothing(seed: int, chunk: int) -> None:
    partials = [event for event in decoded(seed, 60, chunk, NEVER) if isinstance(event, Partial)]
    assert partials and not any(event.committed for event in partials)


@dataclass
class Agreeing:
    """A search of which hypotheses agree on ``count`` tokens."""

    frames: int
    count: int
    asked: float = math.nan

    def agreed(self, margin: float) -> int:
        self.asked = margin
        return self.count


def spoken(*units: int, every: int = 10) -> list[Token]:
    return [Token(unit, at * every, at * every + 1, 0.0) for at, unit in enumerate(units)]


@pytest.mark.parametrize(
    ("agreed", "limit", "behind", "count"),
    [
        (5, 9, 0, 3),  # the last word still grows
        (5, 9, 8, 5),  # it is complete after 300 ms, and not a frame before
        (5, 9, 7, 3),
        (4, 9, 8, 3),  # not the first half of a word
        (2, 9, 8, 2),
        (1, 9, 8, 0),
        (0, 9, 8, 0),
        (5, 4, 8, 3),  # not what the limit holds back, nor half a word of it
        (5, 2, 8, 2),
        (5, 0, 8, 0),
    ],
)
def test_whole_words_that_all_agree_on(agreed: int, limit: int, behind: int, count: int) -> None:
    tokens = spoken(A, C, A, A, C)  # "ac a ac"
    search = Agreeing(tokens[-1].end + behind, agreed)
    rule = CommitRule(silence_ms=8 * FRAME_MS, margin=4.5, latest_ms=math.inf)
    found = committed_tokens(search, tokens, limit, UNITS, FRAME_MS, rule)  # type: ignore[arg-type]
    assert found == count
    assert search.asked == 4.5


@pytest.mark.parametrize(
    ("latest_frames", "count"), [(41, 0), (40, 0), (31, 0), (30, 2), (21, 2), (20, 3)]
)
def test_what_is_old_is_committed_without_agreement(latest_frames: int, count: int) -> None:
    tokens = spoken(A, C, A, A, C)
    search = Agreeing(41, 0)
    rule = CommitRule(math.inf, 1.0, latest_frames * FRAME_MS)
    found = committed_tokens(search, tokens, 9, UNITS, FRAME_MS, rule)  # type: ignore[arg-type]
    assert found == count


def said(script: list[int], commit: CommitRule, endpoint: EndpointRule) -> list[Partial]:
    """The Partials of sure units, one each frame."""
    log_probs = np.full((len(script), len(SYMBOLS)), -12.0, np.float32)
    log_probs[range(len(script)), script] = -0.001
    decoding = Decoding(fresh_context=False, endpoint=endpoint, commit=commit)
    stream = Stream(Reciting(SPEC, log_probs), SPOKEN, UNITS, 1, decoding)
    events = stream.push(np.zeros(len(script) * FRAME_SAMPLES, np.float32)) + stream.flush()
    return [event for event in events if isinstance(event, Partial)]


def test_near_the_limit_nothing_is_committed_so_that_the_cut_may_be_anywhere() -> None:
    # Words each 80 ms: the first cut is at 1000 ms; what began after 600 ms waits for it.
    hasty = RULES["hasty"]
    partials = said([A, 0] * 40, CommitRule(silence_ms=0), hasty)
    first = [event for event in partials if event.segment == 0]
    held_from_ms = hasty.max_segment_ms - hasty.hold_ms
    starts_ms = [word.start_ms for word in first[-1].words]
    assert starts_ms[0] == 0 and starts_ms[-1] > held_from_ms
    words = len(first[-1].committed.split())
    assert [start < held_from_ms for start in starts_ms] == [
        place < words for place in range(len(starts_ms))
    ]


@pytest.mark.parametrize("name", ["silence_ms", "margin", "latest_ms"])
@pytest.mark.parametrize("value", [-1, -math.inf, math.nan, "1", None, True, 10**400])
def test_a_number_below_zero_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} is .*; allowed are numbers from 0"):
        CommitRule(**{name: value})


def test_greedy_agrees_with_itself() -> None:
    search = GreedySearch(BLANK)
    log_probs = np.log(np.full((3, 4), 0.05, np.float32))
    log_probs[range(3), [1, 2, 1]] = math.log(0.85)
    search.push(log_probs)
    assert search.agreed(0.0) == search.agreed(math.inf) == 3
