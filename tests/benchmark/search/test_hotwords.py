"""benchmark.search.hotwords: lists, what counts as an error on them, the choice of the bonus, the
page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.replay import Recording
from benchmark.search import hotwords
from benchmark.search.hotword_lists import Split
from benchmark.search.hotword_report import Sweep
from benchmark.search.hotwords import choose_bonus, halves
from edge_asr.bench.play import Clip
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import CLIPS, write_set
from tests.tiny import RATE, tones


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
