"""Each rule by which a segment ends. Frames of 10 ms, so that figures read as in the module."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.package.units import Units
from edge_asr.search import Token
from edge_asr.search.endpoint import EndpointRule, endpoint, held_tokens

UNITS = Units(("<blank>", "▁word", "s"))
WORD, PART = 1, 2
RULE = EndpointRule()


def spoken(*places: tuple[int, int]) -> list[Token]:
    """``places``: (unit, start); each unit lasts one frame of 10 ms."""
    return [Token(unit, start, start + 1, 0.0) for unit, start in places]


def steady(unit: int, until: int, every: int = 10) -> list[tuple[int, int]]:
    """Units every 100 ms from frame 0, so that no pause is long enough."""
    return [(unit, start) for start in range(0, until, every)]


def cut(
    frames: int, *places: tuple[int, int], quiet: int | None = None, committed: int = 0
) -> int | None:
    """Where a segment is cut after ``frames``, all quiet behind the last unit unless said."""
    tokens = spoken(*places)
    quiet = frames - (tokens[-1].end if tokens else 0) if quiet is None else quiet
    return endpoint(tokens, frames, quiet, committed, UNITS, 10.0, RULE)


@pytest.mark.parametrize(
    ("age_ms", "silence_ms"),
    [(0, 1000), (10_000, 1000), (15_000, 600), (20_000, 200), (99_000, 200)],
)
def test_the_needed_silence_falls_with_age(age_ms: int, silence_ms: int) -> None:
    assert RULE.needed_silence_ms(age_ms) == silence_ms


def test_rule_1_forgets_after_each_long_silence_without_text() -> None:
    assert [frames for frames in range(1600) if cut(frames) is not None] == [500, 1000, 1500]
    assert cut(600, quiet=500) == 600
    assert cut(600, quiet=499) is None


def test_rule_2_ends_a_segment_after_a_second() -> None:
    assert cut(5001 + 99, (WORD, 5000)) is None
    assert cut(5001 + 100, (WORD, 5000)) == 5101


def test_rule_2_needs_frames_that_are_blank() -> None:
    # A noise that is no unit, and not blank either: nobody is silent.
    assert cut(300, (WORD, 0), quiet=99) is None
    assert cut(300, (WORD, 0), quiet=100) == 300
    # What is blank inside a unit's own frames is no silence behind it.
    assert cut(50, (WORD, 0), quiet=500) is None


def test_rule_2_takes_a_shorter_pause_from_an_old_segment() -> None:
    words = steady(WORD, 1500)  # to 14.91 s: 607 ms are needed
    assert cut(1491 + 60, *words) is None
    assert cut(1491 + 61, *words) == 1552


def test_rule_3_cuts_at_the_longest_pause_that_is_not_committed() -> None:
    words = [*steady(WORD, 1900), (WORD, 1912), (WORD, 1930), (WORD, 1945), (WORD, 2000)]
    assert cut(2001, *words[:-1], quiet=0) is None  # 19.46 s
    assert cut(2001, *words, quiet=0, committed=190) == 2000
    words = [*steady(WORD, 1900), (WORD, 1912), (WORD, 1940), (WORD, 1945), (WORD, 2000 - 40)]
    words.append((WORD, 1999))
    assert cut(2001, *words, quiet=0, committed=191) == 1999
    assert cut(2001, *words[:-2], (WORD, 1950), (WORD, 1999), quiet=0, committed=190) == 1999
    assert cut(2001, *steady(WORD, 1900), (WORD, 1935), (WORD, 1960), (WORD, 1985), (WORD, 1999),
               quiet=0, committed=190) == 1935  # fmt: skip


def test_rule_3_cuts_no_word_before_25_s() -> None:
    assert cut(2400, (WORD, 0), *steady(PART, 2400)[1:], quiet=0) is None
    assert cut(2420, (WORD, 0), *steady(PART, 2400)[1:], (WORD, 2410), quiet=0) == 2410
    assert cut(2600, (WORD, 0), *steady(PART, 2501)[1:], quiet=0) == 1800
    assert cut(2600, (WORD, 0), *steady(PART, 2501)[1:], quiet=0, committed=250) == 2500
    # All is committed: it must wait for what comes next.
    assert cut(2600, *steady(WORD, 2501), quiet=0, committed=251) is None


def test_rule_3_ends_after_the_last_word_where_noise_is_no_silence() -> None:
    assert cut(1999, (WORD, 0), quiet=22) is None
    assert cut(2000, (WORD, 0), quiet=22) == 1
    # Another word may come: its predecessor ended less than a second ago.
    assert cut(2050, (WORD, 0), (WORD, 1950), quiet=10) is None
    assert cut(2051, (WORD, 0), (WORD, 1950), quiet=10) == 1951


def test_the_last_stretch_is_held_back() -> None:
    tokens = spoken(*steady(WORD, 2100))
    assert held_tokens(tokens, 10.0, RULE) == 180
    assert held_tokens(tokens[:5], 10.0, RULE) == 5


@given(
    places=st.lists(st.integers(1, 300), min_size=1, max_size=30),
    units=st.lists(st.sampled_from([WORD, PART]), min_size=30, max_size=30),
    quiet=st.integers(0, 400),
    data=st.data(),
)
def test_a_cut_divides_at_a_token_or_behind_all(
    places: list[int], units: list[int], quiet: int, data: st.DataObject
) -> None:
    starts = [sum(places[: index + 1]) for index in range(len(places))]
    tokens = spoken(*zip(units, starts, strict=False))
    committed = data.draw(st.integers(0, len(tokens)))
    frames = tokens[-1].end + quiet
    found = endpoint(tokens, frames, quiet, committed, UNITS, 10.0, RULE)
    if found is not None and found < frames:
        assert found in [token.start for token in tokens[max(1, committed) :]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"silence_ms": 79},
        {"hold_ms": -1},
        {"max_segment_ms": 40_000},
        {"relax_from_ms": 20_000},
        {"cut_words_from_ms": 19_000},
        {"blank_threshold": 1.0},
        {"nothing_said_ms": float("nan")},
        {"silence_ms": 480.5},
        {"silence_ms": "480"},
        {"hold_ms": True},
        {"blank_threshold": None},
        {"blank_threshold": float("nan")},
    ],
)
def test_durations_are_bounded(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        EndpointRule(**wrong)
