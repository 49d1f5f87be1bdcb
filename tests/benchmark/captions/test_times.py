"""benchmark.captions.times: tones said at known times, alignments that shift, and what is left
out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.captions import times as word_times
from benchmark.captions.times import aligned_words, differences
from benchmark.replay import record
from edge_asr.bench.play import Clip
from edge_asr.events import Word
from edge_asr.streams.recognizer import Recognizer
from tests.benchmark.speech import CLIPS, write_set
from tests.tiny import RATE, tones


def word(text: str, start_ms: int) -> Word:
    return Word(text, start_ms, start_ms + 100, 1.0)


def test_words_are_where_their_tones_are(recognizer: Recognizer) -> None:
    clip = Clip(tones("▁one 400 ▁two s")[:, None], RATE)
    words = aligned_words(recognizer, record(recognizer, clip, "one twos", "", "whole"))
    assert [found.text for found in words] == ["one", "twos"]
    # Tones of 200 ms, 120 ms of silence around each; a frame is 40 ms and sees 75 ms.
    for found, start_ms in zip(words, (120, 120 + 200 + 120 + 400), strict=True):
        assert abs(found.start_ms - start_ms) <= 80
    assert abs(words[1].end_ms - (840 + 200 + 120 + 200)) <= 100


def test_a_text_that_units_cannot_spell_has_no_words(recognizer: Recognizer) -> None:
    clip = Clip(tones("▁one")[:, None], RATE)
    assert aligned_words(recognizer, record(recognizer, clip, "nine", "", "whole")) == ()


def test_differences_of_words_that_are_right() -> None:
    meant = [word("a", 0), word("b", 200), word("c", 400)]
    said = [word("a", 40), word("x", 230), word("c", 380), word("d", 600)]
    assert list(differences(said, meant)) == [(40, 40), (-20, -20)]


def test_the_whole_command(recognizer: Recognizer, tmp_path: Path) -> None:
    spoken = [("▁one 300 ▁two", "one two", "a"), ("▁two", "two", "a"), ("ty", "nine", "b")]
    recordings, out = write_set(tmp_path / "set", spoken, "test"), tmp_path / "times.md"
    arguments = [str(recognizer.package.root), str(recordings), "-o", str(out)]
    assert word_times.main(arguments) == 0
    text = out.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| set test | greedy"))
    # The tiny encoder looks at nothing behind a frame, so chunks change nothing.
    assert row.startswith("| set test | greedy | 3 | 1 | 0 | 0 | +0 | 0 | 0 | +0 | 0.0 % |")
    assert "Kept by all" in text and str(tmp_path) not in text
    figures = json.loads(out.with_suffix(".json").read_text())
    assert [row["way"] for row in figures["rows"]] == ["greedy", "prefix"], "no decoder"
    assert len(figures["rows"][0]["to_sound_starts_ms"]) == 1, "recordings of one word"
    assert abs(figures["rows"][0]["to_sound_starts_ms"][0]) <= 60


def test_no_such_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert word_times.main([str(tmp_path / "nowhere"), str(CLIPS)]) == 78
    assert "nowhere" in capsys.readouterr().err
