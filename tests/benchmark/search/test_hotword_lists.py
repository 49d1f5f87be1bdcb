"""benchmark.search.hotword_lists: which words are listed, and what counts as an error on them."""

from __future__ import annotations

from benchmark.search.hotword_lists import ListRule, Split, change, made_up_phrases, split_errors
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.package.files import open_package
from edge_asr.package.units import Units
from tests.tiny import UNITS


def test_the_rule() -> None:
    truth = ["A B C", "A B", "A", "D"]
    said = ["X C", "A Y", "A", "D D"]
    # A: 1 of 3 substituted or deleted, B: 2 of 2; an insertion of D is no error on a D.
    assert ListRule(1, 0.0).choose(truth, said) == ("B", "A")
    assert ListRule(2, 0.0).choose(truth, said) == ("B",)
    assert ListRule(1, 0.5).choose(truth, said) == ("B",)
    assert ListRule(1, 0.0, min_letters=2).choose(truth, said) == ()


def test_errors_are_those_of_the_word_that_was_meant() -> None:
    found = split_errors(["A B", "C"], ["A A A", "B"], ["A"])
    # "A A A" for "A B": B is substituted by a listed word, and one listed word is inserted.
    assert found == Split(listed=1, listed_words=1, others=2, other_words=2)
    assert found + found == Split(2, 2, 4, 4)
    assert split_errors(["A"], ["B"], []) == Split(0, 0, 1, 1)
    assert (change(10, 7), change(0, 3)) == (-30.0, None)


def test_phrases_can_be_spelled() -> None:
    units = open_package("commands-en").units
    phrases = made_up_phrases(units, 500)
    assert len(set(phrases)) == 500 and phrases[:10] == made_up_phrases(units, 10)
    assert Hotwords.build(phrases, units)[1] == ()
    few = made_up_phrases(UNITS, 1000)
    assert len(few) == 2 + 4 + 8, "one to three words of two"
    assert Hotwords.build(few, UNITS)[1] == (), "no letters without a unit for their beginning"
    assert made_up_phrases(Units(("<blank>", "x")), 5) == []
