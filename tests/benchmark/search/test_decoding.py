"""benchmark.search.decoding and benchmark.search.decoding_tune: what is compared, its counts, and
the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.search import decoding, decoding_tune
from benchmark.search.decoding import chunks_ms, ways
from benchmark.search.decoding_report import Rate
from benchmark.search.decoding_speed import Played, Speed, play_round
from benchmark.words.errors import UtteranceErrors
from edge_asr.audio.recordings import read_manifest
from edge_asr.bench.play import Clip
from edge_asr.errors import UsageError
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer, load
from tests.benchmark.speech import CLIPS, write_set
from tests.tiny import RATE, tones

SPOKEN = [
    ("▁one ▁two", "one two", "anna"),
    ("▁one s", "ones", "anna"),
    ("▁two ty", "two", "ben"),  # one substitution
    ("▁one", "one one", "ben"),  # one deletion
]
LM = "one two\nones\ntwo\none one\ntwoty\n"


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    from edge_asr.__main__ import main

    (tmp_path / "text").write_text(LM)
    path = tmp_path / "lm.arpa"
    assert main(["lm", str(tmp_path / "text"), "--case", "keep", "-o", str(path)]) == 0
    return path


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
    words = sum(len(utterance.text.split()) for utterance in read_manifest(CLIPS))
    assert f"data clips: 10 utterances with {words} words" in text
    assert "Of 1 comparisons" in text


def test_chunks(recognizer: Recognizer) -> None:
    assert chunks_ms(recognizer, ["4", "16", "whole"]) == {"4": 160, "16": 640, "whole": "whole"}
    with pytest.raises(UsageError, match="'x'"):
        chunks_ms(recognizer, ["x"])


def test_worse_by_more_than_noise() -> None:
    zero = np.zeros(100, np.int64)
    greedy = UtteranceErrors(zero, zero, zero, zero + 1)
    more = zero.copy()
    more[:10] = 1
    assert Rate.of(UtteranceErrors(more, zero, zero, zero + 1), greedy).worse
    more[1:] = 0
    one_word = Rate.of(UtteranceErrors(more, zero, zero, zero + 1), greedy)
    assert not one_word.worse, "one word is noise"


def test_work_is_what_pushes_and_flushes_take(recognizer: Recognizer) -> None:
    """A clock that counts its readings: each call takes one second."""
    readings = iter(range(1000))
    clip, speed = Clip(tones("▁one")[: RATE // 5, None], RATE), Speed()
    clock = lambda: float(next(readings))  # noqa: E731
    play_round(recognizer, Played(640, Decoding()), [clip, clip], speed, clock)
    assert speed.rtfs == [pytest.approx((4 + 1) / 0.2)]
    assert (speed.pushes_ms, speed.flushes_ms) == ([1000], [1000, 1000])


def test_tuning_takes_the_fewest_errors(
    recognizer: Recognizer,
    language_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = write_set(tmp_path, SPOKEN, "dev")
    arguments = [str(recognizer.package.root), str(manifest), "--lm", str(language_model)]
    assert decoding_tune.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    tried = [line for line in lines if "chosen" not in line]
    chosen = [line for line in lines if "chosen" in line]
    assert len(tried) == len(decoding_tune.LM_WEIGHTS) * len(decoding_tune.WORD_BONUSES)
    rates = [float(line.split("%")[0]) for line in tried]
    assert [float(line.split("%")[0]) for line in chosen] == [min(rates)]
    assert decoding_tune.main([*arguments, "--utterances", "1"]) == 0
    assert {line.split("%")[0].strip() for line in capsys.readouterr().out.splitlines()} <= {
        "0.00", "50.00", "100.00"
    }, "one of two words, or of one"  # fmt: skip
    assert decoding_tune.main([*arguments, "--utterances", "0"]) == 64
    assert decoding_tune.main([*arguments, "--blank-penalty", "100"]) == 0
    taxed = [line for line in capsys.readouterr().out.splitlines() if "chosen" not in line]
    assert len(taxed) == len(tried) and taxed != tried, "blanks that are not sure are lost"
    assert decoding_tune.main([*arguments, "--blank-penalty", "-1"]) == 64


@pytest.mark.parametrize("options", [["--rounds", "-1"], ["--audio-s", "nan"]])
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert decoding.main(["nowhere", str(CLIPS), *options]) == 64
    assert capsys.readouterr().err.count("\n") == 1


def test_no_such_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program in (decoding, decoding_tune):
        assert program.main([str(tmp_path / "nowhere"), str(CLIPS)]) == 78
        assert "nowhere" in capsys.readouterr().err
