"""Words found by their units against words read from the text."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_asr.fusion.spelling import MAX_WORD_CHARS, Spelling
from edge_asr.package.units import Units

# Letters, pieces of words, whole words, a sign, and what writes nothing or a space inside.
SYMBOLS = ("<blank>", "▁", "A", "B", "AB", "BA", "▁A", "▁AB", "▁▁B", "你", "A▁", "▁A▁B", "▁ABBA")
UNITS = Units(SYMBOLS)
WORDS = ("A", "AB", "ABBA", "BAB", "你", "A你", "C", "B" * MAX_WORD_CHARS)
UNKNOWN = 99
SPELLING = Spelling.build(WORDS, np.arange(len(WORDS)), UNKNOWN, UNITS)


def open_word(units: list[int]) -> str:
    """What is written since the last unit that begins a word."""
    word = ""
    for unit in units:
        symbol = SYMBOLS[unit]
        if symbol == "<blank>":
            continue
        word = symbol.lstrip("▁") if UNITS.starts_word[unit] else word + symbol
    return word


@given(st.lists(st.integers(0, len(SYMBOLS) - 1), max_size=8))
@example([SYMBOLS.index("B")] * MAX_WORD_CHARS)
@example([SYMBOLS.index("B")] * (MAX_WORD_CHARS + 1))
@settings(max_examples=300, deadline=None)
def test_places_know_the_word(units: list[int]) -> None:
    place = np.array([0])
    for count, unit in enumerate(units, start=1):
        before = place
        ended, place = SPELLING.advance(place, np.array([unit]))
        assert ended[0] == (UNITS.starts_word[unit] and open_word(units[: count - 1]) != "")
        assert 0 <= place[0] < SPELLING.places
        if SYMBOLS[unit] == "<blank>":
            assert place == before
    word = open_word(units)
    known = WORDS.index(word) if word in WORDS else UNKNOWN
    assert SPELLING.words[place[0]] == known
    assert (place[0] == 0) == (word == "")


def test_pairs_do_not_touch_each_other() -> None:
    places = np.repeat(np.arange(SPELLING.places), len(UNITS))
    units = np.tile(np.arange(len(UNITS)), SPELLING.places)
    ended, after = SPELLING.advance(places, units)
    for n in range(0, len(places), 7):
        alone = SPELLING.advance(places[n : n + 1], units[n : n + 1])
        assert (ended[n], after[n]) == (alone[0][0], alone[1][0])


def test_of_equal_words_the_later_one_stays() -> None:
    spelling = Spelling.build(["A", "B", "A"], np.array([5, 6, 7]), UNKNOWN, UNITS)
    _, place = spelling.advance(np.array([0]), np.array([SYMBOLS.index("▁A")]))
    assert spelling.words[place[0]] == 7


def test_without_words_all_is_unknown() -> None:
    spelling = Spelling.build([], np.zeros(0, np.int64), UNKNOWN, UNITS)
    _, place = spelling.advance(np.array([0]), np.array([SYMBOLS.index("▁A")]))
    assert spelling.words[place[0]] == UNKNOWN
    assert place[0] != 0
