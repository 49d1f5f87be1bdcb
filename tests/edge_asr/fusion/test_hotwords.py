"""Hotwords against their rule, read off the text slowly, and what becomes of odd phrases."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.fusion.hotwords import DEFAULT_BONUS, Hotwords
from edge_asr.package.units import Units

LETTERS = Units(("<blank>", "<unk>", "▁", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"))
# Pieces of one to four characters, some with a space inside, none for a lone "▁b".
PIECES = Units(
    ("<blank>", "▁", "a", "b", "▁a", "ab", "ba", "▁ab", "▁ba", "aba", "a▁b", "▁a▁b", "<x>", "b▁")
)
SIGNS = Units(("<blank>", "▁", "a", "▁a", "▁b", "你", "好", "▁你", "你好", "▁好", "好你", "a你"))


def test_a_phrase_earns_its_total_and_lends_on_the_way() -> None:
    scores, last = walk(build(["TEN"], LETTERS, bonus=2.0), ids(LETTERS, "▁ T E N"))
    assert scores[0] == 0  # any word may begin so
    assert all(score > 0 for score in scores[1:])
    assert sum(scores) == pytest.approx(4 * 2.0)
    assert last == 0
    assert total(["TEN"], LETTERS, "▁ T E N ▁ A", bonus=2.0) == pytest.approx(8.0)


@pytest.mark.parametrize("spoken", ["▁ T E N T H", "▁ T E", "T E N S", "▁ T ▁ E N"])
def test_what_is_not_the_whole_word_is_paid_back(spoken: str) -> None:
    scores, last = walk(build(["TEN"], LETTERS), ids(LETTERS, spoken))
    assert max(scores) > 0
    assert sum(scores) + last == pytest.approx(0)


@pytest.mark.parametrize("spoken", ["▁ O F T E N", "▁ E N", "E N", "▁ ▁ A T E N"])
def test_inside_a_word_nothing_begins(spoken: str) -> None:
    assert walk(build(["TEN"], LETTERS), ids(LETTERS, spoken)) == ([0] * len(spoken.split()), 0)


def test_a_word_that_goes_on_takes_back_what_was_lent_at_once() -> None:
    hotwords = build(["TEN", "TENTH OF MAY"], LETTERS, bonus=1.0)
    scores, _ = walk(hotwords, ids(LETTERS, "▁ T E N S ▁ T"))
    assert sum(scores[:4]) == pytest.approx(4)
    assert sum(scores[:5]) == pytest.approx(0)


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("▁ N E W", 4),
        ("▁ N E W ▁ Y O R K", 4 + 9),
        ("▁ N E W ▁ Y O R K ▁ C I T Y", 4 + 9 + 10),
        ("▁ Y O R K ▁ C I T Y", 10),
        ("▁ N E W ▁ Y O R K E R", 4),
        ("▁ N E W ▁ N E W ▁ Y O R K", 4 + 4 + 9),
        ("▁ R E N E W ▁ Y O R K ▁ C I T Y", 10),
        ("▁ N E W E R ▁ Y O R K", 0),
        ("▁ A N D ▁ Y O R K ▁ C I T", 0),
        ("▁ N E W ▁ ▁ Y O R K", 4),
        ("", 0),
    ],
)
def test_nested_and_overlapping_phrases_all_count(spoken: str, expected: float) -> None:
    phrases = ["NEW", "NEW YORK", "YORK CITY"]
    assert total(phrases, LETTERS, spoken, bonus=1.0) == pytest.approx(expected)


def test_a_phrase_that_overlaps_itself_counts_each_time() -> None:
    assert total(["A B A"], LETTERS, "▁ A ▁ B ▁ A ▁ B ▁ A", bonus=1.0) == pytest.approx(12)
    assert total(["A A"], LETTERS, "▁ A ▁ A ▁ A ▁ A", bonus=1.0) == pytest.approx(12)


def test_a_segment_starts_as_if_after_a_space() -> None:
    assert total(["NEW"], LETTERS, "N E W ▁ A", bonus=1.0) == pytest.approx(4)
    assert total(["NEW"], LETTERS, "R ▁ N E W", bonus=1.0) == pytest.approx(4)
    assert total(["NEW"], LETTERS, "R N E W", bonus=1.0) == pytest.approx(0)


def test_all_spellings_have_the_same_total() -> None:
    units = Units(("<blank>", "▁", *"THREOWN", "▁THREE", "▁TH", "REE", "▁T"))
    for spoken in ["▁THREE", "▁ T H R E E", "▁T H REE", "▁TH R E E", "▁ T H REE"]:
        assert total(["THREE"], units, spoken, bonus=3.0) == pytest.approx(3.0)
    spoken = "▁THREE ▁T W O"  # the shortest has 4 units
    assert total(["THREE TWO"], units, spoken, bonus=3.0) == pytest.approx(12.0)


def test_phrases_have_their_own_bonus() -> None:
    phrases = [("NEW", 2.0), "NEW YORK", ("NEW", 5.0), ("new", 1.0)]
    assert total(phrases, LETTERS, "▁ N E W ▁ Y", bonus=1.0) == pytest.approx(4 * 5.0)
    assert total(phrases, LETTERS, "▁ N E W ▁ Y O R K", bonus=1.0) == pytest.approx(20 + 9)


def test_units_that_write_nothing_are_passed_over() -> None:
    hotwords = build(["NEW"], LETTERS, bonus=1.0)
    scores, last = walk(hotwords, ids(LETTERS, "▁ N <unk> E W <unk> ▁ <unk>"))
    assert scores[2] == scores[5] == 0
    assert sum(scores) + last == pytest.approx(4)


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("你 好", 1),
        ("好 你 好 好", 1),
        ("你好", 1),
        ("▁你 好", 1),
        ("▁ 你 好 ▁a", 1),
        ("你 ▁好", 0),
        ("好你 好", 1),  # begins inside a unit, but a sign is a word
        ("▁a 你 好", 1 + 2),
        ("▁a ▁ 你 好", 1 + 2),
        ("▁a ▁你 好", 1 + 2),
        ("▁a 你 a", 0),
        ("a你 好", 1 + 2),
    ],
)
def test_signs_need_no_spaces(spoken: str, expected: float) -> None:
    # Of "a 你" the shortest spelling is "▁a 你".
    phrases = [("你好", 1.0), ("a 你", 1.0)]
    assert total(phrases, SIGNS, spoken) == pytest.approx(expected)


def test_a_space_before_the_first_sign_may_be_part_of_its_unit() -> None:
    units = Units(("▁你", "好", "▁"))
    assert total(["你好"], units, "好 ▁你 好", bonus=1.0) == pytest.approx(2)


def test_case_and_spaces_are_as_the_model_writes() -> None:
    lower = Units(("▁", *"abcé"))
    mixed = Units(("▁", *"abcAB"))
    assert total(["  Ab\t C "], lower, "▁ a b ▁ c", bonus=1.0) == pytest.approx(5)
    assert total(["new  york"], LETTERS, "▁ N E W ▁ Y O R K", bonus=1.0) == pytest.approx(9)
    assert total(["NEW▁YORK"], LETTERS, "▁ N E W ▁ Y O R K", bonus=1.0) == pytest.approx(9)
    assert total(["Ab"], mixed, "▁ A b", bonus=1.0) == pytest.approx(3)
    assert total(["Ab"], mixed, "▁ a b", bonus=1.0) == 0
    assert total(["E\u0301"], lower, "▁ é", bonus=1.0) == pytest.approx(2)  # an accent of its own


def test_phrases_that_cannot_be_spelled_are_left_out_and_said() -> None:
    units = Units(("<blank>", "<unk>", "▁ONE", "▁TW", "O", "▁", "▁B<A>"))
    hotwords, left_out = Hotwords.build(
        ["one", "Zürich one", "two", "one TOW", "<unk>", "ONE B<A>", "O N"], units, bonus=1.0
    )
    assert [(phrase, reason) for phrase, reason in left_out] == [
        ("Zürich one", "no unit of the model writes 'Z'"),
        ("one TOW", "the units of the model cannot spell 'TOW'"),
        ("<unk>", "no unit of the model writes 'U'"),
        ("O N", "the units of the model cannot spell 'N'"),
    ]
    assert settled(hotwords, ids(units, "▁ONE ▁TW O ▁ O")) == pytest.approx(1 + 2)
    # What nothing can come of lends nothing either.
    assert walk(build(["OONE"], units), ids(units, "▁ O O")) == ([0, 0, 0], 0)


def test_no_phrases_change_nothing() -> None:
    for phrases in ([], ["ß1"]):
        hotwords, left_out = Hotwords.build(phrases, LETTERS)
        assert len(left_out) == len(phrases)
        states = np.full(29, hotwords.start)
        scores, after = hotwords.advance(states, np.arange(29))
        assert not scores.any() and not hotwords.finish(after).any()


def test_no_hypotheses() -> None:
    none = np.zeros(0, np.int64)
    scores, states = build(["NEW"], LETTERS).advance(none, none)
    assert scores.shape == states.shape == (0,)


def test_they_are_shared_and_cannot_change() -> None:
    hotwords = build(["NEW"], LETTERS)
    assert copy.deepcopy({"state": hotwords})["state"] is hotwords
    arrays = [*vars(hotwords).values(), *vars(hotwords._steps).values()]
    assert not any(a.flags.writeable for a in arrays if isinstance(a, np.ndarray))
    states = np.full(3, hotwords.start)
    units = np.array(ids(LETTERS, "▁ N E"))
    hotwords.advance(states, units)
    hotwords.finish(states)
    assert (states == hotwords.start).all() and units.tolist() == ids(LETTERS, "▁ N E")


@pytest.mark.parametrize(
    ("phrases", "bonus", "what"),
    [
        ("EDGE", 1.0, "give a list"),
        (["A", " \t▁"], 1.0, "hotword 2: the phrase is empty"),
        (["A" * 101], 1.0, "101 characters; allowed are 100"),
        (["A"], 0.0, "hotwords: a bonus per unit of 0"),
        (["A"], math.nan, "nan"),
        (["B", ("A", -1.0)], 1.0, "hotword 2: a bonus per unit of -1; allowed is more than 0"),
        ([("A", math.inf)], 1.0, "up to 20"),
        (["A"] * 10_001, 1.0, "more than 10000 phrases"),
        ([f"{'ß' * 95}{n:05}" for n in range(10_000)], 1.0, "characters in all"),
    ],
)
def test_bounds(phrases: list[str], bonus: float, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        Hotwords.build(phrases, LETTERS, bonus)
    assert len(str(caught.value)) < 200 and str(caught.value).isprintable()


def test_as_many_as_allowed_are_all_found() -> None:
    letters = "ABCDEFGHIJ"
    phrases = ["".join(letters[int(digit)] for digit in f"{n:04}") for n in range(10_000)]
    hotwords = build(phrases, LETTERS, bonus=1.0)
    chosen = np.random.default_rng(5).integers(0, 10_000, 50)
    states, sums = np.full(50, hotwords.start), np.zeros(50)
    for place in range(-1, 4):
        chars = ["▁" if place < 0 else phrases[n][place] for n in chosen]
        scores, states = hotwords.advance(
            states, np.array([LETTERS.symbols.index(c) for c in chars])
        )
        sums += scores
    np.testing.assert_allclose(sums + hotwords.finish(states), 5)


spoken_ids = st.lists(st.integers(0, 13), max_size=14)
words_of_a_and_b = st.text("aab b", min_size=1, max_size=7).filter(str.strip)
bonuses = st.sampled_from([0.5, 1.0, 3.0])


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(words_of_a_and_b, bonuses), max_size=6), spoken_ids)
def test_pieces_follow_the_rule(phrases: list[tuple[str, float]], spoken: list[int]) -> None:
    forms = {phrase: ["".join("▁" + word for word in phrase.split())] for phrase, _ in phrases}
    check_the_rule(phrases, forms, PIECES, spoken)


SIGN_FORMS = {
    "a": ["▁a"],
    "你": ["你"],
    "好": ["好"],
    "你好": ["你好"],
    "你 好": ["你好", "你▁好"],
    "好你好": ["好你好"],
    "b 你": ["▁b你", "▁b▁你"],
    "a你": ["▁a你", "▁a▁你"],
    "你a": ["你a", "你▁a"],
    "你 a": ["你▁a"],
    "b a 好你": ["▁b▁a好你", "▁b▁a▁好你"],
}


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(SIGN_FORMS)), bonuses), max_size=6),
    st.lists(st.integers(0, 11), max_size=12),
)
def test_signs_follow_the_rule(phrases: list[tuple[str, float]], spoken: list[int]) -> None:
    check_the_rule(phrases, SIGN_FORMS, SIGNS, spoken)


def check_the_rule(
    phrases: list[tuple[str, float]], forms: dict[str, list[str]], units: Units, spoken: list[int]
) -> None:
    """Each occurrence that ends with a unit and a word there earns; the best part of one lends."""
    totals: dict[str, float] = {}
    unspelled = set()
    for phrase, bonus in phrases:
        counts = {form: fewest_units(form, units) for form in forms[phrase]}
        if min(counts.values()) == math.inf:
            unspelled.add(phrase)
        for form, count in counts.items():
            if count < math.inf:
                totals[form] = max(totals.get(form, 0), bonus * min(counts.values()))
    parts: dict[str, float] = {}
    for form, total in totals.items():
        for size in range(1, len(form) + 1):
            parts[form[:size]] = max(parts.get(form[:size], 0), total * size / len(form))
    parts.pop("▁", None)

    text, final, waiting, lent = "▁", 0.0, 0.0, 0.0
    expected = []  # after each unit, what is final and what is lent
    for unit in spoken:
        if not units.symbols[unit].startswith("<"):
            final += waiting if units.starts_word[unit] else 0
            text += units.symbols[unit]
            waiting = sum(total for form, total in totals.items() if text.endswith(form))
            lent = max([waiting, *(part for form, part in parts.items() if text.endswith(form))])
        expected.append(final + lent)

    hotwords, left_out = Hotwords.build(phrases, units)
    scores, last = walk(hotwords, spoken)
    assert {phrase for phrase, _ in left_out} == unspelled
    assert np.cumsum(scores).tolist() == pytest.approx(expected)
    assert sum(scores) + last == pytest.approx(final + waiting)


def fewest_units(form: str, units: Units) -> float:
    """Units in the shortest spelling of a text; a space before its first sign is free."""
    best = [0.0] + [math.inf] * len(form)
    for end in range(1, len(form) + 1):
        for symbol in units.symbols:
            start = end - len(symbol)
            if start >= 0 and form[start:end] == symbol:
                best[end] = min(best[end], best[start] + 1)
            if symbol == "▁" + form[:end]:
                best[end] = 1
    return best[-1]


def build(phrases: list, units: Units, bonus: float = DEFAULT_BONUS) -> Hotwords:
    return Hotwords.build(phrases, units, bonus)[0]


def ids(units: Units, spoken: str) -> list[int]:
    return [units.symbols.index(symbol) for symbol in spoken.split()]


def walk(hotwords: Hotwords, spoken: list[int]) -> tuple[list[float], float]:
    """The score of each unit, and that of the end. A second hypothesis walks beside."""
    states = np.array([hotwords.start, hotwords.start])
    scores = []
    for unit in spoken:
        (score, _), states = hotwords.advance(states, np.array([unit, 1]))
        scores.append(float(score))
    return scores, float(hotwords.finish(states)[0])


def settled(hotwords: Hotwords, spoken: list[int]) -> float:
    scores, last = walk(hotwords, spoken)
    return sum(scores) + last


def total(phrases: list, units: Units, spoken: str, bonus: float = DEFAULT_BONUS) -> float:
    return settled(build(phrases, units, bonus), ids(units, spoken))
