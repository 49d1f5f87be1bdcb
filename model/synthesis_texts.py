"""What synthetic voices say: sentences of books and people, or strings as in a small vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_asr.errors import InputMissingError

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "OH")
TEENS = (
    "TEN", "ELEVEN", "TWELVE", "THIRTEEN", "FOURTEEN", "FIFTEEN", "SIXTEEN", "SEVENTEEN",
    "EIGHTEEN", "NINETEEN",
)  # fmt: skip
TENS = ("TWENTY", "THIRTY", "FORTY", "FIFTY", "SIXTY", "SEVENTY", "EIGHTY", "NINETY")
MONTHS = (
    "JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE", "JULY", "AUGUST", "SEPTEMBER",
    "OCTOBER", "NOVEMBER", "DECEMBER",
)  # fmt: skip
ORDINALS = (
    "FIRST", "SECOND", "THIRD", "FOURTH", "FIFTH", "SIXTH", "SEVENTH", "EIGHTH", "NINTH", "TENTH",
    "ELEVENTH", "TWELFTH", "THIRTEENTH", "FOURTEENTH", "FIFTEENTH", "SIXTEENTH", "SEVENTEENTH",
    "EIGHTEENTH", "NINETEENTH", "TWENTIETH", "THIRTIETH",
)  # fmt: skip
# Of the census task (an4), and of Speech Commands; the first ten of these are said most.
CENSUS = ("ENTER", "ERASE", "RUBOUT", "REPEAT", "HELP", "START", "STOP", "GO", "YES", "NO")
COMMANDS = (
    "YES", "NO", "UP", "DOWN", "LEFT", "RIGHT", "ON", "OFF", "STOP", "GO",
    "BACKWARD", "BED", "BIRD", "CAT", "DOG", "FOLLOW", "FORWARD", "HAPPY", "HOUSE", "LEARN",
    "MARVIN", "SHEILA", "TREE", "VISUAL", "WOW",
)  # fmt: skip

_NOT_SPOKEN = re.compile(r"[^A-Z' ]")
_MAX_WORDS = 16
_TELLING_WORDS = 4  # shorter texts are phrases that anybody says


def read_lines(path: Path) -> list[str]:
    """The lines of a file; InputMissingError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputMissingError(f"{path}: cannot be read ({error})") from error


def plain(text: str) -> str:
    """Upper case words without punctuation; empty if the text holds digits or other scripts."""
    if re.search(r"[^\x00-\x7f]|\d", text):
        return ""
    words = _NOT_SPOKEN.sub(" ", text.upper().replace("-", " ")).split()
    return " ".join(word for word in (word.strip("'") for word in words) if word)


def mentions(excluded: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text is one of ``excluded``, or says one of ``_TELLING_WORDS`` or more within."""
    whole = set(excluded)
    begins: dict[tuple[str, ...], list[list[str]]] = {}
    for words in map(str.split, whole):
        if len(words) >= _TELLING_WORDS:
            begins.setdefault(tuple(words[:_TELLING_WORDS]), []).append(words)

    def check(text: str) -> bool:
        words = text.split()
        return text in whole or any(
            words[place : place + len(other)] == other
            for place in range(len(words) - _TELLING_WORDS + 1)
            for other in begins.get(tuple(words[place : place + _TELLING_WORDS]), ())
        )

    return check


def sentences(
    lines: Sequence[str], excluded: Collection[str], rng: np.random.Generator
) -> Iterator[str]:
    """Endless pieces of 3 to 16 words of random lines; none that ``mentions`` an excluded text.

    Raises:
        InputMissingError: no line is left.
    """
    never = mentions(excluded)
    texts = [text for text in map(plain, lines) if len(text.split()) > 2 and not never(text)]
    if not texts:
        raise InputMissingError("sentences: no line of three words is left; name other --text")
    while True:
        words = texts[int(rng.integers(len(texts)))].split()
        size = int(rng.integers(3, _MAX_WORDS + 1))
        begin = int(rng.integers(max(1, len(words) - size + 1)))
        piece = " ".join(words[begin : begin + size])
        if not never(piece):
            yield piece


def _spelled(rng: np.random.Generator, low: int, high: int) -> list[str]:
    return rng.choice(LETTERS, int(rng.integers(low, high + 1))).tolist()


def _digits(rng: np.random.Generator, low: int, high: int) -> list[str]:
    return rng.choice(DIGITS, int(rng.integers(low, high + 1))).tolist()


def _number(rng: np.random.Generator) -> list[str]:
    """A number below a hundred thousand, as people say it."""
    value = rng.random()
    two = [str(rng.choice(TENS))] + ([str(rng.choice(DIGITS[1:10]))] if rng.random() < 0.7 else [])
    if value < 0.25:
        return [str(rng.choice(TEENS))]
    if value < 0.75:
        return two
    scale = "HUNDRED" if value < 0.88 else "THOUSAND"
    joint = ["AND"] if rng.random() < 0.2 else []
    return [str(rng.choice(DIGITS[1:10])), scale, *(joint + two if rng.random() < 0.6 else [])]


def _date(rng: np.random.Generator) -> list[str]:
    day = [str(rng.choice(ORDINALS))]
    if rng.random() < 0.2:
        day = [str(rng.choice(TENS[:2])), str(rng.choice(ORDINALS[:9]))]
    year = ["NINETEEN", *_number(rng)][:3] if rng.random() < 0.6 else []
    return [str(rng.choice(MONTHS)), *day, *year]


def _census(rng: np.random.Generator) -> list[str]:
    return [str(rng.choice(CENSUS[:3])), *_spelled(rng, 0, 5), *_number(rng)]


_PATTERNS: tuple[tuple[float, Callable[[np.random.Generator], list[str]]], ...] = (
    (0.12, lambda rng: _spelled(rng, 1, 1)),
    (0.10, lambda rng: _digits(rng, 1, 1)),
    (0.18, lambda rng: _spelled(rng, 2, 8)),
    (0.18, lambda rng: _digits(rng, 2, 8)),
    (0.10, lambda rng: _number(rng) + _number(rng)),
    (0.06, _date),
    (0.10, _census),
    (0.05, lambda rng: [str(rng.choice(CENSUS))]),
    (0.25, lambda rng: rng.choice(COMMANDS, int(rng.integers(1, 4))).tolist()),
)


def strings(rng: np.random.Generator) -> Iterator[str]:
    """Endless strings of letters, digits, numbers, dates and command words."""
    weights = np.array([weight for weight, _ in _PATTERNS])
    while True:
        pattern = _PATTERNS[int(rng.choice(len(_PATTERNS), p=weights / weights.sum()))][1]
        yield " ".join(pattern(rng))
