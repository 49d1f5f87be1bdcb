"""Each rule by which a segment ends. Frames of 10 ms, so that figures read as in the module."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.endpoint import EndpointRule, ended_tokens
from edge_asr.search import Token
from edge_asr.units import Units

UNITS = Units(("<blank>", "▁word", "s"))
WORD, PART = 1, 2
RULE = EndpointRule()


def ended(frames: int, *spoken: tuple[int, int]) -> int:
    """``spoken``: (unit, start); each unit lasts one frame of 10 ms."""
    tokens = [Token(unit, start, start + 1, 0.0) for unit, start in spoken]
    return ended_tokens(tokens, frames, UNITS, 10.0, RULE)


def steady(unit: int, until: int, every: int = 10) -> list[tuple[int, int]]:
    """Units every 100 ms from frame 0, so that no pause is long enough."""
    return [(unit, start) for start in range(0, until, every)]


@pytest.mark.parametrize(
    ("age_ms", "silence_ms"),
    [(0, 1000), (10_000, 1000), (15_000, 600), (20_000, 200), (99_000, 200)],
)
def test_the_needed_silence_falls_with_age(age_ms: int, silence_ms: int) -> None:
    assert RULE.needed_silence_ms(age_ms) == silence_ms


def test_nothing_said_never_ends() -> None:
    assert ended(1_000_000) == 0


def test_silence_before_the_first_unit_counts_for_nothing() -> None:
    assert ended(5_000 + 1 + 99, (WORD, 5_000)) == 0


def test_a_second_of_silence_ends_a_segment() -> None:
    assert ended(1 + 99, (WORD, 0)) == 0
    assert ended(1 + 100, (WORD, 0)) == 1


def test_silence_between_units_ends_a_segment_too() -> None:
    assert ended(2000, (WORD, 0), (WORD, 100), (WORD, 150)) == 3
    assert ended(202, (WORD, 0), (PART, 101), (WORD, 150)) == 1


def test_an_old_segment_ends_in_a_shorter_pause() -> None:
    words = steady(WORD, 1500)  # to 14.91 s: 607 ms are needed
    assert ended(1491 + 61, *words, (WORD, 1491 + 60)) == 0
    assert ended(1491 + 62, *words, (WORD, 1491 + 61)) == 150
    assert (ended(1491 + 60, *words), ended(1491 + 61, *words)) == (0, 150)


def test_after_20_s_the_next_word_begins_a_segment() -> None:
    words = steady(WORD, 2200)
    # The unit that begins at 20 s ends after 20 s; the next word is a new segment.
    assert ended(2200, *words) == 201
    assert ended(2000, *steady(WORD, 2000)) == 0
    words = steady(WORD, 2000)
    assert ended(2010, *words, (WORD, 1998), (WORD, 2005)) == 0  # 19.99 s
    assert ended(2010, *words, (WORD, 1999), (WORD, 2005)) == 201


def test_after_20_s_no_word_is_cut() -> None:
    assert ended(2400, (WORD, 0), *steady(PART, 2400)[1:]) == 0
    assert ended(2420, (WORD, 0), *steady(PART, 2400)[1:], (WORD, 2410)) == 240


def test_after_25_s_any_unit_begins_a_segment() -> None:
    assert ended(2700, (WORD, 0), *steady(PART, 2700)[1:]) == 251


@settings(max_examples=100, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 1200), min_size=1, max_size=12),
    units=st.lists(st.sampled_from([WORD, PART]), min_size=12, max_size=12),
    steps=st.tuples(st.integers(1, 400), st.integers(1, 400)),
)
def test_segments_do_not_depend_on_the_steps(
    gaps: list[int], units: list[int], steps: tuple[int, int]
) -> None:
    tokens, end = [], 0
    for unit, gap in zip(units, gaps, strict=False):
        tokens.append(Token(unit, end + gap, end + gap + 3, 0.0))
        end += gap + 3
    by_step = []
    for step in steps:
        open_tokens: list[Token] = []
        waiting, segments = list(tokens), []
        for frames in range(step, end + 2000 + step, step):
            while waiting and waiting[0].end <= frames:
                open_tokens.append(waiting.pop(0))
            # A unit that is still sounding is known with the end it has so far.
            sounding = [Token(t.id, t.start, frames, 0.0) for t in waiting[:1] if t.start < frames]
            while count := ended_tokens([*open_tokens, *sounding], frames, UNITS, 10.0, RULE):
                segments.append([token.start for token in open_tokens[:count]])
                del open_tokens[:count]
        by_step.append(segments)
    assert by_step[0] == by_step[1]
    assert [start for segment in by_step[0] for start in segment] == [t.start for t in tokens]
