"""``edge-asr lm``: text in, an ARPA file out."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_asr.__main__ import main
from edge_asr.commands.lm import sentences_of, word_splitter
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


@pytest.mark.parametrize(
    ("line", "sentences", "left_out"),
    [
        ("Yes, no.", ["YES NO"], []),
        ("<s> yes no </s>", ["", "YES NO", ""], []),
        ("<S>yes</S> <s>no</s>", ["", "YES", "", "NO", ""], []),
        ("yes <unk> <UNK> no", ["YES <unk> <unk> NO"], []),
        ("<unk>", ["<unk>"], []),
        ("[noise] yes <sil> ++um++ no", ["YES NO"], ["[noise]", "<sil>", "++um++"]),
        ("yes[1] <b>no</b>", ["YES NO"], ["[1]", "<b>", "</b>"]),
        ("<s> yes </s> (an4-f_12)\n", ["", "YES", ""], ["(an4-f_12)"]),
        ("yes (no) c++ 1 < 2 [a b] (e-mail)", ["YES NO C 1 2 A B E MAIL"], []),
        ("yes (file-1) no (", ["YES FILE 1 NO"], []),
    ],
)
def test_marks_of_corpora_are_no_words(
    line: str, sentences: list[str], left_out: list[str]
) -> None:
    marks: Counter[str] = Counter()
    assert [" ".join(found) for found in sentences_of(line, word_splitter(), marks)] == sentences
    assert sorted(marks.elements()) == sorted(left_out)


def test_marks_of_every_line_need_little_memory() -> None:
    marks: Counter[str] = Counter()
    for number in range(3000):
        assert list(sentences_of(f"yes (a-{number})", word_splitter(), marks)) == [["YES"]]
    assert marks.total() == 3000
    assert len(marks) < 1100


def test_marks_that_are_left_out_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, marked = tmp_path / "text.txt", tmp_path / "marked.txt"
    text.write_text("yes no\nno <unk>\n")
    marked.write_text("<s> yes [noise] no </s>\n<s> [noise] no <unk> </s> (a-1)\n")
    for source in (text, marked):
        assert main(["lm", str(source), "-o", f"{source}.arpa"]) == 0
    assert capsys.readouterr().err == (
        "edge-asr: left out as no words: 3 marks, such as [noise], (a-1)\n"
    )
    assert Path(f"{text}.arpa").read_text() == Path(f"{marked}.arpa").read_text()


@pytest.mark.parametrize("options", [["--level", "unit"], ["--punctuation", "keep"]])
def test_kept_marks_are_words_but_for_those_of_sentences(
    tmp_path: Path, options: list[str]
) -> None:
    text, target = tmp_path / "text.txt", tmp_path / "lm.arpa"
    text.write_text("<s> A [B] <unk> </s>\n")
    assert main(["lm", str(text), "-o", str(target), *options]) == 0
    assert set(read_ngrams(target).words) == {"<s>", END, "<unk>", "A", "[B]"}


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edge_asr", "lm", *arguments]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, check=False)


def test_standard_input(tmp_path: Path) -> None:
    target = tmp_path / "lm.arpa"
    result = run("-", "-o", str(target), stdin=b"\xef\xbb\xbfyes no\nno")
    assert (result.returncode, result.stderr) == (0, b"")
    assert set(read_ngrams(target).words) == {"<s>", END, "<unk>", "YES", "NO"}


@pytest.mark.slow
@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_standard_output(text: Path, tmp_path: Path, output: str) -> None:
    result = run(str(text), "-o", output)
    assert result.returncode == 0
    assert result.stderr.startswith(b"edge-asr: 2 words"), "not among the lines of the file"
    target = tmp_path / "lm.arpa"
    assert run(str(text), "-o", str(target)).returncode == 0
    assert result.stdout == target.read_bytes()


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
