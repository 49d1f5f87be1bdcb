"""benchmark.search.decoding and benchmark.search.decoding_tune: what is compared, its counts, and
the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.search import decoding, decoding_tune
from benchmark.search.decoding import chunks_ms, ways
from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import UsageError
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.streams.recognizer import Recognizer, load
from tests.benchmark.speech import CLIPS, write_set

SPOKEN = [
    ("▁one ▁two", "one two", "anna"),
    ("▁one s", "ones", "anna"),
    ("▁two ty", "two", "ben"),  # one substitution
    ("▁one", "one one", "ben"),  # one deletion
]


def test_the_whole_command(recognizer: Recognizer, language_model: Path, tmp_path: Path) -> None:
    one, other = write_set(tmp_path / "a", SPOKEN, "test"), write_set(tmp_path / "b", SPOKEN, "x")
    out = tmp_path / "page.md"
    arguments = [str(recognizer.package.root), str(one), str(other), "--lm", str(language_model)]
    arguments += ["--chunks", "4,whole", "--rounds", "1", "--audio-s", "2", "--shared"]
    assert decoding.main([*arguments, "-o", str(out)]) == 0
    text = out.read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| 4 ", "| whole"))]
    assert [row[1] for row in rows] == ["greedy", "prefix", "prefix + LM"] * 2
    assert all(row[2] == row[4] == "33.33 (1/1/0)" for row in rows[:2])
    assert "+0.00 (+0.00 to +0.00)" in rows[1][3] and rows[0][3] == ""
    assert "preliminary" in text and "a/test.tsv b/x.tsv --lm lm.arpa" in text
    assert str(tmp_path) not in text
    figures = json.loads(out.with_suffix(".json").read_text())
    rate = figures["rows"][0]["rates"]["a test"]
    assert (rate["substitutions"], rate["deletions"], rate["words"]) == (1, 1, 6)
    assert len(figures["rows"][0]["speed"]["rtfs"]) == 1


def test_what_is_compared(recognizer: Recognizer, language_model: Path) -> None:
    assert list(ways(recognizer, None, 3)) == ["greedy", "prefix"], "no decoder"
    model = LanguageModel.read(language_model, recognizer.package.units)
    assert ways(recognizer, model, None)["prefix + LM"].language_model is model


@pytest.mark.slow
def test_with_decoders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ways(load(), None, 3)
    assert [one.second_pass for one in found.values()] == ["off", "off", "inline", "inline"]
    assert found["prefix + second pass, CTC weight 3"].ctc_weight == 3
    assert decoding.main(["commands-en", str(CLIPS), "--chunks", "16", "--rounds", "0"]) == 0
    text = capsys.readouterr().out
    words = sum(len(utterance.text.split()) for utterance in read_recordings(CLIPS))
    assert f"data clips: 10 utterances with {words} words" in text
    assert "Of 1 comparisons" in text


def test_chunks(recognizer: Recognizer) -> None:
    assert chunks_ms(recognizer, ["4", "16", "whole"]) == {"4": 160, "16": 640, "whole": "whole"}
    with pytest.raises(UsageError, match="'x'"):
        chunks_ms(recognizer, ["x"])


@pytest.mark.parametrize("options", [["--rounds", "-1"], ["--audio-s", "nan"]])
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert decoding.main(["nowhere", str(CLIPS), *options]) == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_no_such_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program in (decoding, decoding_tune):
        assert program.main([str(tmp_path / "nowhere"), str(CLIPS)]) == 78
        assert "nowhere" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_the_first_thing_to_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = str(tmp_path / "none" / "page.md")
    assert decoding.main(["no such package", str(CLIPS), "-o", page]) == 73
    assert page in capsys.readouterr().err
