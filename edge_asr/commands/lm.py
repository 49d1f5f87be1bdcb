"""``edge-asr lm``: an n-gram language model from text, for what people will probably say."""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from edge_asr.commands.output_file import is_same_file, names_stdout, open_output
from edge_asr.console import complain
from edge_asr.errors import InputMissingError, UsageError

STDIN = "-"
_MAX_LINE_BYTES = 1_000_000
_CASES: dict[str, Callable[[str], str]] = {"upper": str.upper, "lower": str.lower, "keep": str}
# What corpora write around and among words. SRILM, IRSTLM and CMU's tools want the first.
_SENTENCE_MARK = re.compile("</?s>", re.IGNORECASE)
_UNKNOWN_MARK = re.compile("<unk>", re.IGNORECASE)
_OTHER_MARK = re.compile(
    r"<(?!/?s>|unk>)[^<>\s]+> | \[[^\[\]\s]+\] | \+\+[^\s+]+\+\+", re.IGNORECASE | re.VERBOSE
)
_UTTERANCE_ID = re.compile(r"\((?=.*\d)(?=.*[-_])[^\s()]+\)")
_MARKS_NAMED = 3
_MAX_MARKS = 1000  # that are counted apart: an id at the end is another one in each line
_MORE_MARKS = "others"
_APOSTROPHES = "'\u2019\u2018\u02bc\uff07"
_HELP = """
The text has one sentence per line, in UTF-8. At word level, which fits every model, words are
converted to one case, and everything but letters, digits and apostrophes inside words becomes a
space. Each Chinese or Japanese character is a word, as in captions. Numbers are not changed: write
them as they are spoken. At unit level, lines hold units of the model, separated by spaces, as its
tokenizer writes them, and nothing is changed but marks of sentences.

<s> and </s> begin and end sentences, and <unk> is an unknown word. At word level other marks are
left out and counted on standard error, unless punctuation is kept: <sil>, [noise], ++um++, and the
name of a recording at the end, as (speaker-01).

Smoothing is interpolated modified Kneser-Ney. All words of the text are in the vocabulary.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``edge-asr lm``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="text files (-: standard input)")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the ARPA file (-: standard output)"
    )
    parser.add_argument(
        "--order", type=int, default=3, help="length of the longest n-grams, 1 to 5 (default: 3)"
    )
    parser.add_argument(
        "--level",
        choices=("word", "unit"),
        default="word",
        help="what a line of text consists of (default: word)",
    )
    parser.add_argument(
        "--case", choices=tuple(_CASES), help="case of words (default: upper); units are kept"
    )
    parser.add_argument(
        "--punctuation",
        choices=("strip", "keep"),
        help="punctuation of words (default: strip); units are kept",
    )
    parser.add_argument(
        "--min-counts",
        type=_min_counts,
        default=(),
        metavar="N,...",
        help="how often n-grams of 1, 2, ... words must occur to be kept, the last number for "
        "all longer ones: 1,1,2 drops trigrams seen once (default: 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Estimate and write; the exit code.

    Raises:
        InputMissingError: a text is missing or may not be read.
        UsageError: a text is not UTF-8 or has no words, or options are out of range.
        OutputError: the file cannot be written.
    """
    to_stdout = names_stdout(arguments.output)
    target = Path("/dev/stdout" if to_stdout else arguments.output)
    unit = arguments.level == "unit"
    if unit and (arguments.case or arguments.punctuation):
        raise UsageError("--case and --punctuation are for words; leave them out, or --level unit")
    for text in arguments.texts:
        if text != STDIN and is_same_file(target, text):
            raise UsageError(f"{text!r} is a text; choose another output")

    from edge_asr.fusion.arpa import ngram_lines
    from edge_asr.fusion.ngram_estimate import estimate

    words = str.split if unit else word_splitter(arguments.case, arguments.punctuation)
    left_out: Counter[str] | None = None if unit or arguments.punctuation == "keep" else Counter()
    sentences = (
        sentence
        for text in arguments.texts
        for line in _lines(text)
        for sentence in sentences_of(line, words, left_out)
    )
    ngrams = estimate(sentences, arguments.order, arguments.min_counts)
    with open_output(target) as put:
        for line in ngram_lines(ngrams):
            put(line)
    counts = [len(order.words) for order in ngrams.orders]
    listed = "".join(f", {count} {length}-grams" for length, count in enumerate(counts[1:], 2))
    # Three of the words are marks.
    summary = f"{len(ngrams.words) - 3} {arguments.level}s{listed} in {arguments.output!r}"
    (complain if to_stdout else print)(summary)
    if left_out:
        named = ", ".join(mark for mark, _ in left_out.most_common(_MARKS_NAMED))
        complain(f"left out as no words: {left_out.total()} marks, such as {named}")
    return 0


def _min_counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, as 1,1,2") from None


def word_splitter(
    case: str | None = None, punctuation: str | None = None
) -> Callable[[str], list[str]]:
    """What splits a line into words, as the options of that name say."""
    fold = _CASES[case or "upper"]
    characters = _Characters(strip=punctuation != "keep")
    ends = "'" if characters.strip else ""

    def split(line: str) -> list[str]:
        pieces = fold(unicodedata.normalize("NFC", line)).translate(characters).split()
        return [word for piece in pieces if (word := piece.strip(ends) if ends else piece)]

    return split


def sentences_of(
    line: str, words: Callable[[str], list[str]], left_out: Counter[str] | None = None
) -> Iterator[list[str]]:
    """The words of each sentence of a line: it may hold several where they are marked, some of
    them empty. ``<unk>`` is a word.

    Args:
        words: splits what has no marks.
        left_out: counts other marks, which are no words then; None takes them as they are.
    """
    from edge_asr.fusion.arpa import UNKNOWN  # numpy, which --help need not wait for

    if left_out is not None:
        line = _without_marks(line, left_out)
    for sentence in _SENTENCE_MARK.split(line):
        known, *later = map(words, _UNKNOWN_MARK.split(sentence))
        yield [*known, *(word for more in later for word in (UNKNOWN, *more))]


def _without_marks(line: str, left_out: Counter[str]) -> str:
    text, bracket, last = line.rstrip().rpartition("(")
    found = []
    if _UTTERANCE_ID.fullmatch(bracket + last):
        found.append(bracket + last)
        line = text
    found += _OTHER_MARK.findall(line)
    for mark in found:
        is_kept = mark in left_out or len(left_out) < _MAX_MARKS
        left_out[mark if is_kept else _MORE_MARKS] += 1
    return _OTHER_MARK.sub(" ", line)


class _Characters(dict[int, str]):
    """What each character becomes, found out when it comes first."""

    def __init__(self, *, strip: bool) -> None:
        super().__init__()
        self.strip = strip

    def __missing__(self, code: int) -> str:
        from edge_asr.package.units import SPACE, is_unspaced

        char = chr(code)
        if char == SPACE:
            becomes = " "
        elif is_unspaced(char):
            becomes = f" {char} "
        elif not self.strip or unicodedata.category(char)[0] in "LMN":
            becomes = char
        else:
            becomes = "'" if char in _APOSTROPHES else " "
        self[code] = becomes
        return becomes


def _lines(name: str) -> Iterator[str]:
    """The lines of a text, as they are needed."""
    where = repr(name)
    try:
        with _open(name) as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES):
                number += 1
                if len(line) == _MAX_LINE_BYTES:
                    raise UsageError(
                        f"{where} line {number}: {_MAX_LINE_BYTES} bytes or more; give text with "
                        "one sentence per line"
                    )
                yield line.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} line {number}: not UTF-8 text; convert it, e.g. with iconv"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a zero in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"{where}: {reason}; give the path of a text file") from error


def _open(name: str) -> BinaryIO:
    if name != STDIN:
        return open(name, "rb")
    if sys.stdin is None:
        raise InputMissingError("standard input is closed; give the path of a text file")
    return open(sys.stdin.fileno(), "rb", closefd=False)
