"""Words, their times and their confidence."""

from __future__ import annotations

import math

import pytest

from edge_asr.events import Word
from edge_asr.package.units import Units
from edge_asr.search import Token
from edge_asr.search.words import FrameClock, assemble_words, last_word_start

UNITS = Units(("<blank>", "<unk>", "▁one", "s", "▁", "▁two", "你", "好", "'"))
CLOCK = FrameClock(origin_samples=0, frame_samples=640, sample_rate=16000)


def token(symbol: str, start: int, end: int, log_prob: float = 0.0) -> Token:
    return Token(UNITS.symbols.index(symbol), start, end, log_prob)


def words(*tokens: Token, limit_ms: int = 100_000) -> list[tuple[str, int, int]]:
    found = assemble_words(tokens, UNITS, CLOCK, limit_ms)
    return [(word.text, word.start_ms, word.end_ms) for word in found]


def test_a_word_sounds_on_a_little_after_its_last_spike() -> None:
    assert words(token("▁one", 2, 3), token("s", 5, 7)) == [("ones", 80, 9 * 40)]


def test_a_word_ends_where_the_next_begins() -> None:
    spoken = token("▁one", 0, 1), token("▁two", 2, 3)
    assert words(*spoken) == [("one", 0, 80), ("two", 80, 200)]


def test_a_word_ends_with_the_audio() -> None:
    assert words(token("▁one", 2, 3), limit_ms=130) == [("one", 80, 130)]


def test_units_that_write_nothing_are_no_part_of_a_word() -> None:
    spoken = token("<unk>", 0, 1), token("▁", 1, 2), token("s", 4, 5), token("<unk>", 30, 31)
    assert words(*spoken) == [("s", 160, 280)]
    assert words(token("<unk>", 0, 1), token("▁", 3, 4)) == []
    assert words() == []


def test_text_before_the_first_space_is_a_word() -> None:
    assert [text for text, _, _ in words(token("s", 0, 1), token("▁one", 9, 10))] == ["s", "one"]


def test_scripts_without_spaces_have_a_word_for_each_sign() -> None:
    spoken = token("你", 0, 1), token("好", 9, 10), token("'", 11, 12)
    assert [text for text, _, _ in words(*spoken)] == ["你", "好'"]


def test_confidence_is_the_geometric_mean() -> None:
    spoken = (
        token("▁one", 0, 1, math.log(0.9)),
        token("<unk>", 1, 2, -9),
        token("s", 3, 4, math.log(0.4)),
    )
    (word,) = assemble_words(spoken, UNITS, CLOCK, 1000)
    assert word == Word("ones", 0, 240, pytest.approx(0.6))


@pytest.mark.parametrize(
    ("spoken", "index"),
    [("", 0), ("▁one", 0), ("▁one s", 0), ("▁one s ▁two s", 2), ("s ▁one", 1), ("▁one ▁", 1)],
)
def test_the_last_word_starts(spoken: str, index: int) -> None:
    assert last_word_start([token(s, 0, 1) for s in spoken.split()], UNITS) == index


def test_the_clock_counts_samples() -> None:
    # 11 025 Hz: a frame of 440 samples lasts 39.909 ms; a day of rounded frames is off by minutes.
    clock = FrameClock(origin_samples=11, frame_samples=440, sample_rate=11025)
    day = 24 * 3600 * 11025 // 440
    assert [clock.ms(frame) for frame in (0, 1, day)] == [0, 40, (11 + day * 440) * 1000 // 11025]
    # Beyond what a float holds exactly.
    late = FrameClock(origin_samples=2**60 + 1, frame_samples=640, sample_rate=16000)
    assert late.ms(3) == (2**60 + 1 + 1920) // 16 and type(late.ms(3)) is int
