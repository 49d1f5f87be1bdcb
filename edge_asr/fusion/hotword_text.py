"""Phrases of hotwords as text: read from a file, checked, and as a model would write them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from numbers import Real

from edge_asr.errors import UsageError, shown
from edge_asr.package.units import SPACE, Units, is_unspaced

DEFAULT_BONUS = 1.5  # per unit, in nats: what the log-probability of a unit gains
MAX_BONUS = 20.0
MAX_PHRASES = 10_000
MAX_PHRASE_CHARS = 100
MAX_CHARS = 1 << 20  # of all phrases: about 100 bytes each

Phrase = str | tuple[str, float]
Phrases = Sequence[Phrase] | Mapping[str, float]


def parse_hotwords(text: str, where: str) -> list[Phrase]:
    """Phrases of a text with one per line, each alone or with a tab and its bonus per unit.

    Blank lines and lines that begin with "#" are passed over.

    Raises:
        UsageError: too many phrases, or a line that is none; it names the line.
    """
    phrases: list[Phrase] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        here = f"{where} line {number}"
        if len(phrases) == MAX_PHRASES:
            raise UsageError(f"{here}: more than {MAX_PHRASES} hotwords; give fewer")
        phrase, tab, bonus = line.removesuffix("\r").partition("\t")
        _check_phrase(phrase, here)
        if not tab:
            phrases.append(phrase)
            continue
        try:
            value = float(bonus)
        except ValueError:
            raise UsageError(
                f"{here}: the bonus is {bonus[:80]!r}, no number; expected PHRASE or PHRASE, one "
                "tab, BONUS"
            ) from None
        _check_bonus(value, here)
        phrases.append((phrase, value))
    return phrases


def listed_phrases(phrases: Iterable[Phrase] | Mapping[str, float] | None) -> list[Phrase]:
    """Phrases as a list, those of a mapping with their bonuses. None is no phrase.

    Raises:
        UsageError: no phrases, but one text or something else; more than ``MAX_PHRASES``.
    """
    if isinstance(phrases, str):
        raise UsageError(f"hotwords: {phrases[:80]!r} is one text; give a list of phrases")
    if isinstance(phrases, Mapping):
        phrases = phrases.items()
    try:
        if isinstance(phrases, bytes | bytearray | memoryview):
            raise TypeError("a row of numbers to Python")
        listed = list(islice(() if phrases is None else phrases, MAX_PHRASES + 1))
    except TypeError as error:
        raise UsageError(f"hotwords are {shown(phrases)}; give a list of phrases") from error
    if len(listed) > MAX_PHRASES:
        raise UsageError(f"hotwords: more than {MAX_PHRASES} phrases; give fewer")
    return listed


def bonuses_of(phrases: Iterable[Phrase] | Mapping[str, float], bonus: float) -> dict[str, float]:
    """Phrases in their order with the bonus of each.

    Raises:
        UsageError: see ``listed_phrases``; a phrase that is empty or too long or no text, a bonus
            that is no number or out of range.
    """
    _check_bonus(bonus, "hotwords", "hotword_bonus")
    bonuses: dict[str, float] = {}
    for number, entry in enumerate(listed_phrases(phrases), start=1):
        phrase, own_bonus = (entry, bonus) if isinstance(entry, str) else _pair(entry, number)
        _check_phrase(phrase, f"hotword {number}")
        _check_bonus(own_bonus, f"hotword {number}", "hotwords")
        bonuses[phrase] = max(own_bonus, bonuses.get(phrase, 0))
    return bonuses


def _pair(entry: object, number: int) -> tuple[str, float]:
    """A phrase with a bonus of its own."""
    match entry:
        case (str() as phrase, Real() as bonus) if not isinstance(bonus, bool):
            return phrase, float(bonus)
    raise UsageError(
        f"hotword {number} is {shown(entry)}; allowed are phrases, and pairs of a phrase and its "
        "bonus"
    )


def _check_phrase(phrase: str, where: str) -> None:
    if not phrase.replace(SPACE, " ").strip():
        raise UsageError(f"{where}: the phrase is empty; give one word or more")
    if len(phrase) > MAX_PHRASE_CHARS:
        raise UsageError(
            f"{where}: {phrase[:40]!r}... has {len(phrase)} characters; allowed are "
            f"{MAX_PHRASE_CHARS}"
        )


def _check_bonus(bonus: float, where: str, field: str = "") -> None:
    """``field`` is the setting that it is of, where that is no file."""
    is_number = isinstance(bonus, Real) and not isinstance(bonus, bool)
    if not (is_number and 0 < bonus <= MAX_BONUS):  # NaN is refused too
        allowed = f"more than 0, up to {MAX_BONUS:g}"
        given = f"{bonus:g}" if is_number else shown(bonus)
        message = f"{where}: a bonus per unit of {given}; allowed is {allowed}"
        raise UsageError(message, field=field, value=bonus, allowed=allowed)


def as_written(phrases: Iterable[str], units: Units) -> list[tuple[str, ...]]:
    """The words of each phrase as a model with ``units`` would write them."""
    composed = all(unicodedata.is_normalized("NFC", symbol) for symbol in units.symbols)
    written = []
    for phrase in phrases:
        text = unicodedata.normalize("NFC", phrase) if composed else phrase
        written.append(tuple(units.fold_case(text).replace(SPACE, " ").split()))
    return written


def texts_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """The texts that count as ``words``, "▁" for a space.

    Beside a sign that begins a word by itself, models write a space or not: one text is without
    all of those, one with them, but never before the first sign, where it would change nothing.
    """
    plain, spaced = "", ""
    for word in words:
        if word.isascii():
            plain, spaced = f"{plain}{SPACE}{word}", f"{spaced}{SPACE}{word}"
            continue
        signs = [is_unspaced(char) for char in word]
        for index, char in enumerate(word):
            begins = index == 0 and not signs[0]
            meets = index == 0 or signs[index] != signs[index - 1]
            plain += SPACE * begins + char
            spaced += SPACE * (begins or (meets and spaced != "")) + char
    return (plain,) if plain == spaced else (plain, spaced)
