"""benchmark.words.spelled_clips: single letters and digits out of strings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmark.words.spelled_clips import DIGITS, digit_rows, main, quietest, single
from edge_asr.audio.recordings import read_recordings
from edge_asr.bench.play import Clip
from edge_asr.errors import InputMissingError
from edge_asr.streams.recognizer import Recognizer

RATE = 16000


def test_a_cut_is_where_it_is_quietest_and_only_in_a_pause() -> None:
    levels = np.array([-20.0, -20, -25, -50, -60, -50, -22, -20, -21, -25, -21, -20])
    assert quietest(levels, 1, 7) == 4
    assert quietest(levels, 7, 11) is None  # no pause between them
    assert quietest(levels, 1, 2) is None


def test_words_with_pauses_around_them_become_clips(recognizer: Recognizer) -> None:
    """Four words, of which the last two run into each other."""
    package = recognizer.package
    step = int(package.manifest.frame_ms * RATE / 1000)
    names = [package.units.symbols.index(name) for name in ("\u2581one", "\u2581two")]
    frames = 60
    log_probs = np.full((frames, len(package.units)), -20.0, np.float32)
    log_probs[:, 0] = 0.0
    samples = np.full(frames * step, 1e-4, np.float32)
    for name, at in zip((names[0], names[1], names[0], names[1]), (10, 25, 40, 44), strict=True):
        log_probs[at, 0], log_probs[at, name] = -20.0, 0.0
        samples[(at - 3) * step : (at + 3) * step] = 0.1
    clip = Clip(samples[:, None], RATE)
    text = " ".join(DIGITS[1:3])
    assert list(single(recognizer, clip, text, log_probs)) == []  # not in these units
    found = list(single(recognizer, clip, "one two one two", log_probs))
    assert found == []  # neither letters nor digits
    letters = pytest.MonkeyPatch()
    letters.setattr("benchmark.words.spelled_clips.DIGITS", ("one", "two"))
    found = list(single(recognizer, clip, "one two one two", log_probs))
    letters.undo()
    assert [word for word, _ in found] == ["one", "two"]
    for (_, cut), at in zip(found, (10, 25), strict=True):
        loud = np.flatnonzero(np.abs(cut) > 0.05)
        assert len(loud) == pytest.approx(6 * step, rel=0.05), at


def test_digits_of_the_free_spoken_digit_dataset(tmp_path: Path) -> None:
    for name in ("7_george_0", "0_theo_4", "3_theo_5"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(4000), 8000)
    rows = list(digit_rows(tmp_path))
    assert [(row[2], row[3]) for row in rows] == [("theo", "ZERO"), ("george", "SEVEN")]
    with pytest.raises(InputMissingError, match="DIGIT_SPEAKER_N"):
        list(digit_rows(tmp_path / "none"))


@pytest.mark.slow
def test_the_command_cuts_real_strings(tmp_path: Path) -> None:
    clips = Path(__file__).parents[2] / "data" / "clips.tsv"
    assert main(["commands-en", str(clips), "-o", str(tmp_path / "test.tsv")]) == 0
    rows = read_recordings(tmp_path / "test.tsv")
    assert rows and all(len(row.text) == 1 or row.text in (*DIGITS, "OH") for row in rows)
    for row in rows:
        samples, rate = soundfile.read(row.path)
        assert 0.1 * rate < len(samples) < 2.5 * rate
