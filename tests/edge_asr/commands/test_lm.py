"""``edge-asr lm``: text in, an ARPA file out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_asr.__main__ import main
from edge_asr.commands.lm import word_splitter
from edge_asr.fusion.arpa import END, read_ngrams
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.package.units import Units

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("Yes, yes.\nNo!\n\nYes -- no\n", encoding="utf-8")
    return path


def test_text_becomes_a_model_that_fits(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "lm.arpa"
    assert main(["lm", str(text), str(text), "-o", str(target), "--order", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == f"2 words, 6 2-grams in {str(target)!r}\n"
    assert err == ""
    ngrams = read_ngrams(target)
    assert set(ngrams.words) == {"<s>", END, "<unk>", "YES", "NO"}
    model = LanguageModel.read(target, Units(("<blank>", "▁YES", "▁NO")), weight=1.0)
    start = np.full(2, model.start)
    _, after = model.advance(start, np.array([1, 2]))
    yes, no = model.finish(after)
    assert no > yes  # "no" is a sentence of the text, "yes" is none


def test_options_reach_the_model(text: Path, tmp_path: Path) -> None:
    target = tmp_path / "lm.arpa"
    options = ["--order", "4", "--min-counts", "1,2", "--case", "keep", "--punctuation", "keep"]
    assert main(["lm", str(text), "-o", str(target), *options]) == 0
    ngrams = read_ngrams(target)
    assert len(ngrams.orders) == 4
    assert set(ngrams.words) >= {"Yes,", "yes.", "No!", "--", "no"}
    pairs = [[ngrams.words[word] for word in row] for row in ngrams.orders[1].words]
    assert pairs == []


def test_units_are_taken_as_they_are(tmp_path: Path) -> None:
    text, target = tmp_path / "text.txt", tmp_path / "lm.arpa"
    text.write_text("▁the ▁ t r e e\n▁ ' s\n", encoding="utf-8")
    assert main(["lm", str(text), "-o", str(target), "--level", "unit"]) == 0
    marks = {"<s>", END, "<unk>"}
    assert set(read_ngrams(target).words) - marks == {"▁the", "▁", "t", "r", "e", "'", "s"}


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("Hello, world!\n", {}, ["HELLO", "WORLD"]),
        ("Hello, world!", {"case": "lower"}, ["hello", "world"]),
        ("Hello, world!", {"case": "keep", "punctuation": "keep"}, ["Hello,", "world!"]),
        (
            "don\u2019t say 'this' -- or \u2018that\u2019",
            {},
            ["DON'T", "SAY", "THIS", "OR", "THAT"],
        ),
        ("a well-known e.g. 3rd", {}, ["A", "WELL", "KNOWN", "E", "G", "3RD"]),
        ("stra\u00dfe cafe\u0301", {"case": "lower"}, ["straße", "café"]),
        ("हिन्दी में", {}, ["हिन्दी", "में"]),
        ("你好 world。", {"case": "lower"}, ["你", "好", "world"]),
        ("ok你好。", {"case": "keep", "punctuation": "keep"}, ["ok", "你", "好", "。"]),
        ("' -- '' \u2581 \x00 \x1b[2J", {}, ["2J"]),
        ("\x85\u2028 \u3000", {}, []),
    ],
)
def test_words_of_a_line(line: str, options: dict[str, str], words: list[str]) -> None:
    split = word_splitter(**options)
    assert split(line) == words
    assert split(line) == words  # also when all characters are known


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edge_asr", "lm", *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, check=False)


def test_standard_input(tmp_path: Path) -> None:
    target = tmp_path / "lm.arpa"
    result = run("-", "-o", str(target), stdin=b"\xef\xbb\xbfyes no\nno")
    assert (result.returncode, result.stderr) == (0, b"")
    assert set(read_ngrams(target).words) == {"<s>", END, "<unk>", "YES", "NO"}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["{folder}/nothing"], 66, "give the path of a text file"),
        (["{folder}"], 66, "Is a directory"),
        (["a\0b"], 66, "give the path of a text file"),
        (["{folder}/latin.txt"], 64, "latin.txt' line 2: not UTF-8 text"),
        (["{folder}/long.txt"], 64, "long.txt' line 1: 1000000 bytes or more"),
        (["{folder}/empty.txt"], 64, "the text has no words"),
        (["{text}", "--order", "6"], 64, "order is 6; allowed are 1 to 5"),
        (["{text}", "--order", "two"], 64, "--order"),
        (["{text}", "--min-counts", "1,x"], 64, "'1,x' is no list of numbers"),
        (["{text}", "--min-counts", "2"], 64, "minimum counts are 2"),
        (["{text}", "--level", "unit", "--case", "keep"], 64, "--case and --punctuation are for"),
        (["{text}", "-o", "{text}"], 64, "is a text; choose another output"),
        (["{text}", "-o", "{folder}/not/there"], 73, "cannot be written"),
    ],
)
def test_what_goes_wrong_is_one_line(
    text: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"yes\nn\xe9\n")
    (tmp_path / "long.txt").write_bytes(b"yes " * 250_000)
    (tmp_path / "empty.txt").write_bytes(b"\n...\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    places = {"folder": str(tmp_path), "text": str(text)}
    filled = [argument.format(**places) for argument in arguments]
    assert main(["lm", "-o", str(tmp_path / "lm.arpa"), *filled]) == code
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
