"""benchmark.search.hotwords: lists, what counts as an error on them, the choice of the bonus, the
page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.replay import Recording
from benchmark.search import hotwords
from benchmark.search.hotword_lists import ListRule, Split, change, made_up_phrases, split_errors
from benchmark.search.hotword_report import Sweep
from benchmark.search.hotwords import choose_bonus, halves
from edge_asr.bench.play import Clip
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.package.files import open_package
from edge_asr.package.units import Units
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import CLIPS, write_set
from tests.tiny import RATE, UNITS, tones


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


def test_the_bonus_has_the_fewest_errors_on_all_words() -> None:
    before = Split(listed=20, others=100)

    def sweep(bonus: float, listed: int, others: int) -> Sweep:
        return Sweep(bonus, before, Split(listed=listed, others=others))

    tried = [sweep(0.5, 15, 100), sweep(1.0, 12, 102), sweep(2.0, 11, 103), sweep(3.0, 2, 113)]
    assert choose_bonus(tried) == 1.0, "the smallest of those that are equal"
    assert choose_bonus(tried[3:]) == 3.0


def test_halves_share_no_speaker() -> None:
    clip = Clip(tones("s")[:, None], RATE)
    found = [Recording(clip, "", speaker, None, ()) for speaker in "abcdabx"]
    first, second = ({one.speaker for one in half} for half in halves(found))
    assert first == {"a", "c", "x"} and second == {"b", "d"}
    assert sum(map(len, halves(found))) == len(found)


def test_phrases_can_be_spelled() -> None:
    units = open_package("commands-en").units
    phrases = made_up_phrases(units, 500)
    assert len(set(phrases)) == 500 and phrases[:10] == made_up_phrases(units, 10)
    assert Hotwords.build(phrases, units)[1] == ()
    few = made_up_phrases(UNITS, 1000)
    assert len(few) == 2 + 4 + 8, "one to three words of two"
    assert Hotwords.build(few, UNITS)[1] == (), "no letters without a unit for their beginning"
    assert made_up_phrases(Units(("<blank>", "x")), 5) == []


def test_the_whole_command(recognizer: Recognizer, tmp_path: Path) -> None:
    spoken = [("▁one", "one", "a"), ("▁two", "nine", "a"), ("▁one ▁two", "one nine", "b")]
    dev, test = write_set(tmp_path / "dev", spoken, "dev"), write_set(tmp_path / "x", spoken, "x")
    out = tmp_path / "page.md"
    arguments = [str(recognizer.package.root), "--dev", str(dev), "--test", str(test)]
    arguments += ["--rounds", "1", "--audio-s", "1", "-o", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hotwords, "PHRASES", (0, 3))
        assert hotwords.main(arguments) == 0
    text = out.read_text()
    assert "* x: nine" in text, "the word that is always wrong"
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| x |")]
    assert [row[1] for row in rows] == ["utterances", "streams", "utterances"]
    assert all(row[4:6] == ["2", "2 to 2"] and row[10] == "missed |" for row in rows)
    figures = json.loads(out.with_suffix(".json").read_text())
    assert figures["bonus"] == min(hotwords.BONUSES), "no bonus writes what units cannot"
    assert figures["speed"][0]["ratios"] == [1.0] and figures["speed"][1]["phrases"] == 3


@pytest.mark.parametrize("options", [["b"], ["--rounds", "-1"], ["--audio-s", "0"]])
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert hotwords.main(["nowhere", "--dev", str(CLIPS), "--test", "a", *options]) == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_no_such_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--dev", str(CLIPS), "--test", str(CLIPS)]
    assert hotwords.main([str(tmp_path / "nowhere"), *sets]) == 78
    assert "nowhere" in capsys.readouterr().err
