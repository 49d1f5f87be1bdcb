"""Synthetic voices: what they say, and the corpus that is made of it."""

from __future__ import annotations

import itertools
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import InputMissingError
from model.accents import LANGUAGES, NEAREST, SOMETIMES, accented
from model.synthesis import Request, main, requests, say, write_corpus
from model.synthesis_texts import COMMANDS, DIGITS, LETTERS, MONTHS, plain, sentences, strings


def test_strings_are_of_the_small_vocabulary() -> None:
    said = list(itertools.islice(strings(np.random.default_rng(0)), 2000))
    words = {word for text in said for word in text.split()}
    assert words >= {*LETTERS, *DIGITS, *MONTHS, *COMMANDS, "HUNDRED", "THIRTEENTH", "RUBOUT"}
    assert len(words) < 150
    assert said == list(itertools.islice(strings(np.random.default_rng(0)), 2000))
    letters, digits = (sum(word in kind for t in said for word in t.split())
                       for kind in (LETTERS, DIGITS))  # fmt: skip
    assert 0.5 < letters / digits < 2  # neither is the better guess


def test_sentences_leave_out_what_is_tested() -> None:
    lines = [
        "It was, as he said, a fine day.",
        "The secret test sentence.",
        "But, the secret test sentence!",
        "Too short",
        "In 1999.",
    ]
    said = set(itertools.islice(
        sentences(lines, {"THE SECRET TEST SENTENCE"}, np.random.default_rng(0)), 200
    ))  # fmt: skip
    whole = "IT WAS AS HE SAID A FINE DAY"
    assert all(text in whole for text in said) and whole in said
    assert min(len(text.split()) for text in said) == 3


def test_accents_replace_sounds_and_keep_words_and_stress() -> None:
    drawn = {accented("T_r_'i: s_'I_k_s", np.random.default_rng(seed)) for seed in range(40)}
    assert {text.split()[1] for text in drawn} == {"s_'i_k_s"}
    assert {text.split()[0] for text in drawn} == {"T_r_'i", "s_r_'i", "t_r_'i", "f_r_'i"}
    assert accented("'aU_t", np.random.default_rng(0)) == "'a_u_t"


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")
def test_voices_know_every_sound_that_accents_leave() -> None:
    left = {*NEAREST.values(), *(sound for ways in SOMETIMES.values() for sound in ways)}
    sounds = sorted({sound for many in left for sound in many.split("_") if sound})
    for language in LANGUAGES:
        # What follows an unknown sound is left out.
        words = " ".join(f"m_{sound}_m" for sound in [*sounds, "0"])
        command = ["espeak-ng", "-q", "-x", "-v", language, f"[[{words}]]"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        known = [word.count("m") >= 2 for word in said]
        assert known == [True] * len(sounds) + [False], (language, said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Don't stop-go!", "DON'T STOP GO"), ("'quoted'", "QUOTED"), ("Na\u00efve", ""), ("B 52", "")],
)
def test_plain_text(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_programs_are_drawn_by_their_weights() -> None:
    found = requests(
        iter(["YES"] * 1000), True, {"flite": 3.0, "espeak-ng": 1.0}, np.random.default_rng(0)
    )
    drawn = list(found)
    assert 680 < sum(request.program == "flite" for request in drawn) < 820
    assert len({request.seed for request in drawn}) == 1000


def voice(folder: Path, monkeypatch: pytest.MonkeyPatch, samples: np.ndarray) -> Path:
    """A program named flite that says the samples, and writes down its arguments."""
    soundfile.write(folder / "said.wav", samples, 22050, subtype="PCM_16")
    program = folder / "flite"
    program.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {folder}/arguments\n"
        f'for last; do :; done\ncp {folder}/said.wav "$last"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder / "arguments"


def test_a_corpus_can_be_read_and_letters_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    arguments = voice(tmp_path, monkeypatch, 0.1 * rng.normal(size=22050))
    texts = itertools.cycle(["A B SEVEN", "ENTER A"])
    wanted = requests(texts, True, {"flite": 1.0}, rng)
    count = write_corpus(wanted, 100 / 3600, tmp_path / "out", quiet=True)
    rows = read_recordings(tmp_path / "out" / "train.tsv")
    assert len(rows) == count >= 100 and {row.text for row in rows} == {"A B SEVEN", "ENTER A"}
    levels = []
    for row in rows[:20]:
        samples, rate = soundfile.read(row.path)
        assert rate == 16000 and len(samples) == pytest.approx(16000, abs=2)
        levels.append(float(np.abs(samples).max()))
    assert 0.04 < min(levels) < 0.5 * max(levels) < 0.5
    assert "-t ay b seven " in arguments.read_text() and "-t enter ay " in arguments.read_text()


def test_what_cannot_speak_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice(tmp_path, monkeypatch, np.zeros(1000))
    with pytest.raises(InputMissingError, match="silence"):
        say(Request("YES", "flite", 1, True))
    (tmp_path / "said.wav").write_bytes(b"no audio")
    with pytest.raises(InputMissingError, match="no speech"):
        say(Request("YES", "flite", 1, True))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(InputMissingError, match="apt-get install"):
        say(Request("YES", "espeak-ng", 1, True))


def test_sentences_need_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short.txt").write_text("Too short.\n")
    for more in ([], ["--text", str(tmp_path / "short.txt")]):
        assert main(["sentences", "--hours", "1", "-o", str(tmp_path), *more]) == 66
        assert "--text" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--exclude", "dev.tsv"],
        ["--program", "flite"],
        ["--program", "hal=1"],
        ["--program", "flite=0"],
    ],
)
def test_wrong_usage(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["strings", "--hours", "1", "-o", str(tmp_path / "out"), *options]) == 64
    assert options[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_speaks(tmp_path: Path) -> None:
    assert (
        main(["strings", "--hours", "0.01", "--program", "espeak-ng=1", "-o", str(tmp_path)]) == 0
    )
    rows = read_recordings(tmp_path / "train.tsv")
    assert len({row.speaker for row in rows}) > 5
    samples, _ = soundfile.read(rows[0].path)
    assert len(samples) > 3000 and np.abs(samples).max() > 0.04
