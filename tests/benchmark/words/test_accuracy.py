"""benchmark.words.accuracy: what is counted, over which utterances, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmark.words import accuracy
from benchmark.words.accuracy import Reached, chosen, measure, noises, quiet
from benchmark.words.sets import Task
from edge_asr.audio.recordings import Utterance
from edge_asr.bench.play import Clip
from edge_asr.errors import InputMissingError
from edge_asr.package.files import Package
from edge_asr.search.decoding import Decoding
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import write_set
from tests.tiny import RATE, tones

GREEDY = Decoding(search="greedy", second_pass="off")


def task(measure: str, path: str = "said/test.tsv") -> Task:
    return Task("tones", "commands", measure, path, 50, 10)  # type: ignore[arg-type]


def test_only_speakers_and_words_that_were_asked_for_count() -> None:
    rows = [Utterance(Path("a"), speaker, text) for speaker in "xy" for text in ("YES", "NO")]
    everything = task("words")
    assert chosen(everything, rows) == rows
    some = Task("", "commands", "words", "", 1, 0, frozenset({"YES"}), frozenset("y"))
    assert [(u.speaker, u.text) for u in chosen(some, rows)] == [("y", "YES")]


def test_words_and_clips_that_are_wrong(recognizer: Recognizer, tmp_path: Path) -> None:
    said = [("\u2581one", "one", "a"), ("\u2581two", "two", "a"), ("\u2581one", "two one", "b"),
            ("\u2581two s", "twos", "b")]  # fmt: skip
    recordings = write_set(tmp_path / "said", said, "test")
    words = measure(task("words"), recordings, recognizer, GREEDY, 640)
    assert (words.utterances, words.words, words.value) == (4, 5, pytest.approx(20))
    assert words.low <= words.value <= words.high and words.verdict == "must reached"
    clips = measure(task("clips"), recordings, recognizer, GREEDY, 640)
    assert clips.value == pytest.approx(25) and clips.low < 25 < clips.high


def test_a_grammar_leaves_nothing_else_to_say(recognizer: Recognizer, tmp_path: Path) -> None:
    said = [("\u2581one", "one", "a"), ("\u2581two", "two", "a")]
    recordings = write_set(tmp_path / "said", said, "test")
    prefix = Decoding(second_pass="off")
    assert measure(task("clips"), recordings, recognizer, prefix, 640).value == 0
    only = replace(task("clips"), grammar=("two",))
    assert measure(only, recordings, recognizer, prefix, 640).value == pytest.approx(50)


def test_clips_that_were_cut_tightly_get_quiet_around_them() -> None:
    clip = Clip(np.full((800, 1), 0.5, np.float32), RATE)
    opened = accuracy._opened(clip, 0.25)
    side = RATE // 4
    assert len(opened.samples) == 800 + 2 * side
    np.testing.assert_array_equal(opened.samples[side : side + 800], clip.samples)
    around = np.concatenate([opened.samples[:side], opened.samples[-side:]])
    assert 0 < np.abs(around).max() < 0.01
    assert accuracy._opened(clip, 0.0) is clip


def test_words_where_nobody_speaks_are_counted_by_the_minute(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny package takes some noises for its tones.
    silence = Clip(np.zeros((20 * RATE, 1), np.float32), RATE)
    monkeypatch.setattr(accuracy, "quiet", lambda rng: iter([silence]))
    for number, played in enumerate(("\u2581one 1200 \u2581two", "\u2581two")):
        (tmp_path / "noise" / "rain").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "noise" / "rain" / f"5-{number}.wav"
        soundfile.write(path, tones(played), RATE, subtype="FLOAT")
        soundfile.write(path.with_name(f"1-{number}.wav"), tones(played), RATE, subtype="FLOAT")
    minutes = sum(clip.duration_s for clip in noises(tmp_path / "noise")) / 60
    found = measure(task("false words"), tmp_path / "noise", recognizer, GREEDY, 640)
    assert found.value == pytest.approx(3 / minutes) and found.low < found.value < found.high
    with pytest.raises(InputMissingError, match="noises"):
        noises(tmp_path)


def test_silence_is_of_four_kinds_and_always_the_same() -> None:
    first, second = (list(quiet(np.random.default_rng(0))) for _ in range(2))
    assert len(first) == 4 and sum(clip.duration_s for clip in first) == accuracy.SILENCE_S
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours.samples, theirs.samples)
    assert [float(np.abs(clip.samples).max()) > 0 for clip in first] == [False, True, True, True]
    assert all(np.abs(clip.samples).max() < 0.2 for clip in first)


@pytest.mark.parametrize(
    ("value", "verdict"), [(10.0, "aim reached"), (50.0, "must reached"), (50.1, "missed")]
)
def test_verdicts(value: float, verdict: str) -> None:
    row = Reached("tones", "commands", "% WER", 1, 1, value, 0, 100, must=50, aim=10)
    assert row.verdict == verdict


def test_the_page(
    tiny_package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_set(tmp_path / "said", [("\u2581one", "one", "a"), ("\u2581two", "one", "a")], "test")
    monkeypatch.setattr(accuracy, "TASKS", (task("words"), task("clips")))
    out = tmp_path / "accuracy.md"
    arguments = ["--data", str(tmp_path / "empty"), "--data", str(tmp_path), "-o", str(out)]
    assert accuracy.main([*arguments, "--commands", str(tiny_package.root)]) == 0
    assert out.read_text().count("| 50.0 (") == 2 and "must reached" in out.read_text()
    figures = json.loads(out.with_suffix(".json").read_text())
    assert [row["value"] for row in figures["rows"]] == [50, 50]
    assert accuracy.main(["--data", str(tmp_path / "empty"), "--commands",
                          str(tiny_package.root)]) == 66  # fmt: skip
    assert "test.tsv" in capsys.readouterr().err


def test_nothing_to_measure(
    recognizer: Recognizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page_path = tmp_path / "page.md"
    assert accuracy.main(["--data", str(tmp_path), "-o", str(page_path)]) == 64
    assert "--english" in capsys.readouterr().err and not page_path.exists()
    recordings = write_set(tmp_path, [("▁one", "one", "anna")], "test")
    nobody = replace(task("words"), speakers=frozenset({"ben"}))
    with pytest.raises(InputMissingError, match="'tones'"):
        measure(nobody, recordings, recognizer, GREEDY, 640)
